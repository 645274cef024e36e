"""The arithmetic of the bench: percentiles, alternation, medians. No test looks at how long anything took."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.measure import (
    QUICK,
    CpuTimes,
    Effort,
    Sample,
    alternate,
    cpu_spent,
    measure,
    percentile,
    sample_calls,
    sample_paced,
    summarise,
)
from bench.rows import Labels

FRACTIONS = st.floats(min_value=0.001, max_value=1.0)
VALUES = st.lists(st.integers(min_value=0, max_value=10**12), min_size=1, max_size=200)


@given(VALUES, FRACTIONS)
def test_percentile_is_a_member_with_enough_values_at_or_below_it(values: list[int], fraction: float) -> None:
    """Nearest rank: the smallest member that at least that fraction of the values does not exceed."""
    ordered = sorted(values)
    found = percentile(ordered, fraction)
    need = math.ceil(fraction * len(values))
    assert found in values
    assert sum(value <= found for value in values) >= need
    assert sum(value < found for value in values) < max(need, 1)


@given(VALUES, FRACTIONS, FRACTIONS)
def test_percentile_ascends_with_the_fraction(values: list[int], one: float, other: float) -> None:
    """A higher percentile is never smaller."""
    low, high = sorted((one, other))
    assert percentile(sorted(values), low) <= percentile(sorted(values), high)


@pytest.mark.parametrize(("values", "fraction"), [([], 0.5), ([1], 0.0), ([1], 1.5)])
def test_percentile_of_nothing_is_refused(values: list[int], fraction: float) -> None:
    """No values, or a fraction outside (0, 1], is an error and not a figure."""
    with pytest.raises(ValueError, match="percentile"):
        percentile(values, fraction)


def test_everyone_has_a_first_run_before_anyone_has_a_second() -> None:
    """The order is A B C A B C, never A A B B C C."""
    assert list(alternate("ABC", 2)) == [(0, "A"), (0, "B"), (0, "C"), (1, "A"), (1, "B"), (1, "C")]


class Recorder:
    """A contender that writes down its turns, and whose n-th run takes n times `step` ns."""

    def __init__(self, name: str, turns: list[str], step: float) -> None:
        self.labels = Labels(case=name)
        self._turns = turns
        self._step = step
        self._runs = 0

    def run(self, effort: Effort) -> Sample:
        """One made-up run."""
        self._turns.append(self.labels.case)
        self._runs += 1
        took = self._step * self._runs
        return Sample(p50=took, p99=took * 2, mean=took, client_cpu=took, server_cpu=took, elapsed=took)


def test_measure_alternates_and_reports_medians_in_microseconds() -> None:
    """Two contenders take turns; each row holds the median run, its spread, and both sides' CPU time."""
    turns: list[str] = []
    heard: list[tuple[int, str]] = []
    contenders = [Recorder("A", turns, 1000.0), Recorder("B", turns, 3000.0)]
    effort = Effort(runs=3, seconds=0, paced_seconds=0, idle_seconds=0)
    a, b = measure(contenders, effort, lambda run, labels: heard.append((run, labels.case)))
    assert turns == ["A", "B"] * 3
    assert heard == [(0, "A"), (0, "B"), (1, "A"), (1, "B"), (2, "A"), (2, "B")]
    assert (a.case, a.p50_us, a.p50_min_us, a.p50_max_us, a.runs) == ("A", 2.0, 1.0, 3.0, 3)
    assert (b.p99_us, b.cpu_us_per_call, b.client_cpu_us_per_call, b.calls_per_s) == (
        12.0,
        12.0,
        6.0,
        1e6 / 6,
    )


def test_a_figure_nobody_measured_is_null() -> None:
    """A contender without a server has no server CPU time, not a zero."""
    row = summarise(Labels(case="direct"), [Sample(p50=1000.0, client_cpu=500.0)])
    assert row.p50_us == 1.0
    assert row.cpu_us_per_call == 0.5
    assert row.server_cpu_us_per_call is None
    assert row.p99_us is None
    assert row.calls_per_s is None


def test_cpu_time_is_per_call_and_absent_where_a_side_is() -> None:
    """The difference of two readings over the calls between them."""
    assert cpu_spent(CpuTimes(100, 1000), CpuTimes(300, 1500), 10) == (20.0, 50.0)
    assert cpu_spent(CpuTimes(0, None), CpuTimes(10, None), 10) == (1.0, None)


def test_a_back_to_back_run_has_every_figure() -> None:
    """Both loops ran, and what does not exist (a server) has no figure."""
    calls: list[None] = []
    sample = sample_calls(lambda: calls.append(None), QUICK.seconds, lambda: CpuTimes(0, None))
    assert sample.p50 is not None
    assert sample.p99 is not None
    assert sample.p50 <= sample.p99
    assert sample.mean is not None
    assert sample.server_cpu is None
    assert len(calls) >= 10


def test_a_paced_run_makes_exactly_its_calls() -> None:
    """One call to start with, then one after each pause; a tenth as many before, which do not count."""
    calls: list[None] = []
    sample = sample_paced(lambda: calls.append(None), 1000, 3, lambda: CpuTimes(0, 0))
    assert len(calls) == 4
    assert len(sample.stamps) == 3
    calls.clear()
    assert len(sample_paced(lambda: calls.append(None), 1, 20, lambda: CpuTimes(0, 0)).stamps) == 20
    assert len(calls) == 23
    assert sample.elapsed is not None
    assert sample.mean is not None
    assert sample.elapsed > sample.mean


def test_the_p99_of_paced_runs_is_that_of_all_their_calls() -> None:
    """Fifty runs of two calls: the hundredth call is the slow one, and the 99th percentile is not."""
    quick = Sample(p50=1000.0, p99=1000.0, stamps=(1000, 1000))
    slow = Sample(p50=1000.0, p99=9000.0, stamps=(1000, 9000))
    assert summarise(Labels(case="x"), [quick] * 49 + [slow]).p99_us == 1.0
    assert summarise(Labels(case="x"), [quick] * 48 + [slow] * 2).p99_us == 9.0


@pytest.mark.parametrize(
    ("patterns", "wanted"),
    [
        ((), True),
        (("c_futex",), True),
        (("c_*",), True),
        (("python_*", "*_futex"), True),
        (("c_futex/free/paced-*",), True),
        (("c_futex/one-cpu/*",), False),
        (("futex",), False),
    ],
)
def test_cases_are_selected_by_pattern(patterns: tuple[str, ...], wanted: bool) -> None:
    """As a shell compares: the case's name, or case/placement/load; no pattern wants everything."""
    effort = Effort(runs=1, seconds=0, paced_seconds=0, idle_seconds=0, cases=patterns)
    assert effort.wanted(Labels(case="c_futex", placement="free", load="paced-1ms")) is wanted
