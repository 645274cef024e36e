"""The hot path's builtins: what they take, what they give, and what they keep alive."""

from __future__ import annotations

import gc
import re
import weakref
from pathlib import Path
from typing import Any

import pytest

from flipcall._core import ffi, lib
from flipcall.fast import caller, replier
from flipcall.outcome import State
from flipcall.testing import pair

FAST = Path(__file__).parents[2] / "flipcall/fast.c"
NOW = 1 << lib.FC_CALL_TIMEOUT_SHIFT  # a timeout of one microsecond


def test_its_numbers_are_the_cores() -> None:
    """fast.c does not include the core's headers, so that it cannot become a second core."""
    numbers = dict(re.findall(r"#define (\w+) (\w+?)(?:ll)?\b", FAST.read_text(encoding="utf-8")))
    assert int(numbers["CODE_SHIFT"]) == lib.FC_FRAME_CODE_SHIFT
    assert int(numbers["PLAIN_MAX"], 16) == (1 << lib.FC_FRAME_CODE_SHIFT) - 1


def test_a_call_and_its_answer() -> None:
    """Bodies of plain frames come as bytes; what is late, of another method or an error, as the core's number."""
    with pair() as p:
        call, reply = (make(*side.core()) for make, side in ((caller, p.client), (replier, p.server)))
        ep, window = p.server.core()
        assert call(3 | NOW, b"ask") == lib.FC_ERR_TIMEOUT
        assert lib.fc_request(ep) == 3 | (3 << lib.FC_FRAME_CODE_SHIFT)
        assert ffi.unpack(window + 32, 3) == b"ask"
        assert call(3 | NOW, b"again") == lib.FC_ERR_TURN
        p.server.condemn()
        assert reply(3, b"answer") < 0


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
        if wrong != (-1, b""):
            with pytest.raises((TypeError, OverflowError)):
                replier(*p.server.core())(*wrong)


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
