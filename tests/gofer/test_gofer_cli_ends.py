"""How commands end that are stopped, whose output goes nowhere, or whose gofer does."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from gofer_support import SERVE

from tests.support import wait_until

GOFER = [sys.executable, "-m", "gofer"]


@pytest.fixture
def server(tree: Path, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A gofer in a process of its own."""
    command = [sys.executable, *SERVE, str(tree), "--socket", str(tmp_path / "socket")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        running.stdout.readline()
        try:
            yield running
        finally:
            running.terminate()
            running.wait(10)


@pytest.fixture
def socket(server: subprocess.Popen[str], tmp_path: Path) -> list[str]:
    """How commands find it."""
    return ["--socket", str(tmp_path / "socket")]


@pytest.mark.parametrize(
    ("command", "status"),
    [(["ls"], 2), (["tree"], 1), (["stat", "hello"], 1), (["cat", "hello"], 1), (["du"], 1)],
)
def test_output_that_goes_nowhere(command: list[str], status: int, socket: list[str]) -> None:
    """A full device, and no standard output at all, are said in one line, with coreutils' status for it."""
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [*GOFER, *command, *socket], stdout=full, stderr=subprocess.PIPE, timeout=30, check=False
        )
    wanted = f"{command[0]}: write error: No space left on device\n".encode()
    assert (done.returncode, done.stderr) == (status, wanted)
    closed = subprocess.run(
        ["sh", "-c", 'exec "$@" >&-', "sh", *GOFER, *command, *socket],
        stderr=subprocess.PIPE,
        timeout=30,
        check=False,
    )
    wanted = f"{command[0]}: write error: Bad file descriptor\n".encode()
    assert (closed.returncode, closed.stderr) == (status, wanted)


@pytest.mark.parametrize("command", [["ls"], ["tree"], ["cat", "hello"], ["du", "-a"]])
def test_a_closed_pipe(command: list[str], socket: list[str]) -> None:
    """Who stops listening is told nothing: SIGPIPE, as in any pipeline."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as pipe:
        done = subprocess.run(
            [*GOFER, *command, *socket], stdout=pipe, stderr=subprocess.PIPE, timeout=30, check=False
        )
    assert (done.returncode, done.stderr) == (-signal.SIGPIPE, b"")


@contextlib.contextmanager
def copying(tree: Path, tmp_path: Path, socket: list[str]) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A copy of 20 MB into a FIFO that has begun and goes on no further, and the FIFO's other end."""
    (tree / "empty").write_bytes(b"x" * 20_000_000)
    os.mkfifo(tmp_path / "pipe")
    end = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    command = [*GOFER, "cp", *socket, "remote:/empty", str(tmp_path / "pipe")]
    try:
        with subprocess.Popen(command, stderr=subprocess.PIPE) as copy:
            try:
                wait_until(lambda: _has_data(end), what="the copy has begun")
                yield copy, end
            finally:
                copy.kill()
    finally:
        os.close(end)


def _has_data(end: int) -> bool:
    try:
        return bool(os.read(end, 1))
    except BlockingIOError:
        return False


def test_interrupted(tree: Path, tmp_path: Path, socket: list[str]) -> None:
    """Ctrl-C ends a copy as it ends cp: by the signal, so that a shell's loop around it ends, too; no word."""
    with copying(tree, tmp_path, socket) as (copy, _):
        copy.send_signal(signal.SIGINT)
        assert copy.wait(30) == -signal.SIGINT
        assert copy.stderr is not None
        assert copy.stderr.read() == b""


def test_the_gofer_is_killed_meanwhile(
    tree: Path, tmp_path: Path, socket: list[str], server: subprocess.Popen[str]
) -> None:
    """The copy ends with one line and status 1."""
    with copying(tree, tmp_path, socket) as (copy, end):
        server.kill()
        server.wait(10)
        os.set_blocking(end, True)
        while os.read(end, 1 << 20):
            pass
        assert copy.wait(30) == 1
        assert copy.stderr is not None
        said = copy.stderr.read()
        assert said.startswith(b"gofer: ")
        assert said.count(b"\n") == 1


def test_a_full_disk(tree: Path, tmp_path: Path, socket: list[str]) -> None:
    """What there is no room for is said of each file, by both its names; the others are copied."""
    (tree / "dir" / "big").write_bytes(b"x" * 3_000_000)

    def small_files_only() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))

    done = subprocess.run(
        [*GOFER, "cp", "-r", *socket, "remote:/dir", str(tmp_path / "out")],
        stderr=subprocess.PIPE,
        timeout=30,
        check=False,
        preexec_fn=small_files_only,
    )
    wanted = f"cp: cannot copy 'remote:/dir/big' to '{tmp_path}/out/big': File too large\n"
    assert (done.returncode, done.stderr.decode()) == (1, wanted)
    assert (tmp_path / "out" / "deep" / "file").read_bytes() == b"deep"


def test_streams_are_copied(tree: Path, socket: list[str]) -> None:
    """In from a pipe and out to one, which have neither offsets nor holes."""
    content = os.urandom(3_000_000)
    subprocess.run([*GOFER, "cp", *socket, "/dev/stdin", "remote:/in"], input=content, timeout=30, check=True)
    assert (tree / "in").read_bytes() == content
    with open(tree / "sparse", "wb") as file:
        file.seek(2_000_000)
        file.write(b"x")
        file.truncate(3_000_000)
    done = subprocess.run(
        [*GOFER, "cp", *socket, "remote:/sparse", "/dev/stdout"], stdout=subprocess.PIPE, check=True
    )
    assert done.stdout == bytes(2_000_000) + b"x" + bytes(999_999)


def test_a_directory_that_cannot_be_listed(tree: Path, tmp_path: Path) -> None:
    """It is said, and the rest is shown, counted and removed all the same."""
    for path in (tree / "dir", tree / "dir/deep", tree / "dir/no", tree / "dir/yes"):
        path.mkdir(exist_ok=True)
        path.chmod(0o777)
    (tree / "dir/no/x").touch()
    (tree / "dir/yes/x").touch()
    (tree / "dir/no").chmod(0)
    other = ["--user", "65534:65534"] if os.geteuid() == 0 else []
    command = [sys.executable, *SERVE, str(tree), "--socket", str(tmp_path / "socket"), *other]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        server.stdout.readline()

        def run(*command: str) -> tuple[int, str, list[str]]:
            done = subprocess.run(
                [*GOFER, *command, "--socket", str(tmp_path / "socket")],
                capture_output=True,
                text=True,
                timeout=30,
                check=False,
            )
            return done.returncode, done.stdout, done.stderr.splitlines()

        denied = "'dir/no': Permission denied"
        try:
            status, shown, said = run("ls", "-R", "dir")
            assert (status, said) == (1, [f"ls: cannot open directory {denied}"])
            assert "dir/yes:\nx\n" in shown
            assert run("ls", "dir/no")[0] == 2
            status, shown, said = run("tree", "dir")
            assert (status, said) == (1, [f"tree: {denied}"])
            assert "└── yes\n    └── x\n" in shown
            status, shown, said = run("du", "dir")
            assert (status, said) == (1, [f"du: cannot read directory {denied}"])
            assert shown.splitlines()[-1].endswith("\tdir")
            assert run("rm", "-rf", "dir") == (1, "", [f"rm: cannot remove {denied}"])
            assert os.listdir(tree / "dir") == ["no"]
        finally:
            server.terminate()
            server.wait(10)
            (tree / "dir/no").chmod(0o700)
