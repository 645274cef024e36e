"""What the mount keeps: with a cache that outlives the test, only its own changes can make it look again."""

from __future__ import annotations

import os
import random
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mount_support import Mounted, fallocate, mounted, needs_mount, why_no_rows

pytestmark = [needs_mount, pytest.mark.timeout(60)]

NAMES = [f"n{number}" for number in range(7)]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mounted]:
    """A mount that keeps everything for ten minutes."""
    with mounted(tmp_path_factory.mktemp("mount"), options=("--cache", "600")) as found:
        yield found


@pytest.fixture
def at(shared: Mounted, request: pytest.FixtureRequest) -> Path:
    """The test's directory, on the mount, made at the gofer's: the mount has seen nothing in it."""
    (shared.tree / request.node.name).mkdir()
    return shared.at / request.node.name


def fill(host: Path, at: Path, count: int = 24) -> None:
    """Small files at the gofer's, some of which the mount has read, so that the others' contents are here."""
    for number in range(count):
        (host / f"{number:02}").write_bytes(b"content of %d" % number)
    names = os.listdir(at)
    assert sorted(names) == sorted(os.listdir(host))
    for name in names[:3]:
        assert (at / name).read_bytes() == (host / name).read_bytes()


def test_all_is_read_as_it_was(at: Path, host: Path) -> None:
    """What came ahead is what is there, also for a directory that is read right after another."""
    (host / "sub").mkdir()
    for number in range(20):
        (host / "sub" / f"{number}").write_bytes(os.urandom(number * 1000))
    fill(host, at)
    for path in sorted(host.rglob("*")):
        if path.is_file():
            assert (at / path.relative_to(host)).read_bytes() == path.read_bytes()


def test_own_changes_are_read(at: Path, host: Path) -> None:
    """A content that came ahead gives way to what this mount wrote, whichever way it did."""
    fill(host, at)
    names = sorted(os.listdir(at))[3:]
    (at / names[0]).write_bytes(b"written")
    with open(at / names[1], "ab") as file:
        file.write(b", more")
    os.truncate(at / names[2], 4)
    os.unlink(at / names[3])
    (at / names[3]).write_bytes(b"made anew")
    os.rename(at / names[4], at / names[5])
    os.link(at / names[6], at / "link")
    with open(at / "link", "r+b") as file:
        file.write(b"CON")
    os.chmod(at / names[7], 0o600)
    for path in host.iterdir():
        assert (at / path.name).read_bytes() == path.read_bytes(), path.name
        assert (at / path.name).stat().st_size == path.stat().st_size
        assert (at / path.name).stat().st_nlink == path.stat().st_nlink
    assert sorted(os.listdir(at)) == sorted(os.listdir(host))


def test_own_changes_in_directories_listed_ahead(at: Path, host: Path) -> None:
    """A listing that came with the one of a directory beside it gives way to what this mount changed in it."""
    for name in NAMES:
        (host / name).mkdir()
        (host / name / "file").write_bytes(b"content")
    for name in os.listdir(at)[:3]:
        assert os.listdir(at / name) == ["file"]
    for number, name in enumerate(NAMES):
        if number % 2:
            (at / name / "more").write_bytes(b"more")
        else:
            os.unlink(at / name / "file")
    os.rename(at / NAMES[1], at / "moved")
    os.rmdir(at / NAMES[2])
    (at / NAMES[2]).mkdir()
    (at / NAMES[2] / "anew").touch()
    for path in host.iterdir():
        assert sorted(os.listdir(at / path.name)) == sorted(os.listdir(path))
        for below in path.iterdir():
            assert (at / path.name / below.name).read_bytes() == below.read_bytes()


def test_an_open_that_needed_no_fid(at: Path, host: Path) -> None:
    """A file opened without asking is a file: it outlives its name, can be synchronised and asked about."""
    fill(host, at)
    names = sorted(os.listdir(at))[10:]
    opened = [os.open(at / name, os.O_RDONLY) for name in names]
    os.unlink(at / names[0])
    (at / names[1]).write_bytes(b"written meanwhile")
    os.rename(at / names[2], at / names[3])
    os.rename(at / names[4], at / "moved")
    os.rename(at, at.with_name("elsewhere"))
    os.fsync(opened[5])
    expected = [b"content of %d" % int(name) for name in names]
    expected[1] = b"written meanwhile"
    for fd, content, name in zip(opened, expected, names, strict=True):
        assert os.pread(fd, 100, 0) == content, name
        assert os.fstat(fd).st_size == len(content)
        os.close(fd)
    os.rename(at.with_name("elsewhere"), at)


def test_names_made_elsewhere_are_found(at: Path, host: Path) -> None:
    """A name nobody has asked for is asked for, however recently the directory was listed."""
    fill(host, at)
    (host / "new").write_bytes(b"new")
    assert (at / "new").read_bytes() == b"new"


def outcome(action: Callable[[], object]) -> object:
    """What an action gives: its result, or its errno."""
    try:
        return action()
    except OSError as error:
        return error.errno


def actions(rng: random.Random) -> Callable[[Path], object]:
    """Something to do with some names below a directory."""
    one, two = (Path(*rng.choices(NAMES, k=rng.choice([1, 1, 2]))) for _ in range(2))
    data, size = rng.randbytes(rng.choice([0, 10, 5000, 20000])), rng.randrange(6000)
    mode = rng.choice([0, 1, 1 | 2, 16, 1 | 16])  # none, KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE
    flags = rng.choice([os.O_TRUNC, os.O_APPEND, 0, os.O_EXCL]) | os.O_CREAT

    def write(at: Path) -> object:
        fd = os.open(at / one, os.O_WRONLY | flags, 0o644)
        try:
            return os.write(fd, data)
        finally:
            os.close(fd)

    def reserve(at: Path) -> object:
        fd = os.open(at / one, os.O_WRONLY)
        try:
            return fallocate(fd, mode, size // 2, size)
        finally:
            os.close(fd)

    def look(at: Path) -> object:
        info = (at / one).lstat()
        is_directory = stat.S_ISDIR(info.st_mode)
        return info.st_mode, 0 if is_directory else info.st_size, info.st_nlink

    def read_twice(at: Path) -> object:
        with open(at / one, "rb") as file:
            before = file.read(7)
            outcome(lambda: os.unlink(at / two))
            return before, file.read(), os.fstat(file.fileno()).st_nlink

    def read_all(at: Path) -> object:
        found = {}
        for path in sorted(at.rglob("*")):
            if path.is_file():
                found[path.relative_to(at)] = path.read_bytes()
        return found

    return rng.choice(
        [
            write,
            write,
            reserve if why_no_rows() is None else write,
            look,
            look,
            read_twice,
            lambda at: (at / one).read_bytes(),
            lambda at: (at / one).mkdir(0o755),
            lambda at: os.unlink(at / one),
            lambda at: os.rmdir(at / one),
            lambda at: os.rename(at / one, at / two),
            lambda at: os.link(at / one, at / two),
            lambda at: os.truncate(at / one, size),
            lambda at: os.chmod(at / one, 0o600 | size & 0o77),
            lambda at: sorted(os.listdir(at / one)),
            lambda at: sorted(os.listdir(at)),
            read_all,
        ]
    )


@pytest.mark.parametrize("seed", range(4))
def test_as_if_local(at: Path, tmp_path: Path, seed: int) -> None:
    """Some hundred operations at random have the outcomes that they have in a local directory, step by step."""
    rng = random.Random(seed)
    done = []
    for step in range(400):
        state = rng.getstate()
        there = outcome(lambda: actions(rng)(at))
        rng.setstate(state)
        here = outcome(lambda: actions(rng)(tmp_path))
        done.append(step)
        assert there == here, f"seed {seed}, step {step}"
