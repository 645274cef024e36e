"""flipcall demo: it measures, says so truthfully, and cleans up."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from subprocess import PIPE
from typing import Any

import click
import pytest

from flipcall.cli import demo
from tests.cli.conftest import Flipcall
from tests.support import PATIENCE_S, is_gone, wait_until


def test_json(flipcall: Flipcall) -> None:
    """Both transports are measured with the same number of calls, and the ratio is that of their medians."""
    done = flipcall("demo", "--calls", "200", "--json")
    assert done.stderr == ""
    found = json.loads(done.stdout)
    assert found["calls"] == 200
    rows = found["transports"]
    assert set(rows) == {"window", "socket"}
    assert all(0 < row["p50_us"] <= row["p99_us"] for row in rows.values())
    assert found["socket_over_window"] == pytest.approx(
        rows["socket"]["p50_us"] / rows["window"]["p50_us"], 0.02
    )


def test_table(flipcall: Flipcall) -> None:
    """The table names both transports and ends with an explanation."""
    done = flipcall("demo", "--calls", "50")
    assert done.returncode == 0
    assert "flipcall (shared memory)" in done.stdout
    assert "Unix socket" in done.stdout
    assert "Spinning: " in done.stdout


def _found(window: float, socket: float, spins: bool) -> dict[str, Any]:
    return {
        "transports": {"window": {"p50_us": window}, "socket": {"p50_us": socket}},
        "socket_over_window": socket / window,
        "spins": spins,
        "load": 3.0,
        "cpus": 2,
    }


@pytest.mark.parametrize(
    ("window", "socket", "spins", "said"),
    [
        (2.0, 30.0, True, ["15.0 times as fast", "while they spin"]),
        (60.0, 30.0, True, ["slower", "2.0 times as long", "load average 3.0"]),
        (6.0, 12.0, False, ["2.0 times as fast", "Nothing spins here"]),
    ],
)
def test_verdict_is_what_was_measured(window: float, socket: float, spins: bool, said: list[str]) -> None:
    """The sentence under the table speaks against flipcall where the figures do."""
    verdict = demo._verdict(_found(window, socket, spins))
    assert all(part in verdict for part in said), verdict


def test_server_that_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that ends at once is an error that says so, and nothing is left behind."""
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(click.ClickException, match="did not start"):
        demo.measure(10)


def test_ctrl_c_ends_both_processes() -> None:
    """Ctrl-C on a terminal reaches the whole process group: one line, and no second voice from the server."""
    program = [str(Path(sys.executable).parent / "flipcall"), "demo", "--calls", "100000000"]
    with subprocess.Popen(program, stdout=PIPE, stderr=PIPE, text=True, start_new_session=True) as process:
        try:
            wait_until(lambda: "/memfd:" in Path(f"/proc/{process.pid}/maps").read_text(), what="it measures")
            (server,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            os.killpg(process.pid, signal.SIGINT)
            out, err = process.communicate(timeout=PATIENCE_S)
        finally:
            process.kill()
    assert (process.returncode, out, err) == (130, "", "flipcall: interrupted\n")
    assert is_gone(int(server))
