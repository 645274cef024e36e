"""The ratios of the `sendrecv` family, by the names the issues give them.

Between switches, and between a switch and its bare primitive, C is compared with C, so that a ratio says what the
hand-over costs and not what Python adds; the same from Python stands beside it (python_...). Policies are the
library's, so they are compared from Python. Not pinned, unless the name says so.

Paced calls are compared among the switches that sleep, which can be no better than waking the other side is bad on
the day. A peer that spins through the pauses, at the price of its CPU, counts in `..._spinning`, without a target.

Spinning is compared by its mean over unstamped calls: a clock reading would be a third of what is measured.
Sleeping is compared by its median, which a call that lost its CPU does not move.
"""

from __future__ import annotations

from bench.loads import Load
from bench.placement import Placement
from bench.rows import Row, find_row, ratio

FREE, SAME_CPU = Placement.FREE, Placement.SAME_CPU
SWITCHES = ("futex", "notify", "swap", "same_cpu")  # those that sleep while they wait


class Figures:
    """The rows, looked up by case, load and placement."""

    def __init__(self, rows: list[Row]) -> None:
        self._rows = rows

    def over(
        self,
        case: str,
        under: str,
        figure: str = "p50_us",
        load: Load = Load.BACK_TO_BACK,
        placement: Placement = FREE,
    ) -> float | None:
        """`case`'s figure divided by `under`'s; None if either was not measured."""
        return ratio(self.row(case, load, placement), self.row(under, load, placement), figure)

    def over_best(self, case: str, others: list[str], figure: str, load: Load) -> float | None:
        """`case`'s figure divided by the least of `others`'; of those that were measured."""
        rows = [row for other in others if (row := self.row(other, load, FREE)) is not None]
        measured = [row for row in rows if getattr(row, figure) is not None]
        best = min(measured, key=lambda row: float(getattr(row, figure)), default=None)
        return ratio(self.row(case, load, FREE), best, figure)

    def row(self, case: str, load: Load, placement: Placement) -> Row | None:
        """same_cpu is a placement of its own, among those that are not pinned."""
        where = SAME_CPU if case.endswith("same_cpu") and placement is FREE else placement
        return find_row(self._rows, case, load=load.value, placement=where.value)


def sendrecv_ratios(rows: list[Row]) -> dict[str, float | None]:
    """All of them; None for what was not measured."""
    figures = Figures(rows)
    return {**_costs(figures), **_switches(figures), **_policies(figures)}


def _costs(figures: Figures) -> dict[str, float | None]:
    """What the library adds to a primitive.

    Unpinned, the scheduler puts both sides on one CPU or on two, run by run, and a ratio says which it chose
    rather than what was added: hence c_futex_over_bare is the worse of the two pinned ones.
    """
    pinned = {
        placement: figures.over("c_futex", "bare_futex", placement=placement)
        for placement in (Placement.ONE_CPU, Placement.TWO_CPUS)
    }
    two = Placement.TWO_CPUS
    return {
        "c_spin_over_cacheline": figures.over("c_spin", "cacheline", "mean_us", placement=two),
        "c_futex_over_bare": max((value for value in pinned.values() if value is not None), default=None),
        "c_futex_over_bare_one_cpu": pinned[Placement.ONE_CPU],
        "c_futex_over_bare_two_cpus": pinned[two],
        "c_futex_over_bare_free": figures.over("c_futex", "bare_futex"),
        "notify_over_bare": figures.over("c_notify", "bare_notify"),
        "python_spin_over_c_spin": figures.over("python_spin", "c_spin", "mean_us", placement=two),
    }


def _switches(figures: Figures) -> dict[str, float | None]:
    """What another switch, or one CPU for both, saves."""
    found: dict[str, float | None] = {}
    for prefix, case in (("", "c"), ("python_", "python")):
        every = [f"{case}_{switch}" for switch in SWITCHES]
        found[f"{prefix}futex_over_notify"] = figures.over(f"{case}_futex", f"{case}_notify")
        found[f"{prefix}futex_over_same_cpu"] = figures.over(f"{case}_futex", f"{case}_same_cpu")
        if case == "c":  # the peer is in C as well
            found["paced_socket_over_best"] = figures.over_best(
                "bare_socket", every, "p50_us", Load.PACED_10MS
            )
        for suffix, ways in (("", every), ("_spinning", [f"{case}_spin", *every])):
            found[f"{prefix}paced1ms_p99_futex_over_best{suffix}"] = figures.over_best(
                f"{case}_futex", ways, "p99_us", Load.PACED_1MS
            )
    return found


def _policies(figures: Figures) -> dict[str, float | None]:
    """What adapting costs beside knowing: balanced over the better of always spinning and never spinning.

    In latency where calls are all there is; in CPU time where they are few. Beside other work a run has a p50 of
    1 µs or of 7, as the scheduler had the sides on two CPUs or on one most of the time, and a median of these says
    which happened in more than half of the runs: there the runs' means are compared, the p50s stand beside them.
    """
    found: dict[str, float | None] = {}
    fixed = ["python_spin", "python_futex"]
    for load in Load:
        figure = "cpu_us_per_call" if load.pause_us else "mean_us" if load is Load.BUSY else "p50_us"
        found[f"balanced_over_best_{load.key}"] = figures.over_best("python_balanced", fixed, figure, load)
    found["balanced_over_best_busy_p50"] = figures.over_best("python_balanced", fixed, "p50_us", Load.BUSY)
    for name, figure in (("", "mean_us"), ("_p50", "p50_us")):
        found[f"balanced_over_futex_busy{name}"] = figures.over(
            "python_balanced", "python_futex", figure, Load.BUSY
        )
    return found
