"""The hot path's builtins: what they take, what they give, and what they keep alive."""

from __future__ import annotations

import gc
import re
import weakref
from pathlib import Path
from typing import Any

import pytest

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
