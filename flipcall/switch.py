"""Which switch a connection uses: how its sides sleep and wake each other (core/endpoint.h, struct fc_switch).

The client offers, in the JSON that connects a window, what it can do, best first; the server takes the first that
it can do too, and says which. A peer that offers nothing (gVisor's {}) gets the futex. A switch asked for by name
is the only one offered or taken: where it cannot work, connecting fails and says why. `notify` is used only by a
client that asks for it by name; a server takes it unless it was told to use another one.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from . import kernel
from ._core import lib
from .errors import UnsupportedError

FUTEX = "futex"
SWAP = "swap"
NOTIFY = "notify"


class Switch(NamedTuple):
    """A way to sleep and wake: its name, its number in the C core, and whether this kernel has it, and why."""

    name: str
    number: int
    probe: Callable[[], tuple[bool, str]]
    automatic: bool = True  # may be used by somebody who has not asked for it by name


def _always() -> tuple[bool, str]:
    return True, "FUTEX_WAIT and FUTEX_WAKE are everywhere"


def _notify() -> tuple[bool, str]:
    feature = kernel.seccomp_notify_sync_wake()
    return feature.available, feature.reason


def _swap() -> tuple[bool, str]:
    """FUTEX_SWAP, and where it works its number told to the C core, which has none of its own."""
    found = kernel.futex_swap()
    works = found.available and lib.fc_set_swap(found.value) == lib.FC_OK
    return works, found.reason


# Best first: a swap wakes the peer where this side sleeps, in one system call instead of two.
SWITCHES = (
    Switch(SWAP, lib.FC_SWITCH_SWAP, _swap),
    # Leaves a filter behind, so only for who asks for it (flipcall.notify).
    Switch(NOTIFY, lib.FC_SWITCH_NOTIFY, _notify, automatic=False),
    Switch(FUTEX, lib.FC_SWITCH_FUTEX, _always),
)
_BY_NAME = {s.name: s for s in SWITCHES}


def offered(asked: str | None) -> list[str]:
    """The switches this side can do, best first; only `asked` when one was asked for.

    Raises UnsupportedError when that one cannot work here, ValueError when there is no such switch.
    """
    if asked is None:
        return [s.name for s in SWITCHES if s.automatic and s.probe()[0]]
    if asked not in _BY_NAME:
        raise ValueError(f"no switch is called {asked!r}: there are {', '.join(_BY_NAME)}")
    works, reason = _BY_NAME[asked].probe()
    if not works:
        raise UnsupportedError(f"switch {asked} cannot work here: {reason}")
    return [asked]


def taken(mine: Sequence[str], theirs: object) -> str:
    """The first of `theirs`, the peer's offer as it came, that is in `mine`. Raises UnsupportedError for none."""
    names = [n for n in theirs if isinstance(n, str)] if isinstance(theirs, list) else [FUTEX]
    for name in names:
        if name in mine:
            return name
    raise UnsupportedError(
        f"the sides have no switch in common: {', '.join(mine)} here, {_said(names)} there"
    )


def _said(names: Sequence[str]) -> str:
    """What a peer said it can do, for an error: names nobody knows are its own words, so quoted and cut short."""
    words = [name if name in _BY_NAME else repr(name[:20]) for name in names[:8]]
    return ", ".join(words) or "none"


def number(name: str) -> int:
    """The C core's number of a switch."""
    return _BY_NAME[name].number
