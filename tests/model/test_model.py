"""The model of flipping control (proto/model/): what must hold holds, and what is faulty is found."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CHECK = Path(__file__).resolve().parents[2] / "proto" / "model" / "check"
SKIP = 77  # check's exit status when a tool is missing

needs_spin = pytest.mark.skipif(
    shutil.which("spin") is None or shutil.which("gcc") is None,
    reason="the model needs spin and gcc: apt-get install spin gcc",
)


def run_check(*arguments: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run proto/model/check; `path` replaces PATH."""
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    if path is not None:
        environment["PATH"] = path
    return subprocess.run(
        [sys.executable, str(CHECK), *arguments], capture_output=True, text=True, check=False, env=environment
    )


@needs_spin
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "pattern",
    [
        "same_cpu: ",
        "shared flag, as a liveness fault",
        "death noticed",
        "items: by",
        "reads the socket",
        "a taker left",
    ],
)
def test_what_must_hold_holds_and_what_is_faulty_is_found(pattern: str) -> None:
    """A sample of the table, seconds long: no surprise. `make model` runs all of it, minutes long."""
    done = run_check(pattern)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 surprises" in done.stdout
    assert "\n0 cases" not in done.stdout


@needs_spin
@pytest.mark.timeout(300)
def test_a_wrong_expectation_is_a_surprise(tmp_path: Path) -> None:
    """A fault that is expected to hold makes check fail: the table cannot pass by accident."""
    copy = tmp_path / "model"
    shutil.copytree(CHECK.parent, copy)
    cases = copy / "cases.py"
    text = cases.read_text(encoding="utf-8")
    expected, wrong = "expect: tuple[str, ...] = (LOST,)", "expect: tuple[str, ...] = (HOLDS,)"
    assert expected in text
    cases.write_text(text.replace(expected, wrong), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-B", str(copy / "check"), "futex: a sleep that does not compare"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "SURPRISE" in done.stdout


def test_a_missing_spin_is_a_visible_skip(tmp_path: Path) -> None:
    """Without spin, check says what to install and exits with 77, not 0."""
    done = run_check(path=str(tmp_path))
    assert done.returncode == SKIP
    assert "spin" in done.stderr
    assert "apt-get install" in done.stderr


def test_an_unknown_case_is_an_error() -> None:
    """A pattern that chooses nothing does not pass for a check that ran."""
    if shutil.which("spin") is None or shutil.which("gcc") is None:
        pytest.skip("the model needs spin and gcc: apt-get install spin gcc")
    done = run_check("no such case")
    assert done.returncode == 1
