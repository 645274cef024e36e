"""What the figures must reach: the targets of the issues, by the names their ratios and rows have."""

from __future__ import annotations

import operator
from collections.abc import Callable

import msgspec

from bench.loads import Load
from bench.rows import Report


class Target(msgspec.Struct, frozen=True):
    """`name` must be at most, or at least, `limit`."""

    name: str
    sense: str  # "<=", ">=" or "<"
    limit: float
    unit: str
    value_of: Callable[[Report], float | None]

    def verdict(self, report: Report) -> bool | None:
        """Whether `report` meets it; None if it was not measured."""
        compare = {"<=": operator.le, ">=": operator.ge, "<": operator.lt}[self.sense]
        value = self.value_of(report)
        return None if value is None else bool(compare(value, self.limit))


def _ratio(name: str, sense: str, limit: float, unit: str = "×") -> Target:
    return Target(name, sense, limit, unit, lambda report: report.ratios.get(name))


def _p50(name: str, limit: float, **labels: str) -> Target:
    def value_of(report: Report) -> float | None:
        row = report.find(name, **labels)
        return None if row is None else row.p50_us

    transport = labels.get("transport", "flipcall")
    title = f"{name} p50" if transport == "flipcall" else f"{name} p50 ({transport})"
    return Target(title, "<=", limit, " µs", value_of)


TARGETS: dict[str, list[Target]] = {
    "sendrecv": [
        _ratio("c_spin_over_cacheline", "<=", 2.0),
        _ratio("c_futex_over_bare", "<=", 1.1),
        _p50("python_spin", 1.0, placement="two-cpus", load="back-to-back"),
        _ratio("futex_over_notify", ">=", 6.0),
        _ratio("notify_over_bare", "<=", 1.4),
        _ratio("futex_over_same_cpu", ">=", 6.0),
        _ratio("paced_socket_over_best", ">=", 1.4),
        _ratio("paced1ms_p99_futex_over_best", ">=", 3.0),
        *(_ratio(f"balanced_over_best_{load.key}", "<=", 1.3) for load in Load),
        _ratio("balanced_over_futex_busy", "<=", 1.1),
    ],
    "call": [
        _p50("typed", 2.5, transport="flipcall", load="back-to-back", placement="free", policy="balanced"),
        _p50("typed", 4.0, transport="flipcall-asyncio", load="back-to-back"),
        _ratio("typed_socket_over_flipcall", ">=", 16.0),
        _ratio("typed_grpc_over_flipcall", ">=", 150.0),
        _ratio("typed_iceoryx2_over_flipcall", ">=", 4.0),
        _ratio("typed_busy_ring_over_flipcall", ">=", 1.6),
        _ratio("typed_vllm_ring_over_flipcall", ">=", 1.6),
        _ratio("clients_8_calls_per_s", ">=", 200_000.0, "/s"),
        _ratio("paced_flipcall_over_socket", "<=", 0.6),
        _ratio("echo_1mib_over_memcpy", "<=", 2.5),
        _ratio("download_1mib_view_over_memcpy", "<=", 1.5),
        _ratio("echo_64kib_socket_over_flipcall", ">=", 6.0),
        _ratio("echo_1mib_busy_ring_over_flipcall", ">=", 1.0),
        _ratio("stream_items_per_s", ">=", 400_000.0, "/s"),
        _ratio("stream_item_over_call", "<=", 1.0),
        _ratio("workers_2_over_1", ">=", 1.7),
        _ratio("idle_server_cpu_percent", "<", 0.5, " %"),
        _ratio("idle_1000_clients_rss_mib", "<=", 150.0, " MiB"),
        _ratio("idle_1000_clients_cpu_percent", "<", 1.0, " %"),
        _ratio("call_among_1000_over_single", "<=", 2.0),
    ],
    "gofer": [
        _p50("open_close", 20.0, transport="flipcall"),
        _ratio("open_socket_over_flipcall", ">=", 5.0),
        _ratio("stat_socket_over_flipcall", ">=", 8.0),
        _ratio("getdents_10000_over_scandir", "<=", 3.0),
        _ratio("read_1mib_over_pread_bandwidth", ">=", 0.6),
        _ratio("donated_read_over_pread_bandwidth", ">=", 0.95),
        _ratio("fuse_git_status_over_passthrough", "<=", 1.5),
        _ratio("fuse_tar_over_passthrough", "<=", 1.5),
    ],
}
