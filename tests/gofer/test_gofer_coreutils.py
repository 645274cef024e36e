"""The command line beside coreutils: the same arguments on the same tree, the same output, messages and status."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from click.testing import CliRunner
from gofer_support import LATIN1, plant

from gofer.cli import main
from gofer.export import Export
from gofer.quoting import quote, quote_if_needed
from gofer.server import GoferServer


def coreutils() -> tuple[int, int]:
    """The version of GNU coreutils; 0.0 for others."""
    try:
        said = subprocess.run(["ls", "--version"], capture_output=True, text=True, check=False).stdout
    except FileNotFoundError:
        said = ""
    found = re.match(r"ls \(GNU coreutils\) (\d+)\.(\d+)", said)
    return (int(found[1]), int(found[2])) if found else (0, 0)


pytestmark = pytest.mark.skipif(
    coreutils() < (9, 1), reason="needs GNU coreutils 9.1, whose messages these are, to compare with"
)

ENVIRONMENT = {**os.environ, "LC_ALL": "C.UTF-8", "TZ": "UTC"}


class Said(NamedTuple):
    """What came of a command."""

    status: int
    out: bytes
    err: bytes


Run = Callable[..., Said]


@pytest.fixture
def gofer(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Runs the command line on a server, both in this process."""
    monkeypatch.setenv("TZ", "UTC")
    export = Export(tree)
    with GoferServer(export, str(tmp_path / "socket")) as server:

        def run(command: str, *arguments: str) -> Said:
            done = CliRunner().invoke(main, [command, "--socket", server.path, *arguments])
            return Said(done.exit_code, done.stdout_bytes, done.stderr_bytes)

        yield run
    export.close()


def gnu(cwd: Path, *command: str) -> Said:
    """Runs a command of coreutils."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, check=False, env=ENVIRONMENT)
    return Said(done.returncode, done.stdout, done.stderr)


def state(root: Path) -> list[tuple[bytes, int, bytes]]:
    """Every object below: its name, mode and content."""
    found = []
    for path in sorted(root.rglob("*")):
        content = b""
        if path.is_symlink():
            content = os.fsencode(os.readlink(path))
        elif path.is_file():
            content = path.read_bytes()
        found.append((os.fsencode(path.relative_to(root)), path.lstat().st_mode, content))
    return found


LOOKS = [
    "ls", "ls -l", "ls -A", "ls -lA dir", "ls -d dir dirlink", "ls -ld dirlink", "ls -l dirlink/", "ls dirlink",
    "ls out", "ls -l out", "ls loop", "ls link hello dir", "ls -R dir", "ls -lR dir", "ls hello/",
    "ls nope dir", "ls -a dir/deep", "ls -1 dir", "ls -- -dash", "stat nope", "stat hello/x", "cat dir",
    "cat nope hello", "cat loop", "cat fifo/", "cat a:b", "cat ~x", "cat {", "cat a{}b#c", "cat x=y", "du dir",
    "du -s dir", "du -sh dir hello", "du dir dir/deep", "du dir/deep dir", "du -s hello again", "du nope",
    "du dirlink", "du dirlink/",
]  # fmt: skip


@pytest.mark.parametrize("command", LOOKS)
def test_looking(command: str, gofer: Run, tree: Path) -> None:
    """Listings, contents, room, and what is said of what cannot be shown."""
    (tree / ".hidden").touch()
    (tree / "-dash").touch()
    os.link(tree / "hello", tree / "again")
    name, *arguments = command.split()
    assert gofer(name, *arguments) == gnu(tree, name, *arguments)


@pytest.mark.parametrize("path", ["hello", "empty", "dir", "link", "dirlink/", "fifo", os.fsdecode(LATIN1)])
def test_stat(path: str, gofer: Run, tree: Path) -> None:
    """All of stat's output, but for the time of birth, which the protocol does not tell."""
    said, wanted = gofer("stat", path), gnu(tree, "stat", path)
    assert (said.status, said.err) == (wanted.status, wanted.err)
    ours, theirs = said.out.splitlines(), wanted.out.splitlines()
    assert ours.pop() == b" Birth: -"
    for lines in (ours, theirs):
        del lines[4]  # when it was read last: a link is read for its target
    assert ours == theirs[:-1]


CHANGES = [
    "rm hello", "rm dir", "rm nope hello", "rm -f nope hello", "rm -r dir", "rm -rf hello/x", "rm hello/",
    "rm hello/x", "rm -r dirlink", "rm -r dir/.", "rm -r dir/..", "rm -r dir/", "rm out loop", "mv hello new",
    "mv hello empty", "mv hello dir", "mv dir new/", "mv hello new/", "mv hello/ new", "mv hello hello",
    "mv hello again", "mv again dir/../hello", "mv dir dir", "mv dir dir/deep", "mv nope x", "mv hello no/x",
    "mv hello empty dir", "mv hello empty nope", "mv hello empty link", "mv hello dir nope", "mv dir fifo",
    "mv hello dirlink", "mv link new", "mv dirlink/ new", "mv . new", "mv hello link", "mv -n hello empty",
]  # fmt: skip


@pytest.mark.parametrize("command", CHANGES)
def test_changing(command: str, gofer: Run, tree: Path, tmp_path: Path) -> None:
    """What rm and mv do, and what they say of what they do not."""
    (tmp_path / "local").mkdir()
    local = plant(tmp_path / "local")
    for one in (tree, local):
        os.link(one / "hello", one / "again")
        os.rename(one / "absolute", one / "dangling")
        os.unlink(one / "dangling")  # which is different in each
    name, *arguments = command.split()
    assert gofer(name, *arguments) == gnu(local, name, *arguments)
    assert state(tree) == state(local)


def test_rm_keeps_what_a_link_leads_to(gofer: Run, tree: Path) -> None:
    """`rm -r link/` is refused, and unlike coreutils' leaves the directory behind the link its content."""
    before = state(tree)
    said = gofer("rm", "-r", "dirlink/")
    assert said == (1, b"", b"rm: cannot remove 'dirlink/': Not a directory\n")
    assert gofer("rm", "-r", "/").err == b"rm: it is dangerous to operate recursively on '/'\n"
    assert state(tree) == before


COPIES = [
    ("", "hello", "new"), ("", "hello", "file"), ("", "hello", "dir"), ("", "hello", "no/x"), ("", "nope", "x"),
    ("", "dir", "x"), ("", "link", "new"), ("", "hello", "dangling"), ("", "hello dir empty", "dir"),
    ("", "hello empty", "nope"), ("", "hello empty", "file"), ("-r", "dir", "new"), ("-r", "dir", "dir"),
    ("-r", "dir/.", "dir"), ("-r", "dir", "file"), ("-r", "hello", "over"), ("-r", "link", "file"),
    ("-r", "link", "dangling"), ("-r", "fifo", "file"), ("-r", "dirlink", "new"), ("-r", "dirlink/", "new"),
    ("-r", "loop", "loop"), ("-rp", "dir", "new"), ("-r", "dir link fifo", "dir"), ("-r", "dir", "no/x"),
    ("-r", "link", "no/x"), ("-r", "fifo", "no/x"),
]  # fmt: skip


@pytest.mark.parametrize("inwards", [False, True], ids=["out", "in"])
@pytest.mark.parametrize(("options", "sources", "target"), COPIES)
def test_copying(
    options: str, sources: str, target: str, inwards: bool, gofer: Run, tree: Path, tmp_path: Path
) -> None:
    """Either way as cp within one tree, twice: into what is not there, and over what is."""
    for top in (tmp_path / "to", tree / "to", tmp_path / "wanted"):
        (top / "over" / "hello").mkdir(parents=True)
        (top / "dir").mkdir()
        (top / "file").touch()
        os.symlink("nowhere", top / "dangling")
    (tmp_path / "local").mkdir()
    local = plant(tmp_path / "local")
    ours = ("remote:/", f"{tmp_path}/to/") if not inwards else (f"{local}/", "remote:/to/")
    theirs = (f"{local}/", f"{tmp_path}/wanted/")
    for _ in range(2):
        flags = options.split()
        said = gofer("cp", *flags, *(ours[0] + one for one in sources.split()), ours[1] + target)
        wanted = gnu(
            tmp_path, "cp", *flags, *(theirs[0] + one for one in sources.split()), theirs[1] + target
        )
        for mine, its in zip(ours, theirs, strict=True):
            said = said._replace(err=said.err.replace(mine.encode(), its.encode()))
        assert said == wanted
        assert state(tree / "to" if inwards else tmp_path / "to") == state(tmp_path / "wanted")


def test_copying_follows_no_link_an_earlier_copy_brought(gofer: Run, tree: Path, tmp_path: Path) -> None:
    """A name that is a link's at first, and a file's or a directory's later, leads no copy behind the link."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("mine")
    os.symlink(outside / "file", tree / "dir" / "file")
    os.symlink(outside, tree / "dir" / "sub")
    assert gofer("cp", "-r", "remote:/dir", str(tmp_path / "out")).status == 0
    for name in ("file", "sub"):
        os.unlink(tree / "dir" / name)
    (tree / "dir" / "file").write_text("theirs")
    (tree / "dir" / "sub").mkdir()
    (tree / "dir" / "sub" / "file").write_text("theirs")
    said = gofer("cp", "-r", "remote:/dir/.", str(tmp_path / "out"))
    assert said.status == 1
    assert said.err.startswith(b"cp: cannot overwrite non-directory '%b/sub'" % os.fsencode(tmp_path / "out"))
    assert (outside / "file").read_text() == "mine"
    assert (tmp_path / "out" / "file").read_text() == "theirs"
    assert not (tmp_path / "out" / "file").is_symlink()


NAMES = [
    b"plain", b"with space", b"it's", b"it's \"so\"", b"$x", b"a\nb", b"\n", b"a\n\n", b"\xff\xfe", b"\x1b[2J",
    b"back\\slash", b"back\\sl'ash", b"*", b"~", b"a~", b"#", b"a#", b"{", b"}", b"{}", b"a=b", b"!", b"'!'",
    b"\xc3\xa9", b"tab\tq", b"a?b", b"'?", b"'{", b"%+,-.:@]_", b"-n", b"[", b"^", b"a:b", b"'a:b", b"' ", b"'#",
    b"'~", b"\r\a\b\f\v",
]  # fmt: skip


def test_quoting(tmp_path: Path) -> None:
    """A name that is any bytes is quoted as coreutils quote it, both where it always is and where it may be."""
    for name in NAMES:
        for command, said in (("stat", f"cannot statx {quote(name)}"), ("cat", quote_if_needed(name))):
            done = subprocess.run(
                [command, "--", name], cwd=tmp_path, capture_output=True, env=ENVIRONMENT, check=False
            )
            assert done.stderr == os.fsencode(f"{command}: {said}: No such file or directory\n")
