"""flipcall.Fd in signatures: what arrives, who owns it, and that on every way out all are closed.

That none leaks is looked at after each test (tests/conftest.py).
"""

# ruff: noqa: F403
from __future__ import annotations

import gc
import tempfile
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

import flipcall
from flipcall import Fd
from flipcall.conformance.descriptors import *
from flipcall.conformance.descriptors import Pipe, same_file
from flipcall.conformance.services import Courier, CourierServer
from tests import loops
from tests.support import wait_until


def test_beside_metadata(
    serve: Callable[..., Any], connect: Callable[..., Courier], pipe: Pipe, kind: str
) -> None:
    """What interceptors add travels in the same message."""
    seen = []

    def add(call: Any, proceed: Any) -> Any:
        call.metadata["token"] = "secret"
        return proceed(call)

    def see(call: Any, proceed: Any) -> Any:
        seen.append((call.method, call.metadata["token"]))
        return proceed(call)

    serve(CourierServer(), interceptors=[see])
    courier = connect(Courier, interceptors=[add])
    with courier.same(pipe.reader) as back:
        assert same_file(back, pipe.reader)
    assert courier.write(pipe.writer, b"abc") == 3
    assert courier.maybe() is False
    assert seen == [("same", "secret"), ("write", "secret"), ("maybe", "secret")]
    with pytest.raises(flipcall.MisuseError, match="interceptors"):
        (loops.view if "loop client" in kind else flipcall.view)(courier.read, pipe.reader, 1)


def test_a_field_the_other_side_does_not_know(
    serve: Callable[..., Any], connect: Callable[..., Any], pipe: Pipe, kind: str
) -> None:
    """An added optional Fd is ignored by a side that has no such field, and its descriptor closed."""
    if "loop client" in kind:
        pytest.skip("this client's contract is made anew, and has the fingerprint of its own")

    class Old(msgspec.Struct):
        name: str

    class New(msgspec.Struct):
        name: str
        fd: Fd | None = None

    def contract(kind: Any) -> Any:
        def swap(self: Any, x: Any) -> Any: ...

        swap.__annotations__ = {"x": kind, "return": kind}
        return type("Swap", (flipcall.Service,), {"swap": swap})

    old, new = contract(Old), contract(New)
    from flipcall.service import contract_of

    # The fingerprints differ today; what the sides make of each other's messages must be right all the same.
    contract_of(new).methods[0].fingerprint = contract_of(old).methods[0].fingerprint

    class OldServer(old):  # type: ignore[misc, valid-type]
        def swap(self, x: Any) -> Any:
            return x

    class NewServer(new):  # type: ignore[misc, valid-type]
        def swap(self, x: Any) -> Any:
            return New(x.name, Fd(pipe.writer.detach()))

    serve(OldServer())
    assert connect(new).swap(New("a", pipe.reader)).name == "a"
    with tempfile.TemporaryDirectory() as directory:
        serve(NewServer(), f"{directory}/n")
        assert connect(old, f"{directory}/n").swap(Old("b")).name == "b"
    gc.collect()
    wait_until(pipe.at_end)


def test_only_methods_with_fd_go_the_other_way() -> None:
    """The quickest way stays that of every method without one."""
    from flipcall.dispatch import Dispatcher
    from flipcall.service import contract_of

    names = [m.name for m in contract_of(Courier).methods]
    quick = [name for name, way in zip(names, Dispatcher(CourierServer(), False).plain, strict=True) if way]
    assert quick == ["plain"]


def test_a_client_without_the_class(courier: Courier, path: str, transport: Any) -> None:
    """It is told that it cannot have them, and what it sends is none."""
    from flipcall.dynamic import DynamicClient

    client = DynamicClient(path, transport=transport)
    with pytest.raises(flipcall.MisuseError, match="class"):
        client.call("run", ["give"])
    with pytest.raises(flipcall.CallError):
        client.call("maybe", [0])
    assert client.call("maybe", [None]) is False
    assert client.call("plain", [3]) == 3
    client.close()
