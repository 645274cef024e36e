"""The command line, as a user types it: output, messages and exit status."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from gofer_support import LATIN1, ROOT

from gofer.export import Export
from gofer.server import GoferServer

both = pytest.mark.parametrize("transport", ["window", "socket"])


class Shell:
    """Runs gofer commands on one server."""

    def __init__(self, path: str, transport: str) -> None:
        self._options = ["--socket", path, "--transport", transport]

    def __call__(
        self, command: str, *arguments: str | bytes, socket: str | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        """One command, to its end."""
        options = ["--socket", socket] if socket else self._options
        return subprocess.run(
            [sys.executable, "-m", "gofer", command, *options, *arguments],
            cwd=ROOT,
            capture_output=True,
            timeout=30,
            check=False,
            env={**os.environ, "LC_ALL": "C.UTF-8", "TZ": "UTC"},
        )


@pytest.fixture
def transport() -> str:
    """The default; the commands that move data are run over both."""
    return "window"


@pytest.fixture
def shell(tree: Path, transport: str, tmp_path: Path) -> Iterator[Shell]:
    """A server in this process, and commands in their own."""
    export = Export(tree)
    with GoferServer(export, str(tmp_path / "socket")) as server:
        yield Shell(server.path, transport)
    export.close()


def test_ls(shell: Shell, tree: Path) -> None:
    """Names sorted, odd bytes as they are, dotfiles only with -a."""
    (tree / ".hidden").touch()
    listed = shell("ls")
    assert listed.returncode == 0
    visible = sorted(name for name in os.listdir(os.fsencode(tree)) if name != b".hidden")
    assert listed.stdout.splitlines() == visible
    assert LATIN1 in visible
    assert b".hidden" in shell("ls", "-a").stdout.splitlines()


def test_ls_long(shell: Shell, tree: Path) -> None:
    """As ls -l prints it: mode, links, owner, size, and where links point."""
    os.chmod(tree / "hello", 0o640)
    lines = shell("ls", "-l").stdout.splitlines()
    (hello,) = [line for line in lines if line.endswith(b" hello") and b"->" not in line]
    assert hello.startswith(b"-rw-r----- ")
    assert hello.split()[1] == b"1"
    assert hello.split()[4] == b"13"
    assert any(line.startswith(b"l") and line.endswith(b" out -> ../secret") for line in lines)
    assert any(line.startswith(b"p") for line in lines)


def test_ls_recursive(shell: Shell) -> None:
    """Every directory under its own heading."""
    text = shell("ls", "-R", "dir").stdout.decode()
    assert text == "dir:\ndeep\n\ndir/deep:\nfile\n"


def test_ls_errors(shell: Shell) -> None:
    """As coreutils: the rest is listed, the message names the path, the status is 2."""
    listed = shell("ls", "nope", "hello")
    assert listed.returncode == 2
    assert listed.stderr == b"ls: cannot access 'nope': No such file or directory\n"
    assert listed.stdout == b"hello\n"


@both
def test_cat(shell: Shell, tree: Path) -> None:
    """Bytes as they are, one after the other; a missing one is told, and the rest still comes."""
    content = random.Random(5).randbytes((1 << 20) + 5)
    (tree / "big").write_bytes(content)
    done = shell("cat", "hello", "nope", "big", os.fsdecode(LATIN1))
    assert done.stdout == b"hello, world\n" + content + b"latin"
    assert done.stderr == b"cat: nope: No such file or directory\n"
    assert done.returncode == 1
    assert shell("cat", "dir").stderr == b"cat: dir: Is a directory\n"
    assert shell("cat", "out").stderr == b"cat: out: No such file or directory\n"


@both
def test_cp_both_ways(shell: Shell, tree: Path, tmp_path: Path) -> None:
    """Out and in, to a name and into a directory, digests equal, permission bits kept."""
    content = random.Random(6).randbytes((2 << 20) + 5)
    (tree / "big").write_bytes(content)
    os.chmod(tree / "big", 0o640)
    assert shell("cp", "remote:/big", str(tmp_path / "copy")).returncode == 0
    assert (tmp_path / "copy").read_bytes() == content
    assert (tmp_path / "copy").stat().st_mode & 0o777 == 0o640
    assert shell("cp", str(tmp_path / "copy"), "remote:dir").returncode == 0
    assert (tree / "dir" / "copy").read_bytes() == content
    local = tmp_path / "local"
    local.mkdir()
    assert shell("cp", "remote:hello", "remote:dir/deep/file", str(local)).returncode == 0
    assert sorted(os.listdir(local)) == ["file", "hello"]


def test_cp_errors(shell: Shell, tmp_path: Path) -> None:
    """Missing sources, directories, unwritable targets and two local sides."""
    missing = shell("cp", "remote:/nope", str(tmp_path / "x"))
    assert missing.returncode == 1
    assert missing.stderr == b"cp: cannot stat 'remote:/nope': No such file or directory\n"
    directory = shell("cp", "remote:/dir", str(tmp_path / "x"))
    assert directory.returncode == 1
    assert directory.stderr == b"cp: -r not specified; omitting directory 'remote:/dir'\n"
    nowhere = shell("cp", "remote:/hello", str(tmp_path / "no" / "x"))
    assert nowhere.returncode == 1
    assert nowhere.stderr.endswith(b"No such file or directory\n")
    assert shell("cp", "a", "b").returncode == 2
    assert not (tmp_path / "x").exists()


@both
def test_cp_recursive_both_ways(shell: Shell, tree: Path, tmp_path: Path) -> None:
    """A whole tree out and in again: contents, links, FIFOs, modes, and with -p times; ls of both is the same."""
    os.unlink(tree / "loop")
    os.chmod(tree / "dir", 0o750)
    os.chmod(tree / "dir/deep", 0o500)
    os.utime(tree / "hello", ns=(10**18, 10**18 + 1))
    os.utime(tree / "dir/deep", ns=(10**18, 10**18 + 2))
    out = tmp_path / "out"
    done = shell("cp", "-r", "-p", "remote:/", str(out))
    assert (done.returncode, done.stderr) == (0, b"")
    assert shell("cp", "-rp", str(out), "remote:/again").returncode == 0
    for copy in (out, tree / "again"):
        for name in ("hello", "dir/deep/file", "empty", os.fsdecode(LATIN1)):
            assert (copy / name).read_bytes() == (tree / name).read_bytes()
        for name in ("link", "dirlink", "out", "absolute", "up"):
            assert os.readlink(copy / name) == os.readlink(tree / name)
        assert (copy / "fifo").is_fifo()
        assert (copy / "dir").stat().st_mode == (tree / "dir").stat().st_mode
        assert (copy / "dir/deep").stat().st_mode == (tree / "dir/deep").stat().st_mode
        assert (copy / "hello").stat().st_mtime_ns == 10**18 + 1
        assert (copy / "dir/deep").stat().st_mtime_ns == 10**18 + 2
    assert shell("cp", "-r", "remote:dir", str(out)).returncode == 0  # into what is there
    assert (out / "dir/deep/file").read_bytes() == b"deep"


def test_cp_recursive_goes_on_after_an_error(shell: Shell, tree: Path, tmp_path: Path) -> None:
    """What cannot be copied is said, the rest is copied, the status is 1."""
    (tmp_path / "in/x").mkdir(parents=True)
    (tmp_path / "in/x/dir").write_text("a file")
    (tmp_path / "in/x/z").write_text("z")
    done = shell("cp", "-r", str(tmp_path / "in/x"), "remote:/x")
    assert done.returncode == 0
    (tmp_path / "in/tree").mkdir()
    os.rename(tmp_path / "in/x/dir", tmp_path / "in/tree/dir")  # a file for a directory
    (tmp_path / "in/tree/last").write_text("last")
    done = shell("cp", "-r", str(tmp_path / "in/tree") + "/.", "remote:/")
    assert done.returncode == 1
    assert done.stderr.count(b"\n") == 1
    assert done.stderr.startswith(b"cp: cannot overwrite directory 'remote:/dir'")
    assert (tree / "last").read_text() == "last"


@both
def test_cp_keeps_holes(shell: Shell, tree: Path, tmp_path: Path) -> None:
    """A sparse file of a gigabyte arrives sparse, either way, at once."""
    with open(tree / "sparse", "wb") as file:
        file.seek(512 << 20)
        file.write(b"in the middle")
        file.truncate(1 << 30)
    if (tree / "sparse").stat().st_blocks > 2048:
        pytest.skip("this file system has no holes")
    assert shell("cp", "remote:/sparse", str(tmp_path / "s")).returncode == 0
    assert shell("cp", str(tmp_path / "s"), "remote:/s2").returncode == 0
    for copy in (tmp_path / "s", tree / "s2"):
        assert copy.stat().st_size == 1 << 30
        assert copy.stat().st_blocks <= 2048
        with open(copy, "rb") as file:
            file.seek((512 << 20) - 1)
            assert file.read(15) == b"\0in the middle\0"


def test_rm(shell: Shell, tree: Path) -> None:
    """Files, links (not what they lead to), directories with -r; -f says nothing of what is missing."""
    assert shell("rm", "hello", "out").returncode == 0
    assert not (tree / "hello").exists()
    assert (tree.parent / "secret").exists()
    done = shell("rm", "dir", "nope", "empty")
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        b"rm: cannot remove 'dir': Is a directory",
        b"rm: cannot remove 'nope': No such file or directory",
    ]
    assert not (tree / "empty").exists()
    assert shell("rm", "-rf", "dir", "nope").returncode == 0
    assert not (tree / "dir").exists()
    root = shell("rm", "-r", "/")
    assert root.returncode == 1
    assert os.listdir(tree)


def test_mv(shell: Shell, tree: Path) -> None:
    """To a name, into a directory, without replacing, in exchange."""
    assert shell("mv", "hello", "renamed").returncode == 0
    assert shell("mv", "renamed", "empty", "dir").returncode == 0
    assert sorted(os.listdir(tree / "dir")) == ["deep", "empty", "renamed"]
    assert shell("mv", "-n", "dir/renamed", "fifo").returncode == 0
    assert (tree / "fifo").is_fifo()
    assert shell("mv", "--exchange", "dir/renamed", "dir/empty").returncode == 0
    assert (tree / "dir/empty").read_bytes() == b"hello, world\n"
    done = shell("mv", "nope", "x")
    assert (done.returncode, done.stderr) == (1, b"mv: cannot stat 'nope': No such file or directory\n")
    for source, target, said in [
        ("dir", "dir/deep", b"cannot move 'dir' to a subdirectory of itself, 'dir/deep/dir'"),
        ("dir", "fifo", b"cannot overwrite non-directory 'fifo' with directory 'dir'"),
        ("fifo", "fifo/x", b"cannot move 'fifo' to 'fifo/x': Not a directory"),
        ("fifo", "no/x", b"cannot move 'fifo' to 'no/x': No such file or directory"),
    ]:
        done = shell("mv", source, target)
        assert (done.returncode, done.stderr) == (1, b"mv: " + said + b"\n")


def test_du(shell: Shell, tree: Path) -> None:
    """What du(1) says of the same tree: hard links once, -s, -a."""
    (tree / "dir" / "big").write_bytes(b"x" * 300_000)
    os.link(tree / "dir" / "big", tree / "dir" / "deep" / "again")
    for options in ([], ["-s"], ["-a"]):
        said = shell("du", *options, "dir").stdout
        wanted = subprocess.run(["du", *options, "dir"], cwd=tree, capture_output=True, check=True).stdout
        assert sorted(line.split()[1] for line in said.splitlines()) == sorted(
            line.split()[1] for line in wanted.splitlines()
        ) or options == ["-a"]
        assert said.splitlines()[-1] == wanted.splitlines()[-1]
    human = shell("du", "-sh", "dir").stdout
    assert human == subprocess.run(["du", "-sh", "dir"], cwd=tree, capture_output=True, check=True).stdout
    assert shell("du", "nope").stderr == b"du: cannot access 'nope': No such file or directory\n"


def test_bench(shell: Shell, tmp_path: Path) -> None:
    """One object with --json; the transport is not a choice here."""
    done = subprocess.run(
        [sys.executable, "-m", "gofer", "bench", "--json", "--socket", str(tmp_path / "socket"), "hello"],
        capture_output=True,
        timeout=60,
        check=True,
    )
    measured = json.loads(done.stdout)
    assert set(measured) == {"small typed call", "stat of a file", "open + close"}
    assert all(one["window"] > 0 and one["socket"] > 0 for one in measured.values())


def test_bench_of_nothing(tmp_path: Path, shell: Shell) -> None:
    """A file that is not there is said, not the socket."""
    done = subprocess.run(
        [sys.executable, "-m", "gofer", "bench", "--socket", str(tmp_path / "socket"), "nope"],
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (1, b"bench: cannot open 'nope': No such file or directory\n")


def test_tree(shell: Shell) -> None:
    """Drawn as tree(1) does, with a count."""
    drawn = shell("tree", "dir")
    assert drawn.returncode == 0
    assert drawn.stdout.decode() == "dir\n└── deep\n    └── file\n\n1 directory, 1 file\n"
    missing = shell("tree", "nope")
    assert missing.returncode == 1
    assert missing.stderr == b"tree: 'nope': No such file or directory\n"


def test_stat(shell: Shell) -> None:
    """What stat(1) shows; of a link, the link."""
    shown = shell("stat", "hello", "link")
    assert shown.returncode == 0
    text = shown.stdout.decode()
    assert "  File: hello\n  Size: 13 " in text
    assert "  File: link -> hello\n" in text
    assert "symbolic link" in text
    assert shell("stat", "nope").stderr == b"stat: cannot statx 'nope': No such file or directory\n"


def test_no_server(shell: Shell, tmp_path: Path) -> None:
    """One line, status 1."""
    failed = shell("ls", socket=str(tmp_path / "nobody"))
    assert failed.returncode == 1
    assert failed.stderr.count(b"\n") == 1
    assert failed.stderr.startswith(b"gofer: ")


def test_serve_refuses_what_is_no_directory(tree: Path, tmp_path: Path) -> None:
    """A usage error, before anything listens."""
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "gofer",
            "serve",
            str(tree / "hello"),
            "--socket",
            str(tmp_path / "s"),
        ],
        cwd=ROOT,
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 2
    assert not (tmp_path / "s").exists()
