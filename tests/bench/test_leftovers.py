"""However a bench ends, none of its processes survives it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import psutil
import pytest

from bench.compile import ROOT
from bench.peer import ServeConfig
from bench.peers.base import Address
from bench.process import PeerError, PeerProcess
from tests.leaks import children

WAIT_SECONDS = 20.0


def session_of(leader: int) -> list[psutil.Process]:
    """The living processes of the session that `leader` began, itself included."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return found


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Return when `condition` holds; fail after WAIT_SECONDS."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"{what}: not within {WAIT_SECONDS:.0f} s")
        time.sleep(0.005)


@pytest.mark.timeout(90)
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda end: end.name)
@pytest.mark.parametrize("family", ["sendrecv", "call"])
def test_no_process_survives(family: str, end: signal.Signals) -> None:
    """Ended while its children run, a bench takes them with it: the C pairs and the Python servers."""
    bench = subprocess.Popen(
        [sys.executable, "-m", "bench", family, "--json", "--runs", "500"],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        # A C pair is three processes with the bench, a Python pair two at first.
        wait_until(lambda: len(session_of(bench.pid)) >= 3, "children started")
        if end is signal.SIGINT:
            os.killpg(bench.pid, end)  # as a terminal does
        else:
            bench.send_signal(end)
        assert bench.wait(WAIT_SECONDS) != 0
        wait_until(lambda: not session_of(bench.pid), "children gone")
    finally:
        for process in session_of(bench.pid):
            process.kill()
        bench.communicate()


def test_a_server_that_cannot_start_is_an_error_and_not_a_hang() -> None:
    """The child ends before it is ready: PeerError, and nobody is left."""
    nowhere = Address(transport="flipcall", path="/nonexistent/directory/x.sock")
    with pytest.raises(PeerError, match="status"):
        PeerProcess(ServeConfig(address=nowhere, cpu=-1))
    assert not children()
