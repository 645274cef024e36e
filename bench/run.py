"""Opening the contenders of one comparison, measuring them in alternation, closing them whatever happens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack

import msgspec

from bench.measure import Contender, Effort, measure
from bench.placement import UnavailableError
from bench.rows import Labels, Row

Progress = Callable[[str], None]


class Case(msgspec.Struct, frozen=True):
    """One contender to be: what it will be called, and how to open it.

    `open` raises UnavailableError when this machine cannot run it: the row then carries the reason, no
    figures. `note` is a remark that the row carries with its figures.
    """

    labels: Labels
    open: Callable[[], AbstractContextManager[Contender]]
    note: str | None = None


def measure_group(cases: Sequence[Case], effort: Effort, progress: Progress) -> list[Row]:
    """One row for each of `cases` that is wanted, in their order; what can run is measured in alternation."""
    rows: dict[int, Row] = {}
    opened: list[tuple[int, Contender]] = []
    cases = [case for case in cases if effort.wanted(case.labels)]
    with ExitStack() as stack:
        for index, case in enumerate(cases):
            progress(f"opening {case.labels}")
            try:
                opened.append((index, stack.enter_context(case.open())))
            except UnavailableError as error:
                rows[index] = Row.labelled(case.labels, note=str(error))
        measured = measure(
            [contender for _, contender in opened],
            effort,
            lambda run, labels: progress(f"{labels}: run {run + 1} of {effort.runs}"),
        )
    for (index, _), row in zip(opened, measured, strict=True):
        rows[index] = msgspec.structs.replace(row, note=cases[index].note)
    return [rows[index] for index in range(len(cases))]
