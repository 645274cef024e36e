"""The rows and the report: what ``--json`` prints (design, section 9)."""

from __future__ import annotations

from typing import Any

import msgspec


class Labels(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured, before any figure: the identity of a row."""

    case: str
    # bare | flipcall | socket | direct | mount | passthrough | passthrough-loop | memcpy | a peer (bench.peers)
    transport: str | None = None
    switch: str | None = (
        None  # spin | futex | notify | swap, with the steps before it: spin+futex, yield+futex
    )
    placement: str = "free"  # free | one-cpu | two-cpus | same-cpu
    load: str = "back-to-back"  # back-to-back | paced-1ms | paced-10ms | busy | idle | N-clients
    size: int | None = None  # bytes of payload, None where there is no such thing
    policy: str | None = None  # the WaitPolicy preset of both sides, None below the library

    def __str__(self) -> str:
        parts = (self.case, self.transport, self.switch, self.policy, self.placement, self.load)
        return " ".join(part for part in parts if part)


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of one case: medians over ``runs`` runs. None where a figure does not apply.

    The first twelve keys are the design's. Those after them add the spread, who spent the CPU time, what an idle
    server costs, and a note: for a case that could not run here (``runs`` is 0), why, else a remark.
    """

    case: str
    transport: str | None
    switch: str | None
    placement: str
    load: str
    size: int | None
    p50_us: float | None = None
    p99_us: float | None = None
    mean_us: float | None = None
    cpu_us_per_call: float | None = None
    calls_per_s: float | None = None
    runs: int = 0
    policy: str | None = None
    p50_min_us: float | None = None
    p50_max_us: float | None = None
    client_cpu_us_per_call: float | None = None
    server_cpu_us_per_call: float | None = None
    note: str | None = None
    cpu_percent: float | None = None  # of one CPU, by the server
    rss_mib: float | None = None  # of the server

    @classmethod
    def labelled(cls, labels: Labels, **figures: Any) -> Row:
        """A row for `labels` with `figures`, the names of this class's fields."""
        return cls(**msgspec.structs.asdict(labels), **figures)


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Everything one command measured."""

    machine: dict[str, Any]
    rows: list[Row]
    ratios: dict[str, float | None]

    def find(self, case: str, **labels: str | int | None) -> Row | None:
        """The first row of `case` whose labels have these values, None if there is none."""
        return find_row(self.rows, case, **labels)

    def to_json(self) -> str:
        """One line of JSON."""
        return msgspec.json.encode(self).decode()


def find_row(rows: list[Row], case: str, **labels: str | int | None) -> Row | None:
    """The first row of `case` whose labels have these values, None if there is none."""
    for row in rows:
        if row.case == case and all(getattr(row, name) == value for name, value in labels.items()):
            return row
    return None


def ratio(over: Row | None, under: Row | None, figure: str = "p50_us") -> float | None:
    """`over`'s figure divided by `under`'s; None if either was not measured."""
    if over is None or under is None:
        return None
    numerator, denominator = getattr(over, figure), getattr(under, figure)
    if numerator is None or not denominator:
        return None
    return float(numerator / denominator)
