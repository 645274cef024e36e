"""Named windows: finding each other by name, being refused, and every kind of wrong file under the name."""

import fcntl
import gc
import mmap
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import posix_ipc
import pytest
from forks import Gate, Reports, fork, run, wait

from flipcall import named
from flipcall._core import lib
from flipcall.allocator import WindowAllocator
from flipcall.errors import (
    ClosedError,
    MisuseError,
    WindowForeignError,
    WindowInUseError,
    WindowTooLargeError,
    WindowTooSmallError,
    WindowTruncatedError,
)
from flipcall.named import NamedAllocator, NamedWindow
from flipcall.process import ProcessId

PAGE = mmap.PAGESIZE
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give a file to another user")


def file(name: str) -> Path:
    return Path(f"/dev/shm/flipcall.{name}")


@pytest.fixture
def spoiled(name: str) -> Iterator[Path]:
    """A published window of this process, for the test to spoil; removed afterwards."""
    window = NamedAllocator(name).allocate(PAGE)
    path = file(name)
    try:
        yield path
    finally:
        window.close()
        path.unlink(missing_ok=True)


def put(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as f:
        f.seek(offset)
        f.write(data)


def test_two_sides_share_bytes(name: str) -> None:
    """What one writes the other reads, and the name is gone as soon as both are there."""
    allocator: WindowAllocator = NamedAllocator(name)
    with allocator.allocate(PAGE + 1) as made:
        assert made.length == 2 * PAGE
        assert file(name).exists()
        with NamedWindow.open(name) as taken:
            assert not file(name).exists()
            assert taken.length == made.length
            assert made.buffer[:] == bytes(made.length)
            made.buffer[0] = taken.buffer[made.length - 1] = 7
            assert (taken.buffer[0], made.buffer[made.length - 1]) == (7, 7)
    allocator.close()


def test_file_is_private_and_reserved(name: str) -> None:
    """Mode 0600 whatever the umask, and every page there."""
    for umask in (0o000, 0o777):
        before = os.umask(umask)
        try:
            window = NamedAllocator(name).allocate(8 * PAGE)
        finally:
            os.umask(before)
        with window:
            status = file(name).stat()
            assert status.st_mode & 0o7777 == 0o600
            assert status.st_blocks * 512 >= 9 * PAGE
            assert not os.get_inheritable(window.fd)


def test_peer_is_known_once_attached(name: str) -> None:
    """The maker learns who came from the window itself; the other knows the maker at once."""
    ready = Reports()
    done = Gate()
    with NamedAllocator(name).allocate(PAGE) as made:
        assert made.peer is None
        maker = ProcessId.current()

        def other() -> None:
            window = NamedWindow.open(name)
            assert window.peer == maker
            ready.send(b".")
            done.wait()

        child = fork(other)
        ready.read(1)
        peer = made.peer
        assert peer is not None
        assert peer.pid == child
        assert peer.alive()
        done.open()
        assert wait(child) == 0
        assert not peer.alive()
        assert made.peer == peer
    ready.close()


def test_open_without_maker(name: str) -> None:
    """No such name is FileNotFoundError, so that a program can wait for it to appear."""
    with pytest.raises(FileNotFoundError):
        NamedWindow.open(name)


def test_third_program_finds_nobody(name: str) -> None:
    """Once both sides are taken the name is free."""
    with NamedAllocator(name).allocate(PAGE), NamedWindow.open(name), pytest.raises(FileNotFoundError):
        NamedWindow.open(name)


def test_maker_serves_one_after_another(name: str) -> None:
    """The next window can be made under the name when the last one has found its peer, not before."""
    allocator = NamedAllocator(name)
    first = allocator.allocate(PAGE)
    with pytest.raises(WindowInUseError, match=str(os.getpid())):
        allocator.allocate(PAGE)
    other = NamedWindow.open(name)
    second = allocator.allocate(PAGE)
    another = NamedWindow.open(name)
    second.buffer[0] = 2
    assert (first.buffer[0], other.buffer[0], another.buffer[0]) == (0, 0, 2)
    for window in (first, other, second, another):
        window.close()
    allocator.close()
    with pytest.raises(ClosedError):
        allocator.allocate(PAGE)


def test_close_unattached_removes_the_name(name: str) -> None:
    """A maker that gives up takes the name along."""
    NamedAllocator(name).allocate(PAGE).close()
    assert not file(name).exists()


def test_close_attached_leaves_the_next_window_alone(name: str) -> None:
    """Closing a window that found its peer does not touch what now has its name."""
    first = NamedAllocator(name).allocate(PAGE)
    with NamedWindow.open(name), NamedAllocator(name).allocate(PAGE):
        first.close()
        assert file(name).exists()


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_forgotten_window_removes_the_name(name: str) -> None:
    """Garbage collection is a close."""
    NamedAllocator(name).allocate(PAGE)
    gc.collect()
    assert not file(name).exists()


def test_interpreter_exit_removes_the_name(name: str) -> None:
    """A program that just ends leaves nothing."""
    code = f"from flipcall.named import *; w = NamedAllocator({name!r}).allocate(4096)"
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)
    assert not file(name).exists()


def test_drop_fd_waits_for_the_peer(name: str) -> None:
    """The maker needs the descriptor to find its name; after that nobody does."""
    with NamedAllocator(name).allocate(PAGE) as made:
        with pytest.raises(MisuseError):
            made.drop_fd()
        with NamedWindow.open(name) as taken:
            made.drop_fd()
            made.drop_fd()
            taken.drop_fd()
            made.buffer[0] = 3
            assert taken.buffer[0] == 3


def test_forked_child_does_not_remove_the_name(name: str) -> None:
    """A child that closes what it inherited leaves its parent's name."""
    with NamedAllocator(name).allocate(PAGE) as made:
        assert run(made.close) == 0
        assert file(name).exists()


@pytest.mark.parametrize("bad", ["", "a/b", "..", "a b", "é", "x" * 201, "a\0b", 3, None])
def test_bad_names(bad: str) -> None:
    """A name that shm_open could misunderstand is the caller's mistake."""
    if bad == "..":  # harmless behind the prefix
        NamedAllocator(bad)
        return
    with pytest.raises(MisuseError):
        NamedAllocator(bad)
    with pytest.raises(MisuseError):
        NamedWindow.open(bad)


@pytest.mark.parametrize(
    ("length", "error"),
    [(lib.FC_WINDOW_MIN - 1, WindowTooSmallError), (lib.FC_WINDOW_MAX + 1, WindowTooLargeError)],
)
def test_allocate_refuses_lengths(name: str, length: int, error: type[Exception]) -> None:
    """The protocol's limits hold before a name is made."""
    with pytest.raises(error):
        NamedAllocator(name).allocate(length)
    assert not file(name).exists()


# ---- wrong files under the name ----------------------------------------------------------------------------


def both_refuse(name: str, error: type[Exception]) -> None:
    """Neither side takes what lies there, and it stays."""
    with pytest.raises(error):
        NamedWindow.open(name, timeout=0.05)
    with pytest.raises((error, WindowInUseError)):
        NamedAllocator(name, timeout=0.05).allocate(PAGE)
    assert os.path.lexists(file(name))


def test_open_to_others(spoiled: Path, name: str) -> None:
    """A file others may open is not ours, whoever owns it."""
    spoiled.chmod(0o640)
    both_refuse(name, WindowForeignError)


@root_only
def test_other_owner(spoiled: Path, name: str) -> None:
    """Another user's file is not ours, even if we may open it."""
    os.chown(spoiled, 65534, -1)
    both_refuse(name, WindowForeignError)


@root_only
def test_other_users_name_without_root(spoiled: Path, name: str) -> None:
    """A name another user occupies is foreign: not a way in, and not an internal error."""

    def nobody() -> None:
        os.setgid(65534)
        os.setuid(65534)
        both_refuse(name, WindowForeignError)

    assert run(nobody) == 0


def test_symbolic_link(name: str) -> None:
    """A link planted under the name is not followed."""
    os.symlink("/etc/passwd", file(name))
    try:
        both_refuse(name, WindowForeignError)
    finally:
        file(name).unlink()


def test_second_name(spoiled: Path, name: str) -> None:
    """A file with two links could be claimed twice."""
    other = spoiled.with_name(spoiled.name + ".link")
    os.link(spoiled, other)
    try:
        both_refuse(name, WindowForeignError)
    finally:
        other.unlink()


@pytest.mark.parametrize(
    ("offset", "data"),
    [(0, b"somebody"), (8, struct.pack("=I", 2)), (24, struct.pack("=Q", 1))],
    ids=["magic", "version", "pid_namespace"],
)
def test_foreign_header(spoiled: Path, name: str, offset: int, data: bytes) -> None:
    """Another program's file, another version, another pid namespace: refused and never removed."""
    put(spoiled, offset, data)
    both_refuse(name, WindowForeignError)


@pytest.mark.parametrize(
    ("length", "error"),
    [
        (0, WindowTooSmallError),
        (lib.FC_WINDOW_MIN - 1, WindowTooSmallError),
        (lib.FC_WINDOW_MAX + 1, WindowTooLargeError),
        (2**64 - 1, WindowTooLargeError),
        (PAGE + 1, WindowTruncatedError),
    ],
)
def test_wrong_length(spoiled: Path, name: str, length: int, error: type[Exception]) -> None:
    """The length in the file is checked like one that came over a socket."""
    put(spoiled, 32, struct.pack("=Q", length))
    both_refuse(name, error)


def test_truncated(spoiled: Path, name: str) -> None:
    """A file that ends within the window is refused before it is mapped."""
    os.truncate(spoiled, PAGE + 100)
    both_refuse(name, WindowTruncatedError)


def test_sparse(spoiled: Path, name: str) -> None:
    """A file without its pages is refused."""
    os.truncate(spoiled, PAGE)
    os.truncate(spoiled, 2 * PAGE)
    both_refuse(name, WindowTruncatedError)


def test_lock_never_given_back(spoiled: Path, name: str) -> None:
    """A program stuck while handling the name costs the others their timeout, and no more."""
    with spoiled.open("rb") as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        both_refuse(name, WindowInUseError)


def test_close_while_locked_unpublishes(name: str) -> None:
    """A maker that cannot get the lock to remove its name makes the file stale instead."""
    window = NamedAllocator(name).allocate(PAGE)
    with file(name).open("rb") as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        window.close()
        assert file(name).exists()
    NamedAllocator(name).allocate(PAGE).close()
    assert not file(name).exists()


def test_removed_by_hand(name: str) -> None:
    """Somebody's `rm` looks like an attached peer that never came: nothing breaks, the name is free."""
    first = NamedAllocator(name).allocate(PAGE)
    file(name).unlink()
    with NamedAllocator(name).allocate(PAGE):
        first.close()
        assert file(name).exists()


def test_taken_for_stale_before_it_was_locked(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A maker overtaken between shm_open and its lock finds its link gone, and starts again."""
    overtaken = []

    def try_lock(fd: int, lock: Callable[[int], bool] = named._try_lock) -> bool:
        if not overtaken:
            overtaken.append(fd)
            file(name).unlink()  # as a reclaimer does, which has had the lock meanwhile
        return lock(fd)

    monkeypatch.setattr(named, "_try_lock", try_lock)
    with NamedAllocator(name).allocate(PAGE) as made:
        assert file(name).exists()
        with NamedWindow.open(name):
            assert made.peer is not None
    assert overtaken


def test_fork_while_locked_does_not_keep_the_lock(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child forked by another thread while the lock is held has a copy of it, which must not count."""
    gate, children = Gate(), []
    inspect = named._inspect

    def forking(fd: int, name: str, path: str) -> tuple[ProcessId, int]:
        children.append(fork(gate.wait))
        return inspect(fd, name, path)

    with NamedAllocator(name).allocate(PAGE):
        monkeypatch.setattr(named, "_inspect", forking)
        with pytest.raises(WindowInUseError, match="in use by process"):
            NamedAllocator(name).allocate(PAGE)
        monkeypatch.undo()
        NamedWindow.open(name, timeout=0.5).close()
    gate.open()
    assert [wait(child) for child in children] == [0]


# ---- stale names -------------------------------------------------------------------------------------------


def leave_stale(name: str) -> None:
    assert run(lambda: NamedAllocator(name).allocate(PAGE)) == 0
    assert file(name).exists()


def test_stale_name_is_reclaimed_by_a_maker(name: str) -> None:
    """A dead maker's name is simply taken over."""
    leave_stale(name)
    with NamedAllocator(name).allocate(PAGE), NamedWindow.open(name):
        pass


def test_stale_name_is_reported_to_the_other(name: str) -> None:
    """The program that looks for its peer learns that it died, once; then the name is gone."""
    leave_stale(name)
    with pytest.raises(WindowForeignError, match="dead"):
        NamedWindow.open(name)
    with pytest.raises(FileNotFoundError):
        NamedWindow.open(name)


def test_maker_killed_and_not_reaped(name: str) -> None:
    """A zombie is dead, although its pid is still taken."""
    made = Reports()

    def maker() -> None:
        window = NamedAllocator(name).allocate(PAGE)
        made.send(b".")
        signal.pause()
        window.close()

    child = fork(maker)
    try:
        made.read(1)
    finally:
        os.kill(child, signal.SIGKILL)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    with NamedAllocator(name).allocate(PAGE):
        pass
    assert wait(child) == -signal.SIGKILL
    made.close()


def test_maker_dead_but_its_fork_lives(name: str) -> None:
    """A child that inherited the descriptor is not the maker, neither alive nor when it ends."""
    made, gate = Reports(), Gate()

    def maker() -> None:
        window = NamedAllocator(name).allocate(PAGE)
        if os.fork() == 0:
            gate.wait()
            window.close()
            made.send(b"c")
            os._exit(0)
        made.send(b"m")

    assert run(maker) == 0
    assert made.read(1) == b"m"
    with NamedAllocator(name).allocate(PAGE):
        gate.open()
        assert made.read(1) == b"c"
        assert file(name).exists()
    made.close()


def test_pid_taken_by_another_process(spoiled: Path, name: str) -> None:
    """The pid alone says nothing: with another start time it is another process, and the name is stale."""
    put(spoiled, 16, struct.pack("=Q", ProcessId.current().start + 1))
    with NamedAllocator(name).allocate(PAGE), NamedWindow.open(name):
        pass


def test_empty_file_is_stale(name: str) -> None:
    """What a maker leaves that dies right after shm_open."""
    os.close(posix_ipc.SharedMemory(f"/flipcall.{name}", posix_ipc.O_CREX, mode=0o600).fd)
    with pytest.raises(WindowForeignError, match="before it was ready"):
        NamedWindow.open(name)
    assert not file(name).exists()
