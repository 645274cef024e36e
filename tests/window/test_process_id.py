"""Telling a process from a later one with its number."""

import ctypes
import os
import signal
import threading
from pathlib import Path

from forks import Reports, fork, run, wait

from flipcall.process import ProcessId, pid_namespace


def test_current_process_is_alive() -> None:
    """This process, and the same number with another start time."""
    me = ProcessId.current()
    assert me.pid == os.getpid()
    assert me.alive()
    assert not me._replace(start=me.start - 1).alive()


def test_ended_process_is_dead() -> None:
    """A reaped child's number means nobody."""
    pid = fork(lambda: None)
    wait(pid)
    assert not ProcessId(pid, 0).alive()
    assert not ProcessId(2**22 + 1, 0).alive()


def test_strange_command_names() -> None:
    """Parentheses and spaces in the command do not confuse the fields after it."""

    def child() -> None:
        before = ProcessId.current()
        with open("/proc/self/comm", "w") as f:
            f.write(") Z 1 (")
        assert ProcessId.current() == before
        assert before.alive()

    assert run(child) == 0


def test_first_thread_ended_but_others_run() -> None:
    """A process whose first thread is gone shows as a zombie and is alive all the same."""
    ready, started = Reports(), Reports()

    def child() -> None:
        def last() -> None:
            ready.send(b".")
            signal.pause()

        me = ProcessId.current()
        threading.Thread(target=last).start()
        started.send(me.start.to_bytes(8, "little"))
        exit_number = 60 if os.uname().machine == "x86_64" else 93
        ctypes.CDLL(None).syscall(exit_number, 0)  # exit(2) ends this thread alone

    pid = fork(child)
    try:
        assert ready.read(1) == b"."
        start = int.from_bytes(started.read(8), "little")
        while b"\nState:\tZ" not in Path(f"/proc/{pid}/status").read_bytes():
            os.sched_yield()
        assert ProcessId(pid, start).alive()
    finally:
        os.kill(pid, signal.SIGKILL)
        wait(pid)
    assert not ProcessId(pid, start).alive()
    ready.close()
    started.close()


def test_pid_namespace_is_stable() -> None:
    """Parent and child agree on where they are."""
    here = pid_namespace()
    assert here > 0

    def child() -> None:
        assert pid_namespace() == here

    assert run(child) == 0
