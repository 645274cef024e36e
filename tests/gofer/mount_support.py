"""A gofer and its mount, each a process, for the tests that work on files."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

PATIENCE_S = 20.0
HOLE = 1 << 18
"""Bytes."""


def why_no_mount() -> str | None:
    """What is missing here for a FUSE mount, None if nothing is."""
    try:
        import pyfuse3  # noqa: F401
    except ImportError as error:
        return f"pyfuse3 cannot be imported: {error}"
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "/dev/fuse cannot be opened"
    if os.geteuid() != 0:
        return "mounting and umount2 need root here"
    return None


def why_no_rows() -> str | None:
    """Why there is no fallocate to be had on a mount here, None if there is."""
    if why_no_mount() is not None:
        return why_no_mount()
    if importlib.util.find_spec("gofer.fuse.rows._rows") is None:
        return "gofer.fuse.rows._rows is not built: no libfuse3 headers"
    return None


needs_mount = pytest.mark.skipif(why_no_mount() is not None, reason=f"no FUSE mount: {why_no_mount()}")
needs_rows = pytest.mark.skipif(why_no_rows() is not None, reason=f"no fallocate: {why_no_rows()}")


class Program:
    """`gofer ...` in a process of its own, which has said on stdout that it is ready."""

    def __init__(self, *arguments: str, code: str | None = None) -> None:
        """`code`: what python runs instead of the module gofer."""
        self._process = subprocess.Popen(
            [sys.executable, *(("-m", "gofer") if code is None else ("-c", code)), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,  # so that select sees all there is
        )
        assert self._process.stdout is not None
        ready = b"gofer: serving " if arguments[0] == "serve" else b"gofer: mounted "
        try:
            line = b"\n"
            while not line.startswith(ready):
                assert line, f"gofer {' '.join(arguments)} did not get ready"
                readable, _, _ = select.select([self._process.stdout], [], [], PATIENCE_S)
                line = self._process.stdout.readline() if readable else b""
        except BaseException:
            self.kill()
            raise

    def line(self) -> str:
        """What it says next on stdout."""
        assert self._process.stdout is not None
        readable, _, _ = select.select([self._process.stdout], [], [], PATIENCE_S)
        assert readable, "it says nothing"
        return self._process.stdout.readline().decode()

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Signal it and wait: its exit status, and what it said on stderr."""
        self._process.send_signal(number)
        return self.wait()

    def wait(self) -> tuple[int, str]:
        """Its end: exit status and stderr."""
        _, said = self._process.communicate(timeout=PATIENCE_S)
        return self._process.returncode, said.decode()

    def ended(self, seconds: float) -> bool:
        """Whether it ends within this time."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        return self._process.returncode is not None

    def kill(self) -> None:
        """SIGKILL, and whatever else was open. Idempotent."""
        self._process.kill()
        self._process.communicate()


class Mounted:
    """A tree, the gofer that owns it, and the directory where its mount is."""

    def __init__(
        self,
        directory: Path,
        *,
        serve: tuple[str, ...] = (),
        options: tuple[str, ...] = (),
        code: str | None = None,
    ) -> None:
        self.tree = directory / "tree"
        self.at = directory / "mnt"
        self.socket = str(directory / "gofer.sock")
        self._serve = serve
        self.tree.mkdir(exist_ok=True)
        self.at.mkdir(exist_ok=True)
        self.start_gofer()
        try:
            self.mount = Program("mount", self.socket, str(self.at), *options, code=code)
        except BaseException:
            self.gofer.kill()
            raise

    def start_gofer(self) -> None:
        """Serve the tree; the socket of one that was killed is in the way and goes."""
        options = ["--confinement", "partial", *self._serve]
        self.gofer = Program("serve", str(self.tree), "--socket", self.socket, *options)

    def is_mounted(self) -> bool:
        """Whether the kernel has a mount there, be it a dead one."""
        return f" {self.at} fuse" in Path("/proc/self/mounts").read_text()

    def close(self) -> None:
        """Nothing is left, whatever the test did."""
        if self.is_mounted():
            subprocess.run(["umount", "-l", str(self.at)], check=False)
        self.mount.kill()
        with contextlib.suppress(subprocess.TimeoutExpired, ValueError):
            self.gofer.stop()
        self.gofer.kill()


@contextlib.contextmanager
def mounted(directory: Path, **terms: Any) -> Iterator[Mounted]:
    """A mount for the block."""
    found = Mounted(directory, **terms)
    try:
        yield found
    finally:
        found.close()


def is_stopped(pid: int) -> bool:
    """Whether every thread is: the signal takes its time to get to those that run."""
    return all(stat.read_text().split(") ")[1][0] == "T" for stat in Path(f"/proc/{pid}/task").glob("*/stat"))


def eventually(true: Callable[[], bool]) -> None:
    """Wait until it is; an OSError is no."""
    pause = threading.Event()
    for _ in range(100):
        with contextlib.suppress(OSError):
            if true():
                return
        pause.wait(0.05)
    pytest.fail("never came true")


_libc = ctypes.CDLL(None, use_errno=True)


def fallocate(fd: int, mode: int, offset: int, length: int) -> int:
    """fallocate(2); its errno, 0 for none."""
    done = _libc.fallocate(fd, mode, ctypes.c_int64(offset), ctypes.c_int64(length))
    return 0 if done == 0 else ctypes.get_errno()


def sparse(path: Path) -> None:
    """A file of a hole, data, and a hole, of HOLE bytes each but for the data, 4096."""
    with open(path, "wb") as file:
        file.seek(HOLE)
        file.write(b"d" * 4096)
        file.truncate(HOLE * 2 + 4096)
        os.fsync(file.fileno())
