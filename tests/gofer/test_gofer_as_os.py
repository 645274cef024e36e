"""The client beside `os`: the same call on the same tree, here and through the gofer, ends the same way."""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from gofer_support import Connect, plant

PATHS = [
    "hello",
    "hello/",
    "dir",
    "dir/",
    "dirlink",
    "dirlink/",
    "link/",
    "new",
    "new/",
    "no/new",
    "dir/.",
    "/",
]

MAKING: dict[str, Callable[[Any, str], object]] = {
    "mkdir": lambda on, path: on.mkdir(path),
    "mkfifo": lambda on, path: on.mkfifo(path),
    "mknod": lambda on, path: on.mknod(path),
    "symlink": lambda on, path: on.symlink("x", path),
    "unlink": lambda on, path: on.unlink(path),
    "rmdir": lambda on, path: on.rmdir(path),
    "listdir": lambda on, path: sorted(os.fsencode(name) for name in on.listdir(path)),
    "readlink": lambda on, path: os.fsencode(on.readlink(path)),
    "truncate": lambda on, path: on.truncate(path, 3),
    "chmod": lambda on, path: on.chmod(path, 0o700),
}

MOVING: dict[str, Callable[[Any, str, str], object]] = {
    "link": lambda on, old, new: on.link(old, new, follow_symlinks=False),
    "rename": lambda on, old, new: on.rename(old, new),
}


class Local:
    """`os` with its root at a directory."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(path: str, *rest: Any, **options: Any) -> Any:
            if name in MOVING:
                rest = tuple(self._below(one) for one in rest)
            if name == "symlink":
                return os.symlink(path, self._below(rest[0]))
            return getattr(os, name)(self._below(path), *rest, **options)

        return call

    def _below(self, path: str) -> str:
        return f"{self._root}/{path.lstrip('/')}" if path != "/" else f"{self._root}/."


def outcome(attempt: Callable[[], object]) -> object:
    """What a call gives, or the name of its errno."""
    try:
        return attempt()
    except OSError as error:
        return errno.errorcode[error.errno or 0]


def state(root: Path) -> list[tuple[str, int]]:
    """The names below, and what kind of object each is."""
    return sorted((str(path.relative_to(root)), path.lstat().st_mode) for path in root.rglob("*"))


@pytest.mark.parametrize("name", MAKING)
def test_one_path(name: str, connect: Connect, tree: Path, tmp_path: Path) -> None:
    """Whatever a path ends in: a `/` after a file's name or a link's is an error where it is one of `os`."""
    (tmp_path / "local").mkdir()
    local = plant(tmp_path / "local")
    with connect() as client:
        for path in PATHS:
            if path == "/" and name in ("rmdir", "chmod"):
                continue  # a root is no `.`
            ours = outcome(lambda path=path: MAKING[name](client, path))  # type: ignore[misc]
            theirs = outcome(lambda path=path: MAKING[name](Local(local), path))  # type: ignore[misc]
            assert ours == theirs, (name, path)
            assert state(tree) == state(local), (name, path)


@pytest.mark.parametrize("name", MOVING)
def test_two_paths(name: str, connect: Connect, tree: Path, tmp_path: Path) -> None:
    """As with one path, and nothing is moved or linked where `os` would not."""
    (tmp_path / "local").mkdir()
    local = plant(tmp_path / "local")
    with connect() as client:
        for old, new in itertools.product(PATHS, PATHS):
            if old in ("dir/.", "/") and new in ("no/new", "dir/."):
                continue  # two errors, of which either may be said
            ours = outcome(lambda old=old, new=new: MOVING[name](client, old, new))  # type: ignore[misc]
            theirs = outcome(lambda old=old, new=new: MOVING[name](Local(local), old, new))  # type: ignore[misc]
            assert ours == theirs, (name, old, new)
            assert state(tree) == state(local), (name, old, new)
