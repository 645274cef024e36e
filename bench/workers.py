"""Two clients on a server with two workers, beside one client on one worker.

Four processes that all want to run need four CPUs. With fewer the rows are measured all the same, and say so, but
the target's ratio is not taken: it would tell how the scheduler shares the CPUs, not what a second worker brings.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import msgspec

from bench.crowd import Crowd, load_of
from bench.echo import ITEM
from bench.measure import Effort
from bench.placement import Placement
from bench.policies import switch_of
from bench.rows import Labels, Row, find_row, ratio
from bench.run import Case, Progress, measure_group

COUNTS = (1, 2)
CPUS = 2 * max(COUNTS)


def measure_part(
    effort: Effort, progress: Progress, directory: Path
) -> tuple[list[Row], dict[str, float | None]]:
    """The rows and ratios of workers; one comparison."""
    rows = measure_group([_case(count, directory) for count in COUNTS], effort, progress)
    return rows, ratios(rows, len(os.sched_getaffinity(0)))


def ratios(rows: list[Row], cpus: int) -> dict[str, float | None]:
    """Calls per second of two clients and two workers, by those of one and one."""
    one, two = (find_row(rows, "workers", load=load_of(count)) for count in COUNTS)
    found = ratio(two, one, "calls_per_s")
    enough = cpus >= CPUS
    return {
        "workers_2_over_1": found if enough else None,
        "workers_2_over_1_too_few_cpus": None if enough else found,
    }


def _case(count: int, directory: Path) -> Case:
    labels = Labels(
        case="workers",
        transport="flipcall",
        switch=switch_of("balanced", Placement.FREE),
        policy="balanced",
        load=load_of(count),
        size=len(msgspec.msgpack.encode(ITEM)),
    )
    cpus = len(os.sched_getaffinity(0))
    note = f"{count} clients, {count} workers"
    if cpus < 2 * count:
        note += f", {cpus} CPUs: not one for each side"
    return Case(labels, partial(Crowd, labels, directory, count, count), note=note)
