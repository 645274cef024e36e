"""A peer that writes every wrong value: an error of flipcall's, in time, and an endpoint that can still say so."""

from __future__ import annotations

import json
import threading
import time
from typing import get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flipcall import DeadlineExceeded, FlipcallError, ProtocolError
from flipcall.lowlevel import Endpoint, Side, State, WaitPolicy
from flipcall.testing import Word, pair, read_word, windows, write_word
from tests.endpoint.running import POLICIES, Running, check_over, make_pair, waiting

WORDS = get_args(Word)
u32 = st.integers(0, 2**32 - 1) | st.sampled_from([0, 1, 2, 3, 4, 5, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])
quick = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.parametrize("moment", POLICIES)
@pytest.mark.parametrize("verb", ["connect", "recv_first", "send_recv", "recv"])
@pytest.mark.parametrize("value", [5, 6, 0x80000000, 0xFFFFFFFF])
def test_wrong_state_during_wait(verb: str, moment: str, value: int) -> None:
    """A state that is none ends the wait, asleep or spinning, with ProtocolError that names it; the peer's too."""
    with waiting(verb, "memfd", moment) as (mine, other, running):
        write_word(other, "conn_state", value)
        error = running.error()
        assert isinstance(error, ProtocolError)
        assert str(value) in str(error)
        check_over(mine)
        assert read_word(other, "conn_state") == 2


@pytest.mark.parametrize("value", [4081, 4096, 2**31, 2**32 - 1])
@pytest.mark.parametrize("verb", ["connect", "recv_first", "send_recv", "recv"])
def test_wrong_length_during_wait(verb: str, value: int) -> None:
    """A datagram longer than the window is a ProtocolError that names its length."""
    with waiting(verb, "memfd", "parked") as (mine, other, running):
        write_word(other, "data_len", value)
        write_word(other, "conn_state", int(mine.side))
        error = running.error()
        assert isinstance(error, ProtocolError)
        assert str(value) in str(error)
        check_over(mine)


@pytest.mark.parametrize("value", [1, 5, 0xFFFFFFFF])
def test_wrong_state_while_active(value: int) -> None:
    """Control taken by force is found when it is to be given away: ProtocolError."""
    with make_pair() as both:
        write_word(both.server, "conn_state", value)
        with pytest.raises(ProtocolError, match=str(value)):
            both.client.send_recv(0)
        check_over(both.client)


@quick
@given(
    st.lists(st.tuples(st.sampled_from(WORDS), u32, st.booleans()), max_size=6),
    st.sampled_from([WaitPolicy.frugal(), WaitPolicy(spin_ns=20_000)]),
    st.booleans(),
)
def test_any_words(writes: list[tuple[Word, int, bool]], policy: WaitPolicy, server: bool) -> None:
    """Whatever the header's words are, a verb returns a length in bounds or raises one of flipcall's errors."""
    with pair(policy=policy) as both:
        mine, other = (both.server, both.client) if server else (both.client, both.server)
        for word, value, wake in writes:
            write_word(other, word, value, wake=wake)
        for _ in range(3):
            deadline = time.monotonic_ns() + 1_000_000
            try:
                if mine.state is State.ACTIVE:
                    n = mine.send_recv(1, deadline_ns=deadline)
                else:
                    n = mine.recv(deadline_ns=deadline)
                assert 0 <= n <= mine.data_cap
            except DeadlineExceeded:
                pass
            except FlipcallError:
                assert mine.state is State.OVER
            for word, value, wake in writes:
                write_word(other, word, value, wake=wake)
        assert mine.state.name in repr(mine)
        assert mine.stats.flips <= 4


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
offers = st.fixed_dictionaries(
    {}, optional={"sleepers": json_values, "switches": json_values, "switch": json_values, "": json_values}
)
datagrams = st.one_of(
    st.binary(max_size=64),
    json_values.map(lambda v: json.dumps(v).encode()),
    offers.map(lambda v: json.dumps(v).encode()),
    st.sampled_from(
        [b"", b"[" * 4000, b'{"a":' * 700, b"9" * 4080, b"\xff\xfe{\0}\0", b'{"sleepers": 1e999}', b"NaN"]
    ),
)


@quick
@given(datagrams, st.sampled_from(list(Side)))
def test_any_connecting_datagram(datagram: bytes, side: Side) -> None:
    """Whatever the peer connects with, this side is connected, or over with one of flipcall's errors."""
    one, other = windows()
    with other, Endpoint(one, side, policy=WaitPolicy.frugal()) as mine:
        if side is Side.CLIENT:
            running = Running(mine.connect)
            while read_word(other, "conn_state") != Side.SERVER:
                time.sleep(0)
        other.buffer[16 : 16 + len(datagram)] = datagram
        write_word(other, "data_len", len(datagram))
        write_word(other, "conn_state", int(side))
        try:
            if side is Side.CLIENT:
                running.result()
            else:
                mine.accept(deadline_ns=0)
        except FlipcallError:
            check_over(mine)
        else:
            assert mine.state is (State.ACTIVE if side is Side.CLIENT else State.WAITING)
            assert isinstance(json.loads(datagram), dict)


@pytest.mark.parametrize("datagram", [b"", b"[]", b"null", b"1", b"{", b"{}}", b"\0", b"[" * 4000])
def test_connecting_with_no_object(datagram: bytes) -> None:
    """What is not a JSON object is a ProtocolError on the server's side, and the client is told."""
    with make_pair(connected=False) as both:
        both.client.data[: len(datagram)] = datagram
        write_word(both.client, "data_len", len(datagram))
        write_word(both.client, "conn_state", 1)
        with pytest.raises(ProtocolError):
            both.server.recv_first()
        check_over(both.server)
        assert read_word(both.client, "conn_state") == 2


def test_peer_that_scribbles_all_the_time() -> None:
    """Words that change while they are read: no crash, no hang, nothing but flipcall's errors."""
    enough = threading.Event()
    one, other = windows()
    rounds = 0

    def scribble() -> None:
        value = 1
        while not enough.is_set():
            value = value * 1103515245 + 12345 & 0xFFFFFFFF
            write_word(
                other,
                WORDS[value >> 16 & 3],
                value >> 8 & 7 if value & 0x40 else value,
                wake=bool(value & 64),
            )

    with other, one:
        thread = Running(scribble)
        end = time.monotonic() + 1.0
        while time.monotonic() < end:
            third, _ = windows_again(one)
            with Endpoint(third, Side(rounds % 2), policy=WaitPolicy(spin_ns=10_000)) as mine:
                mine.core()[0].turn = State.WAITING
                mine.core()[0].trust_sleepers = 1
                for _ in range(20):
                    deadline = time.monotonic_ns() + 2_000_000
                    try:
                        if mine.state is State.ACTIVE:
                            mine.send_recv(1, deadline_ns=deadline)
                        else:
                            assert mine.recv(deadline_ns=deadline) <= mine.data_cap
                    except FlipcallError:
                        if mine.state is State.OVER:
                            break
            rounds += 1
        enough.set()
        thread.result()
    assert rounds


def windows_again(window):  # noqa: ANN001, ANN201
    """One more mapping of a window's memory."""
    import os

    from flipcall.lowlevel import PacketWindow

    again = PacketWindow.attach(os.dup(window.fd), window.length)
    return again, window
