"""A peer written from the layout alone, as gVisor's is: no extension, no sleepers bit, `{}`, FUTEX_WAIT and
FUTEX_WAKE on the first word. It shares no code with flipcall, so that both cannot be wrong together.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import struct

from flipcall.lowlevel import PacketWindow

_libc = ctypes.CDLL(None, use_errno=True)
_FUTEX = {"x86_64": 202, "aarch64": 98}[os.uname().machine]
_WAIT, _WAKE = 0, 1
CLIENT_ACTIVE, SERVER_ACTIVE, SHUTDOWN = 0, 1, 2


class Ended(Exception):
    """The other side shut down."""


class Bare:
    """One side of a window. Its own mapping of the window's file."""

    def __init__(self, window: PacketWindow, mine: int) -> None:
        self._map = mmap.mmap(window.fd, window.length, offset=window.offset)
        self._word = ctypes.c_uint32.from_buffer(self._map)
        self.mine, self.theirs = mine, 1 - mine

    def give(self, datagram: bytes) -> None:
        self._map[16 : 16 + len(datagram)] = datagram
        struct.pack_into("=I", self._map, 4, len(datagram))
        if self._word.value == SHUTDOWN:
            raise Ended
        self._word.value = self.theirs
        _libc.syscall(_FUTEX, ctypes.byref(self._word), _WAKE, 1, None, None, 0)

    def take(self) -> bytes:
        while (state := self._word.value) != self.mine:
            if state == SHUTDOWN:
                raise Ended
            _libc.syscall(_FUTEX, ctypes.byref(self._word), _WAIT, self.theirs, None, None, 0)
        (n,) = struct.unpack_from("=I", self._map, 4)
        return self._map[16 : 16 + n]

    def echo(self) -> int:
        """Answer every datagram with its reverse until the end; how many there were."""
        n = 0
        try:
            while True:
                self.give(self.take()[::-1])
                n += 1
        except Ended:
            return n

    def reserved(self) -> bytes:
        """The eight bytes gVisor keeps for itself."""
        return self._map[8:16]

    def close(self) -> None:
        del self._word
        self._map.close()
