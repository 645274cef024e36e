"""The stress programs, each for a moment (`make stress` runs them for minutes), and that they bite."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.stress.crowd import SKIP
from tests.stress.matrix import C_SWITCHES, PYTHON_SWITCHES, ROOT, Case, c_case, python_case, run

SECONDS = 0.6  # each; all of them together some fifteen, building not counted

needs_compiler = pytest.mark.skipif(
    not (shutil.which("make") and shutil.which("cc")), reason="the C stress needs make and a C compiler"
)


@pytest.fixture(scope="module")
def programs() -> None:
    """The C programs, built."""
    done = subprocess.run(
        ["make", "--silent", "stress-programs"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def check(case: Case) -> None:
    """Run it; skip or fail as it says."""
    result = run(case, SECONDS)
    if result.verdict == "skipped":
        pytest.skip(result.said.strip().rpartition("skipped: ")[2])
    assert result.verdict == "ok", result.said


@needs_compiler
@pytest.mark.timeout(180)
@pytest.mark.usefixtures("programs")
@pytest.mark.parametrize("place", ["two-cpus", "one-cpu", "busy"])
@pytest.mark.parametrize("switch", C_SWITCHES)
def test_c_sides_in_processes(switch: str, place: str) -> None:
    """Flips, deadlines, signals, stops, shutdowns and kills at random moments, checked by the C program."""
    check(c_case(switch, place))


@needs_compiler
@pytest.mark.timeout(180)
@pytest.mark.usefixtures("programs")
@pytest.mark.parametrize("switch", C_SWITCHES)
def test_c_sides_in_threads_are_clean_to_the_thread_sanitizer(switch: str) -> None:
    """The same between two threads on one window, and no data race."""
    check(c_case(switch, "two-cpus", tsan=True))


@pytest.mark.timeout(180)
@pytest.mark.parametrize("place", ["two-cpus", "one-cpu", "busy"])
@pytest.mark.parametrize("switch", PYTHON_SWITCHES)
def test_python_endpoints(switch: str, place: str) -> None:
    """The same between Python endpoints, with nothing left behind in either process."""
    check(python_case("endpoints", switch, place))


@pytest.mark.timeout(180)
@pytest.mark.parametrize("switch", PYTHON_SWITCHES)
def test_calls_from_clients_that_are_killed(switch: str) -> None:
    """A server answers, and forgets, clients that are killed and stopped at random."""
    check(python_case("calls", switch, "two-cpus"))


# What is broken, where, how (a regular expression and what takes its place), and what the stress must say.
FAULTS = {
    "a sleeper that does not say so": (
        "wait.c",
        r"    atomic_fetch_or\(fc_word\(&p->sleepers\), ep->my_bit\);\n",
        "",
        "it hangs",
    ),
    "a shutdown that takes back what was given": (
        "endpoint.c",
        r"\? ep->their_end : FC_SHUTDOWN;",
        "? FC_SHUTDOWN : FC_SHUTDOWN;",
        "were received",
    ),
    "an owed wake that is forgotten": (
        "wait.c",
        r"    \} else if \(owed\) \{\n(.*\n)*?    \}\n",
        "    }\n",
        "it hangs|a flip without a wake",
    ),
    "a deadline that is taken for an answer": (
        "wait.c",
        r"return now >= ep->deadline \? FC_ERR_TIMEOUT : FC_TICK;",
        "return now >= ep->deadline ? FC_OK : FC_TICK;",
        "two active sides|received|it hangs",
    ),
    "a trap in vain that does not ring": (
        "switch_notify.c",
        r"        wake_server\(ep\);\n(        if \(result < 0)",
        r"\1",
        "it hangs",
    ),
    "a sleep by futex that says it is a trap": (
        "notify.h",
        r"    atomic_fetch_and\(fc_sleepers\(ep\), ~bit\);\n    return fc_futex_wait",
        "    return fc_futex_wait",
        "it hangs",
    ),
}


@needs_compiler
@pytest.mark.timeout(180)
@pytest.mark.parametrize("fault", FAULTS)
def test_the_stress_bites(fault: str, tmp_path: Path) -> None:
    """With a fault put into a copy of the core, the program fails, and says the right thing."""
    name, pattern, replacement, expected = FAULTS[fault]
    core = tmp_path / "core"
    shutil.copytree(ROOT / "flipcall" / "core", core)
    text, hits = re.subn(pattern, replacement, (core / name).read_text())
    assert hits == 1, f"{name} has changed: the fault has no place in it any more"
    (core / name).write_text(text)
    sources = [*core.glob("*.c"), *(ROOT / "tests" / "stress").glob("*.c")]
    headers = [f"-I{core}", f"-I{ROOT / 'proto'}", f"-I{ROOT / 'tests' / 'stress'}"]
    program = tmp_path / "stress"
    subprocess.run(
        ["cc", "-std=gnu11", "-O1", "-w", "-pthread", *headers, "-o", str(program), *map(str, sources)],
        check=True,
    )
    switch = "imitated-swap" if "owed" in fault else "notify" if "notify" in name else "futex"
    command = [str(program), "--seconds", "60", "--patience", "1", "--switch", switch, "--seed", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == SKIP:
        pytest.skip(done.stdout.strip().rpartition("skipped: ")[2])
    assert done.returncode == 1, done.stdout
    assert re.search(expected, done.stderr), done.stderr
    assert "--seed 1" in done.stderr
