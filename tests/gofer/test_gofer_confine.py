"""What a gofer that has been taken over could do: tried from inside the confined process."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pyprctl
import pytest
from gofer_support import SECRET, needs, plant
from pyprctl import Cap

from gofer import landlock
from gofer.client import GoferClient
from tests.support import wait_until

HERE = Path(__file__).parent

pytestmark = [
    pytest.mark.skipif(landlock.abi() < 3, reason=f"Landlock ABI {landlock.abi()}: 3 is needed (Linux 6.2)"),
    pytest.mark.skipif(platform.machine() != "x86_64", reason="the attempts use x86_64's numbers"),
]

REFUSED = {
    # Landlock says EACCES; seccomp EPERM or ENOSYS, or ends the process.
    "read outside": "EACCES",
    "read /etc": "EACCES",
    "read a process": "EACCES",
    "list outside": "EACCES",
    "write outside": "EACCES",
    "make outside": "EACCES",
    "make a directory outside": "ENOSYS",
    "remove outside": "ENOSYS",
    "move in": "ENOSYS",
    "link in": "ENOSYS",
    "truncate outside": "ENOSYS",
    "make a device": "EACCES",
    "follow a link out": "EACCES",
    "tcp": "ENOSYS",
    "netlink": "ENOSYS",
    "fork": "EPERM",
    "signal": "ENOSYS",
    "executable memory": "EPERM",
    "loosen Landlock": "ENOSYS",
    "new namespace": "",
    "exec": "",
    "ptrace": "",
    "io_uring": "",
    "open by handle": "",
    "setuid": "",
    "x32": "",
}
"""What becomes of each attempt; an empty string where the process is ended."""

READ_ONLY = {
    "write inside": "EACCES",
    "make inside": "EACCES",
    "chmod inside": "ENOSYS",
    "remove inside": "ENOSYS",
    "read inside": "did it",
}
READ_WRITE = dict.fromkeys(("write inside", "make inside", "chmod inside", "read inside"), "did it")


def attempt(directory: Path, access: str, *attempts: str) -> list[str]:
    """What became of attempts on a tree planted in `directory`; the last is "" when SIGSYS ended the process."""
    tree = plant(directory)
    command = [sys.executable, str(HERE / "confined.py"), str(tree), access]
    done = subprocess.run([*command, *attempts], capture_output=True, text=True, timeout=30)
    assert done.returncode in (0, -signal.SIGSYS), done.stderr
    assert (directory / "secret").read_bytes() == SECRET
    return done.stdout.splitlines() + [""] * (done.returncode != 0)


def test_out_of_reach(tmp_path: Path) -> None:
    """Every way out that the process tries is closed."""
    survived = [what for what, how in REFUSED.items() if how]
    assert dict(zip(survived, attempt(tmp_path, "rw", *survived), strict=True)) == {
        what: REFUSED[what] for what in survived
    }


@pytest.mark.parametrize("what", [what for what, how in REFUSED.items() if not how])
def test_ends_the_process(tmp_path: Path, what: str) -> None:
    """What only an attack would try is the last thing it tries."""
    assert attempt(tmp_path, "rw", what) == [""]


def test_read_only_is_the_kernel_s(tmp_path: Path) -> None:
    """Not only the protocol refuses changes of a read-only tree: the process cannot make them."""
    assert attempt(tmp_path, "ro", *READ_ONLY) == list(READ_ONLY.values())


def test_what_it_is_for_it_can(tmp_path: Path) -> None:
    """The tree itself is within reach, or the other tests would prove nothing."""
    assert attempt(tmp_path, "rw", *READ_WRITE) == list(READ_WRITE.values())


@pytest.fixture
def served(tree: Path, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str, list[str]]]:
    """A `gofer serve` in a process of its own, its socket, and what it printed."""
    (tmp_path / "run").mkdir()
    path = str(tmp_path / "run" / "socket")
    command = [sys.executable, "-m", "gofer", "serve", str(tree), "--socket", path]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield server, path, [next(server.stdout).strip() for _ in range(8)]
        finally:
            server.terminate()
            server.wait(10)


def test_enforced_and_said(served: tuple[subprocess.Popen[str], str, list[str]]) -> None:
    """What `serve` says is enforced, the kernel says too, before the first client is there."""
    server, _, lines = served
    status = dict(
        line.split(":\t", 1)
        for line in Path(f"/proc/{server.pid}/status").read_text().splitlines()
        if ":\t" in line
    )
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"
    for what in ("mount", "descriptors", "no_new_privs", "Landlock", "seccomp", "capabilities", "openat2"):
        assert any(line.startswith(f"gofer: {what}: ") for line in lines), (what, lines)
    kept = {Cap.CHOWN, Cap.DAC_OVERRIDE, Cap.FOWNER} & pyprctl.CapState.get_current().permitted
    assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == sum(1 << cap.value for cap in kept)


def test_confined_it_serves_everything(
    served: tuple[subprocess.Popen[str], str, list[str]], tree: Path
) -> None:
    """Every kind of operation still works, also on a channel made after the confinement."""
    _, path, _ = served
    for transport in ("window", "socket"):
        with GoferClient(path, transport=transport) as client:  # type: ignore[arg-type]
            client.write_bytes("a", b"x" * 3_000_000)
            assert len(client.read_bytes("a")) == 3_000_000
            client.rename("a", "b")
            client.rename("b", "hello", exchange=True)
            client.rename("b", "hello", exchange=True)
            client.link("b", "c")
            client.symlink("b", "d")
            client.mkdir("e")
            client.rename("c", "e/c")
            client.mkfifo("f")
            client.mknod("g")
            client.chmod("b", 0o600)
            client.utime("b", (1, 2))
            client.truncate("b", 10)
            client.chown("b", os.geteuid(), os.getegid())
            assert client.stat("b").size == 10
            assert client.statvfs().namemax > 0
            assert client.readlink("d") == b"b"
            fid = client.gofer.walk_open(client.root.fid, [b"b"], os.O_RDWR, 0).fid
            client.gofer.fallocate(fid, 0, 0, 8192)
            client.gofer.flush(fid)
            client.gofer.fsync([fid], False)
            assert client.gofer.seek(fid, 0, os.SEEK_HOLE) >= 10
            for name in ("b", "d", "e/c", "f", "g"):
                client.unlink(name)
            client.rmdir("e")
            assert "hello" in client.listdir()
    assert sorted(os.listdir(tree.parent)) == ["run", "secret", "tree"]


def test_a_switch_that_needs_a_system_call_of_its_own(
    served: tuple[subprocess.Popen[str], str, list[str]],
) -> None:
    """Asked for `notify`, for which it has no system call left, the confined server drops that client only."""
    _, path, _ = served
    script = "import sys; from gofer import GoferClient; GoferClient(sys.argv[1], switch='notify')"
    done = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert "FlipcallError" in done.stderr or "flipcall.errors" in done.stderr
    with GoferClient(path) as client:
        assert client.exists("hello")


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_the_socket_goes_with_the_gofer(
    served: tuple[subprocess.Popen[str], str, list[str]], how: signal.Signals
) -> None:
    """Although the gofer itself could not remove it, and even when it is killed."""
    server, path, _ = served
    assert os.path.exists(path)
    server.send_signal(how)
    server.wait(10)
    wait_until(lambda: not os.path.exists(path), what="the janitor removes the socket")


def test_another_s_socket_stays(served: tuple[subprocess.Popen[str], str, list[str]]) -> None:
    """A name that somebody else has taken meanwhile is not removed."""
    server, path, _ = served
    os.unlink(path)
    Path(path).write_text("mine")
    [janitor] = psutil.Process(server.pid).children()
    server.kill()
    server.wait(10)
    psutil.wait_procs([janitor], timeout=10)
    assert Path(path).read_text() == "mine"


@needs(Cap.SETUID, Cap.SETGID, Cap.CHOWN)
def test_another_user(tmp_path: Path) -> None:
    """With --user it has that user's rights from before its first request on, and nobody else's."""
    tree = plant(tmp_path)
    (tree / "private").write_bytes(b"root's")
    (tree / "private").chmod(0o600)
    os.chown(tree, 65534, 65534)
    path = str(tmp_path / "socket")
    command = [sys.executable, "-m", "gofer", "serve", str(tree), "--socket", path, "--user", "65534:65534"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            lines = [next(server.stdout).strip() for _ in range(9)]
            assert "gofer: user: uid 65534, gid 65534, no other groups" in lines
            assert "gofer: capabilities: none" in lines
            status = Path(f"/proc/{server.pid}/status").read_text()
            assert "Uid:\t65534\t65534\t65534\t65534\n" in status
            with GoferClient(path) as client:
                client.write_bytes("new", b"x")
                assert (tree / "new").stat().st_uid == 65534
                with pytest.raises(PermissionError):
                    client.read_bytes("private")
                with pytest.raises(PermissionError):
                    client.chown("new", 0, 0)
        finally:
            server.terminate()
            server.wait(10)


def test_full_means_full(tree: Path, tmp_path: Path) -> None:
    """Where Landlock is missing, nothing is served unless asked for; then it is said."""
    script = "import sys; from gofer import cli, landlock; landlock.abi = lambda: 0; cli.main(sys.argv[1:])"
    command = [sys.executable, "-c", script, "serve", str(tree), "--socket", str(tmp_path / "socket")]
    refused = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert refused.returncode == 1
    assert "Landlock" in refused.stderr
    assert refused.stderr.count("\n") == 1
    with subprocess.Popen(
        [*command, "--confinement", "partial"], stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        lines = [next(server.stdout) for _ in range(7)]
        server.terminate()
    assert any(line.startswith("gofer: Landlock: MISSING") for line in lines), lines
