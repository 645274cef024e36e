"""The leak check must itself be trusted: each kind of thing left behind is noticed, and named."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.leaks import Holdings
from tests.support import is_gone, run_python, wait_until

Undo = Callable[[], object]


def _descriptor() -> Undo:
    fd = os.open("/dev/null", os.O_RDONLY)
    return lambda: os.close(fd)


def _child() -> Undo:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    return lambda: process.communicate()


def _zombie() -> Undo:
    pid = os.spawnv(os.P_NOWAIT, "/bin/true", ["true"])
    wait_until(lambda: is_gone(pid))
    return lambda: os.waitpid(pid, 0)


def _shm() -> Undo:
    entry = Path("/dev/shm") / f"flipcall-test-{uuid.uuid4().hex}"
    entry.touch()
    return entry.unlink


def _mapping() -> Undo:
    fd = os.memfd_create("flipcall-test")
    os.ftruncate(fd, mmap.PAGESIZE)
    mapped = mmap.mmap(fd, mmap.PAGESIZE, access=mmap.ACCESS_READ)
    os.close(fd)
    return mapped.close


def _thread() -> Undo:
    done = threading.Event()
    thread = threading.Thread(target=done.wait, name="flipcall-test")
    thread.start()

    def undo() -> None:
        done.set()
        thread.join()

    return undo


@pytest.mark.parametrize(
    ("leave", "named"),
    [
        (_descriptor, "descriptor "),
        (_child, "child "),
        (_zombie, "(zombie)"),
        (_shm, "/dev/shm/flipcall-test-"),
        (_mapping, "mapping /memfd:flipcall-test"),
        (_thread, "thread flipcall-test"),
    ],
)
def test_what_is_left_behind_is_named(leave: Callable[[], Undo], named: str) -> None:
    """One thing too many makes a line that says which; once it is gone there is none."""
    before = Holdings.now()
    undo = leave()
    try:
        assert any(named in line for line in Holdings.now().beyond(before))
    finally:
        undo()
    assert Holdings.now().beyond(before) == []


def test_a_leaking_test_fails(tmp_path: Path) -> None:
    """The fixture turns what is left behind into a failure, unless the test is marked with a reason."""
    (tmp_path / "test_leaking.py").write_text(
        "import os, pytest\n"
        "def test_leaks(): os.open('/dev/null', os.O_RDONLY)\n"
        "@pytest.mark.leaves_behind(reason='to see the marker work')\n"
        "def test_may(): os.open('/dev/null', os.O_RDONLY)\n"
        "@pytest.mark.leaves_behind()\n"
        "def test_has_no_reason(): pass\n"
    )
    program = """
        import sys, pytest, tests.conftest
        tests.conftest._GRACE_S = 0.0
        options = ["-c", "/dev/null", "-p", "no:cacheprovider", "-p", "no:anyio"]
        options += ["--rootdir", sys.argv[1], sys.argv[1]]
        sys.exit(pytest.main(options, plugins=[tests.conftest]))
    """
    done = run_python(program, tmp_path)
    assert "2 passed, 2 errors" in done.stdout
    assert "descriptor" in done.stdout
    assert "leaves_behind needs a reason" in done.stdout
