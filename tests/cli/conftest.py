"""A server of a small service in a process of its own, and the command line run as a user would."""

# mypy: disable-error-code="empty-body"
from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import Child, child, run

Flipcall = Callable[..., subprocess.CompletedProcess[str]]


def serve_shop(path: str) -> None:
    """The service these tests call; runs in the child."""
    import os
    import time
    from collections import abc

    import msgspec

    import flipcall

    class Item(msgspec.Struct):
        name: str
        price: float

    class Shop(flipcall.Service):
        def add(self, a: int, b: int = 2) -> int: ...
        def buy(self, item: Item, count: int) -> Item: ...
        def fail(self, errno: int) -> None: ...
        def bad(self) -> str: ...
        def lines(self) -> None: ...
        def digest(self, data: bytes) -> int: ...
        def blob(self, n: int) -> bytes: ...
        def escape(self) -> str: ...
        def keys(self) -> dict[tuple[int, int], str]: ...
        def sleep(self, seconds: float) -> None: ...
        def die(self) -> None: ...
        def count(self, n: int, fail: bool = False) -> abc.Iterator[int]: ...
        def total(self, numbers: abc.Iterator[int], times: int = 1) -> int: ...
        def chunks(self, data: bytes) -> abc.Iterator[bytes]: ...

    class Server(Shop):
        def add(self, a: int, b: int = 2) -> int:
            return a + b

        def buy(self, item: Item, count: int) -> Item:
            return Item(item.name, item.price * count)

        def fail(self, errno: int) -> None:
            raise OSError(errno, os.strerror(errno), "shelf")

        def bad(self) -> str:
            raise ZeroDivisionError("no")

        def lines(self) -> None:
            raise ValueError("two\nlines \x1b[31mred")

        def digest(self, data: bytes) -> int:
            return sum(data)

        def blob(self, n: int) -> bytes:
            return bytes(range(n))

        def escape(self) -> str:
            return "\x1b[31m \x9b31m \u202e é"

        def keys(self) -> dict[tuple[int, int], str]:
            return {(1, 2): "x"}

        def sleep(self, seconds: float) -> None:
            time.sleep(seconds)

        def die(self) -> None:
            os._exit(3)

        def count(self, n: int, fail: bool = False) -> abc.Iterator[int]:
            yield from range(n)
            if fail:
                raise ValueError("enough")

        def total(self, numbers: abc.Iterator[int], times: int = 1) -> int:
            return sum(numbers) * times

        def chunks(self, data: bytes) -> abc.Iterator[bytes]:
            for i in range(len(data)):
                yield data[i : i + 1]

    server = flipcall.Server(Server(), path, stop_with_parent=True)
    server.start()
    print("listening", flush=True)
    sys.stdin.readline()
    server.stop()


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[tuple[str, Child]]:
    """A running server: its socket, and its process."""
    path = str(tmp_path / "shop.sock")
    with child(serve_shop, path) as server:
        server.expect("listening")
        yield path, server


@pytest.fixture
def flipcall() -> Flipcall:
    """Run `flipcall ARGS…` as installed; status and outputs."""
    program = str(Path(sys.executable).parent / "flipcall")

    def invoke(
        *args: object, env: dict[str, str] | None = None, stdin: str = ""
    ) -> subprocess.CompletedProcess[str]:
        return run([program, *map(str, args)], env=env, stdin=stdin)

    return invoke


def one_line_error(done: subprocess.CompletedProcess[str], status: int) -> str:
    """Assert that a command failed as it should: one line on stderr, nothing on stdout. The line."""
    assert done.returncode == status, done
    assert done.stdout == ""
    assert done.stderr.startswith("flipcall: ")
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.endswith("\n")
    return done.stderr
