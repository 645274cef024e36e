"""Helpers of the gofer's tests: an odd name, and short ways to a FID."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import pyprctl
import pytest
from pyprctl import Cap

from gofer.client import GoferClient
from gofer.protocol import Place
from gofer.session import Session

ROOT = Path(__file__).resolve().parents[2]
"""Of the project: where `gofer` is started."""
LATIN1 = b"caf\xe9"
"""A name that is not UTF-8."""
SECRET = b"bytes from outside the tree"
CLIMBING = [
    b"..",
    b".",
    b"",
    b"/",
    b"/etc",
    b"/etc/passwd",
    b"../secret",
    b"dir/..",
    b"a\0b",
    b"..\0",
    b"dir/deep",
]
"""Names that are not one entry of a directory."""


SERVE = ("-m", "gofer", "serve", "--confinement", "partial")
"""Arguments of a Python that serves, confined as this kernel can; test_gofer_confine.py is about the rest."""


def needs(*capabilities: Cap) -> pytest.MarkDecorator:
    """Skip where the process may not do such things: being root is neither necessary nor enough."""
    missing = [one.name for one in capabilities if one not in pyprctl.CapState.get_current().effective]
    return pytest.mark.skipif(bool(missing), reason=f"CAP_{', CAP_'.join(missing)} is missing")


def plant(directory: Path) -> Path:
    """A small tree of everything in `directory`, beside a secret that is not in it; the tree's path."""
    (directory / "secret").write_bytes(SECRET)
    top = directory / "tree"
    (top / "dir" / "deep").mkdir(parents=True)
    (top / "empty").touch()
    (top / "hello").write_bytes(b"hello, world\n")
    (top / "dir" / "deep" / "file").write_bytes(b"deep")
    os.symlink("hello", top / "link")
    os.symlink("dir", top / "dirlink")
    os.symlink("../secret", top / "out")
    os.symlink(directory / "secret", top / "absolute")
    os.symlink("..", top / "up")
    os.symlink("loop", top / "loop")
    os.mkfifo(top / "fifo")
    with open(os.path.join(os.fsencode(top), LATIN1), "wb") as file:
        file.write(b"latin")
    return top


def descriptors() -> dict[str, str]:
    """This process's open descriptors and what they are of."""
    found: dict[str, str] = {}
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # listdir's own
            found[number] = os.readlink(f"/proc/self/fd/{number}")
    return found


def walk(session: Session, root: int, path: bytes) -> int:
    """The control FID of a path of plain names."""
    walked = session.walk(root, path.split(b"/"))
    assert len(walked.inodes) == path.count(b"/") + 1, path
    return walked.inodes[-1].fid


def opened(session: Session, root: int, path: bytes, flags: int = os.O_RDONLY) -> int:
    """An open FID of a path of plain names."""
    return session.open(walk(session, root, path), flags).fid


def create(session: Session, root: int, name: bytes, content: bytes = b"") -> int:
    """A new file's open FID."""
    fid = session.create(Place(root, name), os.O_RDWR, 0o644, None).opened
    done = 0
    while done < len(content):
        done += session.write(fid, done, memoryview(content)[done:])
    return fid


@contextlib.contextmanager
def fails(code: int) -> Iterator[None]:
    """What is in the block raises OSError with this errno."""
    with pytest.raises(OSError) as caught:  # noqa: PT011 - the errno is what is checked
        yield
    assert caught.value.errno == code, f"{caught.value!r} is not {errno.errorcode[code]}"


class Connect(Protocol):
    """Makes a client of a server over the test's tree; keywords are GoferClient's, and Export's terms."""

    def __call__(self, **options: Any) -> GoferClient:
        """A new server and a client of it."""
        raise NotImplementedError
