"""The named ratios, computed from rows made up for the purpose."""

from __future__ import annotations

import pytest

from bench.loads import Load
from bench.ratios import sendrecv_ratios
from bench.rows import Labels, Row


def row(case: str, load: Load = Load.BACK_TO_BACK, placement: str = "free", **figures: float) -> Row:
    """A measured row."""
    return Row.labelled(Labels(case=case, load=load.value, placement=placement), runs=1, **figures)


def absent(case: str, load: Load = Load.BACK_TO_BACK) -> Row:
    """A row of something this machine has not."""
    return Row.labelled(Labels(case=case, load=load.value), note="not here")


def test_switches_are_compared_in_c_and_not_pinned() -> None:
    """Pinned rows, which come first, and Python's are not taken for them; same-cpu is its own placement."""
    found = sendrecv_ratios(
        [
            row("c_futex", placement="two-cpus", p50_us=1000.0),
            row("c_futex", p50_us=50.0),
            row("c_notify", p50_us=5.0),
            row("bare_notify", p50_us=4.0),
            row("c_same_cpu", placement="same-cpu", p50_us=10.0),
            row("python_futex", p50_us=60.0),
            row("python_notify", p50_us=6.0),
        ]
    )
    assert found["futex_over_notify"] == 10.0
    assert found["notify_over_bare"] == 1.25
    assert found["futex_over_same_cpu"] == 5.0
    assert found["python_futex_over_notify"] == 10.0
    assert found["python_futex_over_same_cpu"] is None


def test_the_best_is_the_least_of_those_that_ran() -> None:
    """A switch this kernel has not is passed over; with nothing but the futex, it is the best."""
    paced = [
        row("bare_socket", Load.PACED_10MS, p50_us=44.0),
        row("c_futex", Load.PACED_10MS, p50_us=22.0),
        absent("c_swap", Load.PACED_10MS),
    ]
    assert sendrecv_ratios(paced)["paced_socket_over_best"] == 2.0
    paced.append(row("c_same_cpu", Load.PACED_10MS, "same-cpu", p50_us=11.0))
    assert sendrecv_ratios(paced)["paced_socket_over_best"] == 4.0


def test_the_paced_tail_is_compared_by_p99() -> None:
    """Its best switch need not be the best by p50."""
    sleeping = [
        row("c_futex", Load.PACED_1MS, p50_us=8.0, p99_us=90.0),
        row("c_notify", Load.PACED_1MS, p50_us=9.0, p99_us=18.0),
    ]
    assert sendrecv_ratios(sleeping)["paced1ms_p99_futex_over_best"] == 5.0
    found = sendrecv_ratios([*sleeping, row("c_spin", Load.PACED_1MS, p50_us=0.5, p99_us=2.0)])
    assert found["paced1ms_p99_futex_over_best_spinning"] == 45.0
    assert found["paced1ms_p99_futex_over_best"] == 5.0


@pytest.mark.parametrize("load", Load)
def test_balanced_is_held_against_the_better_fixed_policy(load: Load) -> None:
    """By latency where calls are all there is, by CPU time where they are few, by the mean beside other work."""
    found = sendrecv_ratios(
        [
            row("python_balanced", load, p50_us=6.0, cpu_us_per_call=12.0, mean_us=4.0),
            row("python_spin", load, p50_us=3.0, cpu_us_per_call=40.0, mean_us=5.0),
            row("python_futex", load, p50_us=30.0, cpu_us_per_call=10.0, mean_us=16.0),
        ]
    )
    busy = load is Load.BUSY
    assert found[f"balanced_over_best_{load.key}"] == (1.2 if load.pause_us else 0.8 if busy else 2.0)
    assert found["balanced_over_futex_busy"] == (0.25 if busy else None)
    assert found["balanced_over_futex_busy_p50"] == (0.2 if busy else None)
    assert found["balanced_over_best_busy_p50"] == (2.0 if busy else None)


def test_nothing_measured_is_every_ratio_null() -> None:
    """The names are there all the same."""
    found = sendrecv_ratios([])
    assert set(found.values()) == {None}
    assert {"futex_over_notify", "balanced_over_best_idle"} & set(found) == {"futex_over_notify"}
