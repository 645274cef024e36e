"""The command line, as a user types it: output, messages and exit status."""

from __future__ import annotations

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
    assert directory.stderr == b"cp: -r not supported; omitting directory 'remote:/dir'\n"
    nowhere = shell("cp", "remote:/hello", str(tmp_path / "no" / "x"))
    assert nowhere.returncode == 1
    assert nowhere.stderr.endswith(b"No such file or directory\n")
    assert shell("cp", "a", "b").returncode == 2
    assert not (tmp_path / "x").exists()


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
    assert shell("stat", "nope").stderr == b"stat: cannot stat 'nope': No such file or directory\n"


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
