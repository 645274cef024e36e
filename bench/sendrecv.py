"""Empty datagrams: the seed's BenchmarkSendRecv. Every switch, placement and load, beside the bare primitives.

One placement is opened at a time, and measured under one load after another; each load and placement is one
comparison. The busy load comes last, because what was given up for it (real-time class, nice value) is gone.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import cache, partial
from pathlib import Path

import msgspec

from bench.bare import BareProgram, build_bare, build_core
from bench.client import ClientProcess, UnderLoad
from bench.loads import Load, around
from bench.measure import Contender, Effort
from bench.peer import ClientConfig
from bench.placement import Placement, UnavailableError
from bench.policies import FUTEX, policy_named, require_switch, switch_of
from bench.ratios import sendrecv_ratios
from bench.rows import Labels, Row
from bench.run import Case, Progress, measure_group
from flipcall.kernel import futex_swap
from flipcall.policy import waits

PLACEMENTS = (Placement.TWO_CPUS, Placement.ONE_CPU, Placement.FREE)


class Program(msgspec.Struct, frozen=True):
    """A contender in C: how to build it, and the mode it is called with."""

    case: str
    transport: str
    switch: str | None
    build: Callable[[], Path]
    mode: Callable[[], str] = str
    spins: bool = False  # without end, in pauses as well: only where each side has an idle CPU
    same_cpu: bool = False


class Endpoints(msgspec.Struct, frozen=True):
    """A contender in Python: policy and switch of both sides."""

    case: str
    policy: str
    switch: str = FUTEX
    same_cpu: bool = False


def _swap_mode() -> str:
    require_switch("swap")
    return f"swap={futex_swap().value}"


def _notify_mode() -> str:
    require_switch("notify")
    return "notify"


def _same_cpu_mode() -> str:
    return f"same-cpu={waits(policy_named('same_cpu')).yields}"


PROGRAMS = (
    Program("cacheline", "bare", "spin", partial(build_bare, "cacheline"), spins=True),
    Program("bare_futex", "bare", "futex", partial(build_bare, "futex")),
    Program("bare_notify", "bare", "notify", partial(build_bare, "notify")),
    Program("bare_socket", "socket", None, partial(build_bare, "socketpair")),
    Program("c_spin", "flipcall", "spin", build_core, lambda: "spin", spins=True),
    Program("c_futex", "flipcall", "futex", build_core, lambda: "futex"),
    Program("c_notify", "flipcall", "notify", build_core, _notify_mode),
    Program("c_swap", "flipcall", "swap", build_core, _swap_mode),
    Program("c_same_cpu", "flipcall", "yield+futex", build_core, _same_cpu_mode, same_cpu=True),
)
ENDPOINTS = (
    Endpoints("python_spin", "latency"),
    Endpoints("python_balanced", "balanced"),
    Endpoints("python_futex", "frugal"),
    Endpoints("python_notify", "frugal", "notify"),
    Endpoints("python_notify_balanced", "balanced", "notify"),
    Endpoints("python_swap", "frugal", "swap"),
    Endpoints("python_same_cpu", "same_cpu", same_cpu=True),
)


def measure_family(effort: Effort, progress: Progress) -> tuple[list[Row], dict[str, float | None]]:
    """All rows and ratios of the family."""
    rows: list[Row] = []
    for placement in PLACEMENTS:
        with ExitStack() as stack:
            opened = Opened(stack)
            for load in Load:
                cases = [case for case in cases_of(placement, load, opened) if _wanted(case.labels, effort)]
                if cases:
                    with around(load):
                        rows += measure_group(cases, _effort(effort, placement, load), progress)
    return rows, sendrecv_ratios(rows)


def _effort(effort: Effort, placement: Placement, load: Load) -> Effort:
    """More of it where a few runs decide nothing. Beside other work the scheduler has both sides on one CPU or on
    two, run by run, a sevenfold difference: what is compared is how often. A p99 is made of the slowest hundredth.
    After 10 ms a CPU is colder or less so, run by run, by half of the p50.
    """
    if placement is not Placement.FREE or not effort.thorough:
        return effort
    if load is Load.BUSY:
        return effort.more(5, share=0.5)
    return {Load.PACED_1MS: effort.more(1, paced=4), Load.PACED_10MS: effort.more(2)}.get(load, effort)


def _wanted(labels: Labels, effort: Effort) -> bool:
    """Starting Python takes most of a quick bench: of pinned endpoints it keeps the pair a target is about."""
    spared = labels.policy is not None and labels.placement in ("one-cpu", "two-cpus")
    if spared and not effort.thorough and not effort.cases and labels.case != "python_spin":
        return False
    return effort.wanted(labels)


class Opened:
    """The client processes of one placement: started when first asked for, closed with `stack`."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._found: dict[ClientConfig, ClientProcess | UnavailableError] = {}

    def client(self, config: ClientConfig) -> ClientProcess:
        """Raises UnavailableError, every time, where it could not be opened the first time."""
        if config not in self._found:
            try:
                require_switch(config.switch)
                policy_named(config.policy)
                self._found[config] = self._stack.enter_context(ClientProcess(config))
            except UnavailableError as error:
                self._found[config] = error
        found = self._found[config]
        if isinstance(found, UnavailableError):
            raise found
        return found


def cases_of(placement: Placement, load: Load, opened: Opened) -> list[Case]:
    """The contenders of one comparison. What the library places itself is among those nobody has pinned."""
    found: list[Case] = []
    for kind in (*PROGRAMS, *ENDPOINTS):
        if kind.same_cpu and placement is not Placement.FREE:
            continue
        where = Placement.SAME_CPU if kind.same_cpu else placement
        if isinstance(kind, Endpoints):
            found.append(_endpoints_case(kind, where, load, opened))
        elif not kind.spins or (load is not Load.BUSY and placement is not Placement.ONE_CPU):
            found.append(_program_case(kind, where, load))
    return found


def _program_case(kind: Program, placement: Placement, load: Load) -> Case:
    labels = Labels(
        case=kind.case,
        transport=kind.transport,
        switch=kind.switch,
        placement=placement.value,
        load=load.value,
        size=0,
    )

    def open_program() -> AbstractContextManager[Contender]:
        return nullcontext(BareProgram(_built(kind.build), labels, placement, kind.mode(), load))

    return Case(labels, open_program)


def _endpoints_case(kind: Endpoints, placement: Placement, load: Load, opened: Opened) -> Case:
    labels = Labels(
        case=kind.case,
        transport="flipcall",
        switch=switch_of(kind.policy, placement, kind.switch),
        placement=placement.value,
        load=load.value,
        size=0,
        policy=kind.policy,
    )
    config = ClientConfig(policy=kind.policy, switch=kind.switch, placement=placement.value)

    def open_endpoints() -> AbstractContextManager[Contender]:
        return nullcontext(UnderLoad(labels, opened.client(config), load))

    return Case(labels, open_endpoints)


@cache
def _built(how: Callable[[], Path]) -> Path:
    return how()
