"""Empty datagrams: the seed's BenchmarkSendRecv, in C and in Python, beside the bare primitives."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from bench.bare import BareProgram, build_cacheline, build_core, build_futex
from bench.measure import Contender, Effort, Sample, sample_calls
from bench.peer import EndpointConfig
from bench.placement import Placement, pinned
from bench.policies import making_cpu, policy_named, switch_of
from bench.process import START_SECONDS, PeerProcess
from bench.rows import Labels, Row, find_row, ratio
from bench.run import Case, Progress, measure_group

if TYPE_CHECKING:
    from flipcall.lowlevel import Endpoint

WINDOW_LENGTH = 65536

# First the two CPUs the targets speak of, so that the first row of a case is the one a target is about.
SPIN_PLACEMENTS = (Placement.TWO_CPUS, Placement.FREE)
SLEEP_PLACEMENTS = (Placement.TWO_CPUS, Placement.ONE_CPU, Placement.FREE)


class PythonPair:
    """Endpoint.send_recv(0) from this process to a child."""

    def __init__(self, labels: Labels, placement: Placement) -> None:
        self.labels = labels
        self._client_cpu, server_cpu = placement.cpus
        with ExitStack() as stack, pinned(making_cpu(placement)):
            self._endpoint, self._peer = self._connect(stack, placement, server_cpu)
            self._open = stack.pop_all()

    def _connect(self, stack: ExitStack, placement: Placement, cpu: int) -> tuple[Endpoint, PeerProcess]:
        from flipcall.lowlevel import Endpoint, Liveness, MemfdAllocator, Side

        assert self.labels.policy is not None
        window = MemfdAllocator().allocate(WINDOW_LENGTH)
        stack.callback(window.close)
        config = EndpointConfig(
            fd=window.fd,
            length=window.length,
            policy=self.labels.policy,
            cpu=cpu,
            shares_cpu=placement is Placement.ONE_CPU,
        )
        peer = stack.enter_context(PeerProcess(config, pass_fds=[window.fd]))
        policy = policy_named(self.labels.policy)
        endpoint = Endpoint(window, Side.CLIENT, peer=Liveness(pid=peer.pid), policy=policy)
        stack.enter_context(endpoint)
        endpoint.connect(deadline_ns=time.monotonic_ns() + int(START_SECONDS * 1e9))
        return endpoint, peer

    def run(self, effort: Effort) -> Sample:
        """One run, with this thread on the placement's CPU."""
        with pinned(self._client_cpu):
            return sample_calls(partial(self._endpoint.send_recv, 0), effort.seconds, self._peer.cpu_times)

    def __enter__(self) -> PythonPair:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._open.close()


def measure_family(effort: Effort, progress: Progress) -> tuple[list[Row], dict[str, float | None]]:
    """All rows and ratios of the family. Each placement, spinning or sleeping, is one comparison."""
    progress("compiling the C programs")
    cacheline, futex, core = build_cacheline(), build_futex(), build_core()
    rows: list[Row] = []
    for placement in SPIN_PLACEMENTS:
        cases = [
            _bare_case("cacheline", "bare", "spin", placement, cacheline),
            _bare_case("c_spin", "flipcall", "spin", placement, core, "spin"),
            _python_case("python_spin", "latency", placement),
        ]
        rows += measure_group(cases, effort, progress)
    for placement in SLEEP_PLACEMENTS:
        cases = [
            _bare_case("bare_futex", "bare", "futex", placement, futex),
            _bare_case("c_futex", "flipcall", "futex", placement, core, "futex"),
            _python_case("python_futex", "frugal", placement),
            _python_case("python_balanced", "balanced", placement),
        ]
        rows += measure_group(cases, effort, progress)
    return rows, ratios(rows)


def ratios(rows: list[Row]) -> dict[str, float | None]:
    """The family's ratios.

    Spinning is compared by its mean over unstamped calls: a clock reading would be a third of what is
    measured. Sleeping is compared by its median, which a call that lost its CPU does not move. Unpinned,
    the scheduler puts both sides on one CPU or on two, run by run, and a ratio says which it chose rather
    than what was added: hence c_futex_over_bare is the worse of the two pinned ones, and the unpinned one
    stands beside it.
    """

    def over(case: str, under: str, placement: Placement, figure: str) -> float | None:
        of = [find_row(rows, name, placement=placement.value) for name in (case, under)]
        return ratio(of[0], of[1], figure)

    pinned_ratios = {
        placement: over("c_futex", "bare_futex", placement, "p50_us")
        for placement in (Placement.ONE_CPU, Placement.TWO_CPUS)
    }
    known = [value for value in pinned_ratios.values() if value is not None]
    return {
        "c_spin_over_cacheline": over("c_spin", "cacheline", Placement.TWO_CPUS, "mean_us"),
        "c_futex_over_bare": max(known, default=None),
        "c_futex_over_bare_one_cpu": pinned_ratios[Placement.ONE_CPU],
        "c_futex_over_bare_two_cpus": pinned_ratios[Placement.TWO_CPUS],
        "c_futex_over_bare_free": over("c_futex", "bare_futex", Placement.FREE, "p50_us"),
        "python_spin_over_c_spin": over("python_spin", "c_spin", Placement.TWO_CPUS, "mean_us"),
    }


def _bare_case(
    case: str, transport: str, switch: str, placement: Placement, program: Path, mode: str = ""
) -> Case:
    labels = Labels(case=case, transport=transport, switch=switch, placement=placement.value, size=0)

    def open_program() -> AbstractContextManager[Contender]:
        return nullcontext(BareProgram(program, labels, placement, mode))

    return Case(labels, open_program)


def _python_case(case: str, policy: str, placement: Placement) -> Case:
    labels = Labels(
        case=case,
        transport="flipcall",
        switch=switch_of(policy, placement),
        placement=placement.value,
        size=0,
        policy=policy,
    )
    return Case(labels, partial(PythonPair, labels, placement))
