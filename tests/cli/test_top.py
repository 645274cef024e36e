"""flipcall top: figures of a running server, once and again and again."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from flipcall.cli.top import _duration, _rate, _time
from flipcall.dynamic import DynamicClient
from tests.cli.conftest import Flipcall, one_line_error
from tests.support import PATIENCE_S, Child

Shop = tuple[str, Child]


@contextmanager
def following(path: str, *options: str, out: int = subprocess.PIPE) -> Iterator[subprocess.Popen[str]]:
    """`flipcall top`, running; killed in the end if it still does."""
    command = [sys.executable, "-m", "flipcall.cli", "top", path, "--interval", "0.1", *options]
    with subprocess.Popen(command, stdout=out, stderr=subprocess.PIPE, text=True) as top:
        try:
            yield top
        finally:
            top.kill()


def test_a_line_of_json_for_each_reading(shop: Shop) -> None:
    """What is called meanwhile is told with its rate, its errors and its client; Ctrl-C is the ordinary end."""
    path, server = shop
    with following(path, "--json") as top, DynamicClient(path) as there:
        assert top.stdout is not None
        found = json.loads(top.stdout.readline())
        assert (found["service"], found["pid"]) == ("Shop", server.pid)
        while not any(m["name"] == "bad" and m["calls_per_s"] > 0 for m in found["methods"]):
            assert there.call("add", [1]) == 3
            with pytest.raises(ZeroDivisionError):
                there.call("bad")
            found = json.loads(top.stdout.readline())
        bad = next(m for m in found["methods"] if m["name"] == "bad")
        assert bad["errors_per_s"] == bad["calls_per_s"]
        assert 0 < bad["p50_us"] <= bad["p99_us"]
        (client,) = found["clients"]
        assert (client["pid"], client["channels"], client["switch"]) == (os.getpid(), 1, "futex")
        assert client["calls_per_s"] > 0
        top.send_signal(signal.SIGINT)
        assert top.wait(PATIENCE_S) == 0
        assert top.stderr is not None
        assert top.stderr.read() == ""


def test_once(flipcall: Flipcall, shop: Shop) -> None:
    """--once prints one table and ends."""
    with DynamicClient(shop[0]) as there:
        there.call("add", [1])
        done = flipcall("top", shop[0], "--once", "--interval", "0.05")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"Shop  pid {shop[1].pid}  up 00:00:0")
    assert any(line.split()[:2] == ["add", "0"] for line in done.stdout.splitlines())
    assert str(os.getpid()) in done.stdout


def test_on_a_terminal(shop: Shop) -> None:
    """There it shows a screen of its own, and gives the terminal back as it was."""
    ours, theirs = pty.openpty()
    try:
        with following(shop[0], out=theirs) as top:
            shown = b""
            while b"calls/s" not in shown:
                shown += os.read(ours, 65536)
            assert b"\x1b[?1049h" in shown
            top.send_signal(signal.SIGINT)
            while b"\x1b[?1049l" not in shown:
                shown += os.read(ours, 65536)
            assert top.wait(PATIENCE_S) == 0
    finally:
        os.close(ours)
        os.close(theirs)


def test_the_server_ends(shop: Shop) -> None:
    """That is an error in one line."""
    with following(shop[0], "--json") as top:
        assert top.stdout is not None
        assert top.stderr is not None
        top.stdout.readline()
        shop[1].kill()
        assert top.wait(PATIENCE_S) == 1
        assert top.stderr.read().count("\n") == 1


def test_nobody_there(flipcall: Flipcall, tmp_path: Path) -> None:
    """No server: the path and the reason."""
    assert "No such file" in one_line_error(flipcall("top", tmp_path / "none"), 1)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0"),
        (3.4, "3"),
        (999, "999"),
        (9999, "9999"),
        (12345, "12.3k"),
        (123456, "123k"),
        (5e6, "5000k"),
        (5e7, "50.0M"),
        (1e30, "1000000000000000000T"),
    ],
)
def test_rates(value: float, shown: str) -> None:
    """Short, whatever their size."""
    assert _rate(value) == shown


def test_times() -> None:
    """In the unit that suits them."""
    assert [_time(t) for t in (None, 1.234, 999.4, 2500, 3e6)] == ["–", "1.23 µs", "999 µs", "2.5 ms", "3 s"]
    assert [_duration(s) for s in (5, 3725, 90061)] == ["00:00:05", "01:02:05", "1 d 01:01:01"]
