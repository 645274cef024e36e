"""What the two sides of a window say to each other when they connect: a JSON object each way (proto/window.md).

The client's says what it can do, the server's what is done. An empty object, or one without these keys, is a peer
without extensions.
"""

import json
from typing import Any

from .errors import MisuseError
from .notify import NotifyLink
from .switch import NOTIFY, offered


def switches(switch: str | None, notify: NotifyLink | None) -> list[str]:
    """What this side offers, the best first. Raises MisuseError, UnsupportedError."""
    if notify is None:
        if switch == NOTIFY:
            raise MisuseError("switch notify needs notify=, this side's NotifyLink (flipcall.notify)")
        return offered(switch)
    if switch not in (None, NOTIFY):
        raise MisuseError(f"a NotifyLink is of no use to switch {switch}")
    return [NOTIFY] if switch == NOTIFY else [NOTIFY, *offered(None)]


def request(offer: list[str], placement: str, notify: NotifyLink | None, doorbell: bool) -> bytes:
    """The client's datagram. doorbell: its control socket carries rings, and it hears them."""
    keys: dict[str, Any] = {"sleepers": 1, "switches": offer, "placement": placement}
    if notify is not None:
        keys["notify"] = notify.index
    if doorbell:
        keys["doorbell"] = 1
    return json.dumps(keys).encode()


def answer(to: dict[str, Any], switch: str, placement: str, doorbell: bool) -> bytes:
    """The server's datagram: an empty object gets an empty one."""
    keys: dict[str, Any] = {"sleepers": 1, "switch": switch, "placement": placement} if to else {}
    if doorbell:
        keys["doorbell"] = 1
    return json.dumps(keys).encode()


def read(datagram: bytes) -> dict[str, Any] | None:
    """What the peer has said; None when it is no JSON object."""
    try:
        said = json.loads(datagram)
    except (ValueError, RecursionError):
        return None
    return said if isinstance(said, dict) else None
