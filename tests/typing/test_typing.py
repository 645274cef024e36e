"""A client is typed as its contract: type checkers accept right programs and find each mistake of a wrong one."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

import pytest

from tests.support import run

HERE = Path(__file__).parent
PROGRAMS = ["client.py", "loops.py"]
PATIENCE_S = 120.0


def mypy(file: Path, cache: Path) -> set[int]:
    """Numbers of the lines in which mypy --strict finds an error.

    Without empty-body: mypy takes `...` as the body of a method for a mistake outside protocols and abstract
    classes, and abstract classes as the argument of connect() for another (type-abstract).
    """
    command = [sys.executable, "-m", "mypy", "--strict", "--disable-error-code", "empty-body"]
    command += ["--cache-dir", str(cache), "--no-error-summary", str(file)]
    done = run(command, timeout=PATIENCE_S)
    assert done.returncode in (0, 1), done.stderr
    return {int(n) for n in re.findall(rf"{file.name}:(\d+): error", done.stdout)}


def pyright(file: Path, cache: Path) -> set[int]:
    """Numbers of the lines in which pyright, strict, finds an error."""
    shutil.copy(file, cache)  # it does not look outside its project
    (cache / "pyrightconfig.json").write_text(
        json.dumps(
            {
                "include": [file.name],
                "strict": [file.name],
                "pythonVersion": "3.10",
                "extraPaths": [str(HERE.parents[1])],
                "reportUnusedVariable": False,
            }
        )
    )
    done = run(
        [sys.executable, "-m", "pyright", "-p", str(cache), "--pythonpath", sys.executable, "--outputjson"],
        timeout=PATIENCE_S,
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["summary"]["filesAnalyzed"] == 1
    return {d["range"]["start"]["line"] + 1 for d in report["generalDiagnostics"] if d["severity"] == "error"}


def mistakes(file: Path) -> set[int]:
    """Numbers of the lines that say they are errors."""
    return {n for n, line in enumerate(file.read_text().splitlines(), 1) if line.endswith("# error")}


@pytest.mark.timeout(180)
@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("check", [mypy, pyright])
def test_right_programs_are_accepted(check: object, name: str, tmp_path: Path) -> None:
    """Nothing to complain about, in the strictest mode."""
    assert callable(check)
    assert check(HERE / "good" / name, tmp_path) == set()


@pytest.mark.timeout(180)
@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("check", [mypy, pyright])
def test_each_mistake_is_found(check: object, name: str, tmp_path: Path) -> None:
    """Each marked line is an error, and no other is."""
    assert callable(check)
    assert check(HERE / "bad" / name, tmp_path) == mistakes(HERE / "bad" / name)


def test_the_programs_themselves_are_sound() -> None:
    """The right program can be imported: its contract is one."""
    for name in PROGRAMS:
        assert run([sys.executable, str(HERE / "good" / name)]).returncode == 0
