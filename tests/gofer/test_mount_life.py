"""The life of a mount: how it begins and ends, and what happens when the gofer goes."""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from gofer_support import fails
from mount_support import Mounted, Program, eventually, is_stopped, mounted, needs_mount

pytestmark = [needs_mount, pytest.mark.timeout(40)]


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Mounted]:
    """A mount of its own, whose cache keeps nothing: every question reaches the gofer."""
    with mounted(tmp_path, options=("--cache", "0")) as found:
        yield found


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_unmount(mount: Mounted, number: int) -> None:
    """A signal ends the mount in order: unmounted, status 0, nothing said."""
    (mount.at / "file").write_bytes(b"content")
    assert mount.mount.stop(number) == (0, "")
    assert not mount.is_mounted()
    assert list(mount.at.iterdir()) == []
    assert (mount.tree / "file").read_bytes() == b"content"


def test_signal_with_a_file_open(mount: Mounted) -> None:
    """An open file does not keep the mount from ending; its user gets an error afterwards."""
    with open(mount.at / "file", "wb", buffering=0) as file:
        file.write(b"written")
        assert mount.mount.stop() == (0, "")
        assert not mount.is_mounted()
        with pytest.raises(OSError, match=r"not connected|aborted|Input/output"):
            file.write(b"more")
        with contextlib.suppress(OSError):
            file.close()
    assert (mount.tree / "file").read_bytes() == b"written"


def test_unmounted_by_another(mount: Mounted) -> None:
    """fusermount3 -u ends the process, too."""
    subprocess.run(["fusermount3", "-u", str(mount.at)], check=True)
    assert mount.mount.wait() == (0, "")


def test_mount_killed(mount: Mounted, tmp_path: Path) -> None:
    """A mount that was killed leaves errors, not hangs, and gives its FIDs back: the gofer serves the next."""
    (mount.at / "file").write_bytes(b"content")
    held = open(mount.at / "file", "rb")  # noqa: SIM115
    mount.mount.kill()
    with fails(errno.ENOTCONN):
        os.listdir(mount.at)
    with contextlib.suppress(OSError):
        held.close()
    subprocess.run(["umount", "-l", str(mount.at)], check=True)
    mount.mount = Program("mount", mount.socket, str(mount.at))
    assert (mount.at / "file").read_bytes() == b"content"


def _refuse(error: int, *actions: Callable[[], object]) -> None:
    for action in actions:
        with fails(error):
            action()


def test_gofer_killed(mount: Mounted) -> None:
    """With the gofer gone, everything is EIO, at once and for good; and the mount still ends in order."""
    file = mount.at / "file"
    file.write_bytes(b"content")
    with open(file, "r+b", buffering=0) as opened:
        mount.gofer.kill()
        for _ in range(2):
            _refuse(
                errno.EIO,
                lambda: file.stat(),
                lambda: os.listdir(mount.at),
                lambda: file.rename(mount.at / "other"),
                lambda: (mount.at / "new").touch(),
                lambda: os.statvfs(mount.at),
                lambda: opened.write(b"x"),
            )
    assert mount.mount.stop() == (0, "")
    assert not mount.is_mounted()


def test_gofer_restarted(mount: Mounted) -> None:
    """A gofer that is back is found again: names work as before, files that were open are stale."""
    deep = mount.at / "a" / "b" / "file"
    deep.parent.mkdir(parents=True)
    deep.write_bytes(b"content")
    with open(deep, "r+b", buffering=0) as opened:
        direct = os.open(deep, os.O_RDONLY | os.O_DIRECT)  # which no page in the cache answers
        mount.gofer.kill()
        with fails(errno.EIO):
            deep.stat()
        mount.start_gofer()
        assert deep.read_bytes() == b"content"
        _refuse(errno.ESTALE, lambda: opened.write(b"x"), lambda: os.fsync(opened.fileno()))
        _refuse(errno.ESTALE, lambda: os.preadv(direct, [mmap.mmap(-1, 4096)], 0))
        os.close(direct)
    deep.write_bytes(b"new content")
    assert (mount.tree / "a" / "b" / "file").read_bytes() == b"new content"
    deep.rename(mount.at / "moved")
    assert (mount.at / "moved").read_bytes() == b"new content"


def test_gofer_restarted_unseen(mount: Mounted) -> None:
    """Nobody asked while it was away: what only looks is asked again and works, without an error."""
    (mount.at / "dir").mkdir()
    (mount.at / "dir" / "file").write_bytes(b"content")
    mount.gofer.kill()
    mount.start_gofer()
    assert os.listdir(mount.at / "dir") == ["file"]
    mount.gofer.kill()
    mount.start_gofer()
    assert (mount.at / "dir" / "file").read_bytes() == b"content"


def test_another_tree_behind_the_restart(mount: Mounted) -> None:
    """What has been replaced meanwhile is never taken for what it was."""
    (mount.at / "dir").mkdir()
    (mount.at / "dir" / "file").write_bytes(b"one")
    fd = os.open(mount.at / "dir", os.O_PATH | os.O_DIRECTORY)
    try:
        mount.gofer.kill()
        os.rename(mount.tree / "dir", mount.tree / "was")
        (mount.tree / "dir").mkdir()
        (mount.tree / "dir" / "file").write_bytes(b"two")
        mount.start_gofer()
        with fails(errno.ESTALE):
            os.open("file", os.O_RDONLY, dir_fd=fd)
        assert (mount.at / "dir" / "file").read_bytes() == b"two"
    finally:
        os.close(fd)


def test_gofer_stopped(tmp_path: Path) -> None:
    """A gofer that does not answer is EIO after --timeout; one that goes on is used again."""
    with mounted(tmp_path, options=("--cache", "0", "--timeout", "0.5")) as mount:
        (mount.at / "file").write_bytes(b"content")
        os.kill(mount.gofer.pid, signal.SIGSTOP)
        try:
            eventually(lambda: is_stopped(mount.gofer.pid))
            with fails(errno.EIO):
                (mount.at / "file").stat()
        finally:
            os.kill(mount.gofer.pid, signal.SIGCONT)
        eventually(lambda: (mount.at / "file").read_bytes() == b"content")


def test_signals_while_the_gofer_hangs(mount: Mounted) -> None:
    """The first signal waits for the call under way, a second one does not: nothing is left in either case."""
    (mount.at / "file").write_bytes(b"content")
    os.kill(mount.gofer.pid, signal.SIGSTOP)
    asked = threading.Thread(target=lambda: outcome_of(lambda: (mount.at / "file").stat()))
    asked.start()
    try:
        pause = threading.Event()
        for _ in range(100):  # until it is over; each signal before the stat has begun is the first
            os.kill(mount.mount.pid, signal.SIGTERM)
            if mount.mount.ended(0.1):
                break
            pause.wait(0.05)
        else:
            pytest.fail("the mount did not end")
    finally:
        os.kill(mount.gofer.pid, signal.SIGCONT)
        asked.join()
    assert not mount.is_mounted()


def outcome_of(action: Callable[[], object]) -> object:
    """What an action gives, or its error."""
    try:
        return action()
    except OSError as error:
        return error


def test_more_objects_than_fids(tmp_path: Path) -> None:
    """A gofer that gives out few FIDs is enough for a tree of many directories."""
    with mounted(tmp_path, serve=("--max-fids", "24"), options=("--cache", "0")) as mount:
        for number in range(60):
            path = mount.at / f"{number}" / "a" / "b"
            path.mkdir(parents=True)
            (path / "file").write_bytes(b"%d" % number)
        for number in range(60):
            assert (mount.at / f"{number}" / "a" / "b" / "file").read_bytes() == b"%d" % number


def test_deep(mount: Mounted) -> None:
    """Directories as deep as a path may say, and deeper."""
    name = "d" * 20
    fd = os.open(mount.at, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for _ in range(300):
            os.mkdir(name, dir_fd=fd)
            below = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
            os.close(fd)
            fd = below
        os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
        assert os.listdir(fd) == ["file"]
    finally:
        os.close(fd)
        subprocess.run(["rm", "-r", str(mount.at / name)], check=False)
    assert os.listdir(mount.tree) == []


def test_read_only(tmp_path: Path) -> None:
    """A read-only gofer's mount is read-only to the kernel already."""
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "file").write_bytes(b"content")
    with mounted(tmp_path, serve=("--read-only",)) as mount:
        assert (mount.at / "file").read_bytes() == b"content"
        with fails(errno.EROFS):
            (mount.at / "file").write_bytes(b"x")


def test_fsync_holds_nobody_up(tmp_path: Path) -> None:
    """While an fsync is under way, others' calls are answered; many at once, too."""
    with mounted(tmp_path) as mount:
        files = [open(mount.at / f"{number}", "wb", buffering=0) for number in range(12)]  # noqa: SIM115
        threads = []
        for file in files:
            file.write(os.urandom(1 << 20))
            threads.append(threading.Thread(target=os.fsync, args=(file.fileno(),)))
            threads[-1].start()
        assert len(os.listdir(mount.at)) == 12
        for thread, file in zip(threads, files, strict=True):
            thread.join()
            file.close()


def test_donated_descriptors(tmp_path: Path) -> None:
    """Where the gofer hands out descriptors, what is open is read and written without it, even after its end."""
    content = os.urandom(3 << 20)
    with mounted(tmp_path, serve=("--donate",), options=("--cache", "60")) as mount:
        (mount.tree / "file").write_bytes(content)
        with open(mount.at / "file", "rb") as read, open(mount.at / "new", "wb", buffering=0) as written:
            assert read.read(1 << 20) == content[: 1 << 20]
            for _ in range(3):
                written.write(b"before ")
            mount.gofer.kill()
            assert read.read(1 << 20) == content[1 << 20 : 2 << 20]
            written.write(b"after")
            with fails(errno.EIO):
                (mount.at / "other").stat()
        assert (mount.tree / "new").read_bytes() == b"before before before after"
        mount.start_gofer()
        with open(mount.at / "new", "ab", buffering=0) as appended:
            for _ in range(3):
                (mount.tree / "new").open("ab").write(b"1")
                appended.write(b"2")
        assert (mount.at / "new").read_bytes() == b"before before before after121212"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nowhere.sock", "."), "cannot mount nowhere.sock"),
        (("nowhere.sock", "nowhere"), "does not exist"),
    ],
)
def test_errors(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    """What is wrong is said in a line, with an exit status."""
    done = subprocess.run(
        [sys.executable, "-m", "gofer", "mount", *arguments],
        cwd=tmp_path, capture_output=True, text=True, timeout=20, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_passthrough_is_reported() -> None:
    """Kernel, library and binding are each asked for FUSE passthrough, and their answers fit their versions."""
    from gofer.fuse import passthrough

    release = tuple(int(part) for part in os.uname().release.split("-")[0].split(".")[:2])
    library = tuple(int(part) for part in passthrough.pyfuse3_libfuse().split(".")[:2])
    assert not (passthrough.kernel_has_it() and release < (6, 9))
    assert passthrough.library_has_it() is (library >= (3, 17))
    assert not passthrough.binding_has_it(), "pyfuse3 has learnt it: the mount can use it"
    assert passthrough.report().startswith("not used: Linux ")
