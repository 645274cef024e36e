"""Users and groups as the client counts them, where that is not as this machine does (cf. user_namespaces(7)).

    --map-uid 0:100000:65536     client's 0..65535 are 100000..165535 here

What has no counterpart is shown as 65534 (nobody), and cannot be given anything (EINVAL), as in a user namespace.
"""

from __future__ import annotations

import errno
import os
from typing import NamedTuple

_OVERFLOW = 65534
_ID_MAX = (1 << 32) - 2


class Range(NamedTuple):
    """`size` numbers from `client` on are those from `server` on."""

    client: int
    server: int
    size: int

    @classmethod
    def parse(cls, text: str) -> Range:
        """CLIENT:SERVER[:SIZE]. Raises ValueError."""
        parts = text.split(":")
        if len(parts) not in (2, 3) or not all(part.isdecimal() for part in parts):
            raise ValueError(f"{text!r} is not CLIENT:SERVER[:SIZE]")
        numbers = [int(part) for part in parts]
        client, server, size = (*numbers, 1)[:3]
        if size < 1 or max(client, server) + size - 1 > _ID_MAX:
            raise ValueError(f"{text!r}: numbers of users are from 0 to {_ID_MAX}")
        return cls(client, server, size)


class IdMap:
    """Ranges, none of which overlap on either side; no range at all is every number as it is."""

    def __init__(self, ranges: list[Range]) -> None:
        """Raises ValueError for ranges that overlap."""
        for at, one in enumerate(ranges):
            for other in ranges[:at]:
                for mine, its in ((one.client, other.client), (one.server, other.server)):
                    if mine < its + other.size and its < mine + one.size:
                        raise ValueError(f"{tuple(one)} and {tuple(other)} overlap")
        self._ranges = ranges

    def to_client(self, number: int) -> int:
        """How the client counts a number of this machine."""
        for one in self._ranges:
            if 0 <= number - one.server < one.size:
                return number - one.server + one.client
        return _OVERFLOW if self._ranges else number

    def to_server(self, number: int) -> int:
        """The number here of one of the client's. Raises OSError EINVAL when there is none."""
        for one in self._ranges:
            if 0 <= number - one.client < one.size:
                return number - one.client + one.server
        if self._ranges or not 0 <= number <= _ID_MAX:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return number


class Ids(NamedTuple):
    """Both maps."""

    uid: IdMap
    gid: IdMap
