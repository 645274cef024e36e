"""Extended attributes, of the `user.` namespace: the others mean something to the host (capabilities, labels)."""

from __future__ import annotations

import errno
import os

from gofer.changing import Changing
from gofer.operations import error
from gofer.protocol import XATTR_MAX

_NAMESPACE = b"user."


class Xattrs(Changing):
    """The operations on extended attributes, of control and open FIDs."""

    def get_xattr(self, fid: int, name: bytes) -> bytes:
        _check_name(name)
        with self._fids.any(fid) as handle, self._tree.here.lock, handle.node.reading:
            return os.getxattr(self._export.link_to(handle.fd), name)

    def set_xattr(self, fid: int, name: bytes, value: bytes, flags: int) -> None:
        self._check_writable()
        _check_name(name)
        if flags not in (0, os.XATTR_CREATE, os.XATTR_REPLACE):
            raise error(errno.EINVAL)
        if len(value) > XATTR_MAX:
            raise error(errno.E2BIG)
        with self._fids.any(fid) as handle, self._tree.here.lock, handle.node.writing:
            os.setxattr(self._export.link_to(handle.fd), name, value, flags)

    def list_xattr(self, fid: int) -> list[bytes]:
        with self._fids.any(fid) as handle, self._tree.here.lock, handle.node.reading:
            found = os.listxattr(self._export.link_to(handle.fd))
        return [name for name in map(os.fsencode, found) if name.startswith(_NAMESPACE)]

    def remove_xattr(self, fid: int, name: bytes) -> None:
        self._check_writable()
        _check_name(name)
        with self._fids.any(fid) as handle, self._tree.here.lock, handle.node.writing:
            os.removexattr(self._export.link_to(handle.fd), name)


def _check_name(name: bytes) -> None:
    if not name.startswith(_NAMESPACE):
        raise error(errno.EOPNOTSUPP)
    if len(name) > 255:
        raise error(errno.ERANGE)
    if b"\0" in name or name == _NAMESPACE:
        raise error(errno.EINVAL)
