"""Named windows under SIGKILL at every step, and under many programs at once."""

import mmap
import os
from pathlib import Path

import pytest
from forks import Gate, Reports, fork, kill_at, run, wait

from flipcall.errors import WindowForeignError, WindowInUseError
from flipcall.named import NamedAllocator, NamedWindow
from flipcall.process import ProcessId

PAGE = mmap.PAGESIZE
MOST_STEPS = 2000


def exists(name: str) -> bool:
    return Path(f"/dev/shm/flipcall.{name}").exists()


def works_again(name: str) -> None:
    """The name can be used as if nothing had happened, and is gone afterwards."""
    with NamedAllocator(name).allocate(PAGE) as made, NamedWindow.open(name) as taken:
        made.buffer[0] = 1
        assert taken.buffer[0] == 1
    assert not exists(name)


def stale(name: str) -> None:
    assert run(lambda: NamedAllocator(name).allocate(PAGE)) == 0


def test_kill_maker_at_every_step(name: str) -> None:
    """Wherever the maker dies, from before shm_open to after close, the name stays usable."""

    def maker() -> None:
        NamedAllocator(name).allocate(PAGE).close()

    step = 0
    for step in range(1, MOST_STEPS):
        killed = kill_at(step, maker)
        works_again(name)
        if not killed:
            break
    assert 20 < step < MOST_STEPS - 1


def test_kill_reclaimer_at_every_step(name: str) -> None:
    """Wherever a program dies that takes over a dead maker's name, the next one can."""

    def reclaimer() -> NamedWindow:
        return NamedAllocator(name).allocate(PAGE)

    step = 0
    for step in range(1, MOST_STEPS):
        stale(name)
        killed = kill_at(step, reclaimer)
        works_again(name)
        if not killed:
            break
    assert 20 < step < MOST_STEPS - 1


def test_kill_other_at_every_step(name: str) -> None:
    """Wherever the attaching side dies: either the name still works, or the maker sees who came and died."""

    def other() -> NamedWindow:
        return NamedWindow.open(name)

    came = 0
    step = 0
    for step in range(1, MOST_STEPS):
        with NamedAllocator(name).allocate(PAGE) as made:
            killed = kill_at(step, other)
            peer = made.peer
            assert exists(name) == (peer is None)
            if peer is None:
                NamedWindow.open(name).close()
            else:
                came += 1
                assert peer.pid != os.getpid()
                assert not peer.alive()
        works_again(name)
        if not killed:
            break
    assert 20 < step < MOST_STEPS - 1
    assert came > 1


def test_kill_opener_of_stale_name_at_every_step(name: str) -> None:
    """Wherever a program dies that finds a dead maker's name, the name stays usable."""

    def other() -> None:
        with pytest.raises(WindowForeignError):
            NamedWindow.open(name)

    step = 0
    for step in range(1, MOST_STEPS):
        stale(name)
        killed = kill_at(step, other)
        works_again(name)
        if not killed:
            break
    assert step > 5


@pytest.mark.parametrize("round_", range(10))
def test_many_makers_one_stale_name(name: str, round_: int) -> None:
    """Of many that take over one stale name at once, one wins and the others are told who."""
    stale(name)
    n = 6
    start, reports, end = Gate(), Reports(), Gate()

    def maker() -> None:
        start.wait()
        try:
            window = NamedAllocator(name, timeout=20).allocate(PAGE)
        except WindowInUseError as exc:
            reports.send(b"u" if "in use by process" in str(exc) else b"?")
        else:
            reports.send(b"w")
            end.wait()
            window.close()

    children = [fork(maker) for _ in range(n)]
    start.open()
    assert sorted(reports.read(n)) == sorted(b"u" * (n - 1) + b"w")
    assert exists(name)
    end.open()
    assert [wait(child) for child in children] == [0] * n
    assert not exists(name)
    reports.close()


@pytest.mark.parametrize("round_", range(10))
def test_many_openers_one_window(name: str, round_: int) -> None:
    """Of many that attach at once, one gets the window, and the maker sees that one."""
    n = 6
    start, reports = Gate(), Reports()

    def other() -> None:
        start.wait()
        try:
            window = NamedWindow.open(name, timeout=20)
        except (WindowInUseError, FileNotFoundError):
            reports.send(b"u")
        else:
            window.buffer[:8] = os.getpid().to_bytes(8, "little")
            reports.send(b"w")

    with NamedAllocator(name).allocate(PAGE) as made:
        children = [fork(other) for _ in range(n)]
        start.open()
        assert sorted(reports.read(n)) == sorted(b"u" * (n - 1) + b"w")
        assert made.peer is not None
        assert made.peer.pid == int.from_bytes(made.buffer[:8], "little")
        assert [wait(child) for child in children] == [0] * n
    assert not exists(name)
    reports.close()


def test_makers_and_openers_pair_up(name: str) -> None:
    """Makers and openers that share one name for a while meet in pairs, each pair in a window of its own."""
    pairs = 12
    start, reports = Gate(), Reports()

    def maker() -> None:
        start.wait()
        while True:
            try:
                window = NamedAllocator(name).allocate(PAGE)
                break
            except WindowInUseError:
                os.sched_yield()
        while (peer := window.peer) is None:
            os.sched_yield()
        while window.buffer[0] == 0:
            os.sched_yield()
        assert int.from_bytes(window.buffer[1:9], "little") == peer.pid
        reports.send(b"m")

    def other() -> None:
        start.wait()
        while True:
            try:
                window = NamedWindow.open(name)
                break
            except (FileNotFoundError, WindowInUseError, WindowForeignError):
                os.sched_yield()
        window.buffer[1:9] = os.getpid().to_bytes(8, "little")
        window.buffer[0] = 1
        assert window.peer != ProcessId.current()
        reports.send(b"o")

    children = [fork(body) for _ in range(pairs) for body in (maker, other)]
    start.open()
    assert sorted(reports.read(2 * pairs)) == sorted(b"mo" * pairs)
    assert [wait(child) for child in children] == [0] * (2 * pairs)
    assert not exists(name)
    reports.close()
