"""Loads: the busy loops run and go, and whoever is measured among them has no privilege."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from bench.compile import ROOT
from bench.loads import Load, around, give_up_priority
from tests.leaks import children


def test_busy_is_one_loop_for_each_cpu_and_none_afterwards() -> None:
    """Each pinned to a CPU of its own, at normal priority; gone when the load is over, also by an exception."""
    with pytest.raises(KeyError), around(Load.BUSY):  # noqa: PT012
        loops = children()
        assert sorted(loop.cpu_affinity() for loop in loops) == [
            [cpu] for cpu in sorted(os.sched_getaffinity(0))
        ]
        assert {os.sched_getscheduler(loop.pid) for loop in loops} == {os.SCHED_OTHER}
        assert {loop.nice() for loop in loops} == {0}
        raise KeyError
    assert not children()


@pytest.mark.parametrize("load", [load for load in Load if load is not Load.BUSY])
def test_other_loads_need_nobody(load: Load) -> None:
    """The client alone makes them."""
    with around(load):
        assert not children()


def test_giving_up_priority_makes_a_process_like_any_other() -> None:
    """A nice value, or a real-time class where the bench may have one, is gone."""
    waiting = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, cwd=ROOT)
    try:
        os.setpriority(os.PRIO_PROCESS, waiting.pid, 5)
        try:
            give_up_priority(waiting.pid)
        except PermissionError:
            pytest.skip("this user may not lower a nice value")
        assert os.getpriority(os.PRIO_PROCESS, waiting.pid) == 0
        assert os.sched_getscheduler(waiting.pid) == os.SCHED_OTHER
    finally:
        waiting.kill()
        waiting.communicate()
