"""One client's session: all operations together."""

from __future__ import annotations

from gofer.sockets import Sockets


class Session(Sockets):
    """What one client can do in an exported tree.

    Each class in the line adds the operations its module is named for, and uses those below it:
    Operations, Looking, Opening, Data, Changing, Xattrs, Sockets.
    """
