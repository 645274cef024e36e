"""The README's quick start, run as it is printed."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support import PATIENCE_S, REPOSITORY, wait_until

QUICK_START_LINES = 20  # of code, blank lines aside


def _section(title: str) -> str:
    """The text of one section of the README."""
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, f"the README has no section {title!r}"
    return found[1]


def _block(section: str, language: str) -> str:
    """The only fenced block of that language in a section."""
    blocks: list[str] = re.findall(rf"^```{language}\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 1
    return blocks[0]


def _session(console: str) -> list[tuple[str, str]]:
    """Commands of a console block, each with the output printed under it."""
    steps: list[tuple[str, str]] = []
    for line in console.splitlines(keepends=True):
        if line.startswith("$ "):
            steps.append((line[2:].rstrip("\n"), ""))
        else:
            command, output = steps.pop()
            steps.append((command, output + line))
    return steps


@contextmanager
def _in_background(command: str, where: Path, env: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(shlex.split(command), cwd=where, env=env, stdin=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.terminate()


@pytest.fixture
def environment() -> dict[str, str]:
    """What a reader has: `python` and `flipcall` are those of the environment that runs the tests."""
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


def test_quick_start_is_short() -> None:
    """Twenty lines are enough."""
    code = _block(_section("Quick start"), "python")
    assert len([line for line in code.splitlines() if line.strip()]) <= QUICK_START_LINES


def test_quick_start_runs_as_printed(tmp_path: Path, environment: dict[str, str]) -> None:
    """Each command prints what the README shows under it; the server ends with status 0."""
    section = _section("Quick start")
    (tmp_path / "geo.py").write_text(_block(section, "python"), encoding="utf-8")
    (background, nothing), *steps = _session(_block(section, "console"))
    assert background.endswith(" &")
    assert nothing == ""
    with _in_background(background[:-2], tmp_path, environment) as server:
        # The reader's second command comes a while after the first; here the socket says when.
        wait_until(
            lambda: (tmp_path / "geo.sock").exists() or server.poll() is not None, what="the server listens"
        )
        for command, printed in steps:
            done = subprocess.run(
                command,
                shell=True,
                cwd=tmp_path,
                env=environment,
                capture_output=True,
                text=True,
                timeout=PATIENCE_S,
            )
            assert (done.stdout, done.stderr) == (printed, ""), command
    assert server.returncode == 0
    assert not (tmp_path / "geo.sock").exists()


def test_every_link_leads_somewhere() -> None:
    """Relative links of the README and the docs name files that are there."""
    for document in [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]:
        text = document.read_text(encoding="utf-8")
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
            if "://" not in target:
                assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_commands_named_are_there() -> None:
    """The two commands of the README are targets of the Makefile."""
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^make (\w+)", _section("Two commands"), re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)
