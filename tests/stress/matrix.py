"""Which stress programs there are, and how each is run, for a moment by `make test`, for minutes by `make stress`.

Names of switches come from flipcall.switch, so one that is added there is stressed without a change here; and one
that is to come is named here already, so that its absence is seen as a skip.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from flipcall import kernel
from flipcall.switch import SWITCHES
from tests.stress.crowd import SKIP

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "build" / "stress" / "stress"
TSAN = ROOT / "build" / "stress" / "stress-tsan"
IMITATED = (
    "imitated-swap"  # the C program's own: a wake and a sleep where a kernel with FUTEX_SWAP has one call
)
PYTHON_SWITCHES = tuple(dict.fromkeys([*(s.name for s in SWITCHES), "futex", "swap", "notify"]))
C_SWITCHES = (*PYTHON_SWITCHES, IMITATED)


class Case(NamedTuple):
    """One run of one program; its name says what is special."""

    name: str
    command: tuple[str, ...]


class Result(NamedTuple):
    """How a run ended: "ok", "skipped" or "failed", and all that it said."""

    verdict: str
    said: str


PLACES = {"two-cpus": (), "one-cpu": ("--cpus", "1"), "busy": ("--busy", "4")}


def c_case(switch: str, place: str, *, tsan: bool = False) -> Case:
    """The C program: sides in processes, or, for the thread sanitizer, in threads."""
    command = [str(TSAN), "--threads"] if tsan else [str(PROGRAM)]
    if switch == "swap":
        found = kernel.futex_swap()
        command += ["--swap", str(found.value)] if found.available else []
    name = f"c-{'tsan-' if tsan else ''}{switch}-{place}"
    return Case(name, (*command, "--switch", switch, *PLACES[place]))


def python_case(program: str, switch: str, place: str) -> Case:
    """A Python program: endpoints or calls."""
    command = (sys.executable, "-m", f"tests.stress.{program}")
    return Case(f"{program}-{switch}-{place}", (*command, "--switch", switch, *PLACES[place]))


def cases() -> Iterator[Case]:
    """Every run of `make stress`."""
    for place in PLACES:
        for switch in C_SWITCHES:
            yield c_case(switch, place)
            yield c_case(switch, place, tsan=True)
        for switch in PYTHON_SWITCHES:
            yield python_case("endpoints", switch, place)
            yield python_case("calls", switch, place)


def run(case: Case, seconds: float, seed: int | None = None) -> Result:
    """Run for about so many seconds; a program that hangs is ended, and has failed."""
    command = [*case.command, "--seconds", str(seconds)]
    if seed is not None:
        command += ["--seed", str(seed)]
    options = f"halt_on_error=1 {os.environ.get('TSAN_OPTIONS', '')}"
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=ROOT,
            env={**os.environ, "TSAN_OPTIONS": options},
            timeout=2 * seconds + 90,
            check=False,
        )
    except subprocess.TimeoutExpired as e:
        said = e.stdout if isinstance(e.stdout, str) else (e.stdout or b"").decode(errors="replace")
        return Result("failed", f"{said}\nnot over after {e.timeout} s: {command}")
    verdict = {0: "ok", SKIP: "skipped"}.get(done.returncode, "failed")
    said = (
        done.stdout if verdict != "failed" else f"{done.stdout}\nexit status {done.returncode} of {command}"
    )
    return Result(verdict, said)
