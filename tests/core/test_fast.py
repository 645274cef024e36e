"""The hot path's builtins: what they take, what they give, and what they keep alive."""

from __future__ import annotations

import ctypes
import gc
import re
import sys
import threading
import weakref
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from flipcall import fast
from flipcall._core import ffi, lib
from flipcall.dispatch import Way
from flipcall.fast import BULK, FAILED, LARGE, UNDECODABLE, caller, server
from flipcall.outcome import State
from flipcall.testing import pair

HOTPATH = Path(__file__).parents[2] / "flipcall/hotpath"
NOW = 1 << lib.FC_CALL_TIMEOUT_SHIFT  # a timeout of one microsecond


def test_its_numbers_are_the_cores() -> None:
    """The hot path does not include the core's headers, so that it cannot become a second core."""
    source = "".join(file.read_text(encoding="utf-8") for file in sorted(HOTPATH.iterdir()))
    numbers = {
        name: int(value, 0) for name, value in re.findall(r"#define (\w+) (-?[0-9]\w*?)(?:ll)?\b", source)
    }
    assert numbers["CODE_SHIFT"] == lib.FC_FRAME_CODE_SHIFT
    assert numbers["PLAIN_MAX"] == (1 << lib.FC_FRAME_CODE_SHIFT) - 1
    assert (numbers["TICK"], numbers["TOO_BIG"], numbers["ASLEEP"]) == (
        lib.FC_TICK, lib.FC_ERR_SIZE, lib.FC_ASLEEP,
    )  # fmt: skip
    assert lib.FC_PUBLISHED == 0
    assert "enum why { UNDECODABLE, FAILED, LARGE, BULK }" in source
    assert (UNDECODABLE, FAILED, LARGE, BULK) == (0, 1, 2, 3)
    assert "enum way { DECODE, HANDLER, BULK_RESULT }" in source
    assert Way._fields == ("decode", "handler", "bulk")


def test_a_call_and_its_answer() -> None:
    """Bodies of plain frames come as bytes; what is late, of another method or an error, as the core's number."""
    with pair() as p:
        call, serve = caller(*p.client.core()), server(*p.server.core(), [None] * 4, bytes)
        ep, window = p.server.core()
        assert call(3 | NOW, b"ask") == lib.FC_ERR_TIMEOUT
        request = lib.fc_request(ep)
        assert request == 3 | (3 << lib.FC_FRAME_CODE_SHIFT)
        assert ffi.unpack(window + 32, 3) == b"ask"
        assert call(3 | NOW, b"again") == lib.FC_ERR_TURN
        assert serve(request) == request
        p.server.condemn()
        assert lib.fc_reply_request(ep, 0, b"answer", 6) < 0


def _raise(*args: Any) -> Any:
    raise ValueError(*args)


@pytest.mark.parametrize(
    ("way", "why", "value"),
    [
        (Way(_raise, len, False), UNDECODABLE, ValueError),
        (Way(lambda body: (body,), _raise, False), FAILED, ValueError),
        (Way(lambda body: (body,), lambda body: 5, False), FAILED, TypeError),
        (Way(lambda body: (body,), lambda body: bytes(1 << 20), False), LARGE, bytes),
        (Way(_raise, len, True), UNDECODABLE, ValueError),
        (Way(lambda body: (body,), _raise, True), FAILED, ValueError),
        (Way(lambda body: (body,), lambda body: 5, True), BULK, int),
        (Way(lambda body: (body,), lambda body: bytes(1 << 20), True), BULK, bytes),
    ],
)
def test_what_serve_does_not_answer(way: Way, why: int, value: type) -> None:
    """It is told with its reason, its method's number and the exception or the bytes, and control stays here."""

    def encode(result: Any) -> bytes:
        if not isinstance(result, bytes):
            raise TypeError(result)
        return result

    with pair() as p:
        ep, _ = p.server.core()
        serve = server(*p.server.core(), [None, way], encode)
        assert caller(*p.client.core())(1 | NOW, b"ask") == lib.FC_ERR_TIMEOUT
        told = serve(lib.fc_request(ep))
        assert isinstance(told, tuple)
        assert told[:2] == (why, 1)
        assert isinstance(told[2], value)
        assert p.server.state is State.ACTIVE


@pytest.mark.parametrize(
    "wrong", [(), (1,), (1, b"", 2), ("1", b""), (1, "text"), (1, bytearray(b"x")), (-1, b"")]
)
def test_wrong_arguments(wrong: tuple[Any, ...]) -> None:
    """They are TypeErrors or OverflowErrors before anything is sent."""
    with pair() as p:
        call = caller(*p.client.core())
        with pytest.raises((TypeError, OverflowError)):
            call(*wrong)
        assert p.client.state is State.ACTIVE


def test_it_keeps_endpoint_and_window() -> None:
    """A builtin that outlives its endpoint is refused by the core, not by a crash."""
    with pair() as p:
        call = caller(*p.client.core())
        gone = weakref.ref(p.client)
    del p
    gc.collect()
    assert gone() is None
    assert call(1, b"x") < 0
    del call
    gc.collect()


@pytest.fixture
def unforced() -> Iterator[None]:
    """Who waits for the GIL gets it when it is let go, and not because time is up."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1000.0)
    yield
    sys.setswitchinterval(before)


@pytest.mark.parametrize("side", ["client", "server"])
def test_other_threads_run_beside_answers_that_come_at_once(
    side: str, unforced: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However quick the peer is, so that no wait lets the GIL go, it is let go after so many turns. The peer is
    libc here: a turn without the GIL is sem_wait(), which goes on when another thread has run.
    """
    libc = ctypes.CDLL(None)
    semaphore = ffi.new("char[64]")
    address = ctypes.c_void_p(int(ffi.cast("uintptr_t", semaphore)))
    libc.sem_init(address, 0, 0)
    given = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_void_p] * 4)(lambda *_: lib.FC_TICK)
    looked = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p)(lambda _: 0)  # a plain frame without a body
    peer = {
        "fc_ask": given, "fc_answer": given, "fc_glance": looked,
        "fc_call": libc.sem_wait, "fc_reply_request": libc.sem_wait,
    }  # fmt: skip

    def verb(name: str) -> int:
        return ctypes.cast(peer.get(name, given), ctypes.c_void_p).value or 0

    monkeypatch.setattr(fast, "_verb", verb)
    go, ran = threading.Event(), threading.Event()

    def other() -> None:
        go.wait()
        ran.set()
        libc.sem_post(address)

    def turn(*_: object) -> bytes:
        turns.append(ran.is_set())
        if ran.is_set() or len(turns) > 1000:
            raise StopIteration
        return b""

    turns: list[bool] = []
    thread = threading.Thread(target=other)
    thread.start()
    go.set()
    if side == "server":
        serve = server(semaphore, ffi.new("char[64]"), [Way(lambda _: (), turn, False)], bytes)
        assert isinstance(serve(0), tuple)
    else:
        call = caller(semaphore, ffi.new("char[64]"))
        with suppress(StopIteration):
            while True:
                turn(call(0, b""))
    assert turns[-1], "no other thread has run"
    thread.join()
