"""What an endpoint can be and do next, and what the C core's results come to: states, counts, exceptions."""

import enum
import os
from typing import Any

import msgspec

from ._core import lib
from .errors import (
    BusyError,
    ClosedError,
    DeadlineExceeded,
    FlipcallError,
    ForkedError,
    MisuseError,
    PeerDiedError,
    ProtocolError,
)


class Side(enum.IntEnum):
    """Which side of the window; the client is active first."""

    CLIENT = lib.FC_CLIENT_ACTIVE
    SERVER = lib.FC_SERVER_ACTIVE


class State(enum.IntEnum):
    """What an endpoint can do next."""

    NEW = lib.FC_TURN_NEW
    ACTIVE = lib.FC_TURN_MINE
    WAITING = lib.FC_TURN_THEIRS
    LAST = lib.FC_TURN_LAST
    OVER = lib.FC_TURN_OVER
    CLOSED = 100


class Stats(msgspec.Struct, frozen=True):
    """What an endpoint has done so far; counts."""

    flips: int
    spins_paid: int
    spins_lost: int
    parks: int
    swaps: int
    wakes: int
    wakes_skipped: int
    rescues: int

    @classmethod
    def none(cls) -> "Stats":
        """Of a side that has done nothing."""
        return cls(0, 0, 0, 0, 0, 0, 0, 0)


_FAULTS = {
    lib.FC_FAULT_STATE: "conn_state was {}",
    lib.FC_FAULT_LENGTH: "data_len {} is beyond the window's {cap}",
    lib.FC_FAULT_SHORT: "a datagram of {} bytes cannot hold a frame header",
    lib.FC_FAULT_KIND: "unexpected frame kind {}",
    lib.FC_FAULT_FLAGS: "unknown frame flags {:#x}",
    lib.FC_FAULT_BODY: "body_len {} is beyond its datagram",
    lib.FC_FAULT_PADDING: "a datagram of {} bytes ends between body and attachment",
    lib.FC_FAULT_CALL_ID: "frame for call {}, which was not asked",
    lib.FC_FAULT_RESERVED: "a reserved field was {}",
    lib.FC_FAULT_PART: "a part of {} bytes: none, or more than were announced",
    lib.FC_FAULT_ITEMS: "the items published went to {:#x}",
}


def error_of(result: int, ep: Any, state: State, pid: int) -> FlipcallError:
    """The exception for a negative `result` of the C endpoint `ep`; `pid` is the peer's, 0 when unknown."""
    peer = f"the peer (process {pid or '?'})"
    match result:
        case lib.FC_ERR_TIMEOUT:
            return DeadlineExceeded(f"{peer} did not answer before the deadline")
        case lib.FC_ERR_SHUTDOWN:
            return ClosedError(f"the connection with process {pid or '?'} was shut down")
        case lib.FC_ERR_DIED:
            return PeerDiedError(f"{peer} is gone", pid)
        case lib.FC_ERR_PROTOCOL:
            what = _FAULTS[ep.fault].format(ep.fault_value, cap=ep.cap)
            return ProtocolError(f"{peer} broke the protocol: {what}", pid)
        case lib.FC_ERR_BUSY:
            return BusyError("another thread is using this endpoint")
        case lib.FC_ERR_TURN:
            return MisuseError(f"not possible in state {state.name}")
        case lib.FC_ERR_SIZE:
            return MisuseError(f"the datagram is larger than the window's {ep.cap} bytes")
        case lib.FC_ERR_FORKED:
            return ForkedError("this endpoint belongs to the parent process: connect again after fork()")
    code = ep.fault_value
    return FlipcallError(f"futex: {os.strerror(code)} (errno {code})")
