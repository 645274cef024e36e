"""A file name: what it is, what is allowed in one, and how it is shown to a person.

On Linux a name is bytes, not text: anything but NUL and `/`. So names travel as bytes (msgpack *bin*), and a
name that is not UTF-8 arrives unharmed. Text appears only at the edges: `encode` and `decode` translate with
`surrogateescape`, which round-trips every byte whatever the locale, and `show` makes a name safe for a
terminal.
"""

from __future__ import annotations

import errno
import os

NAME_MAX = 255
"""Longest name in bytes (linux/limits.h); the same for every file system the kernel offers."""


def check(name: bytes) -> None:
    """Refuse what is not the name of a directory's own entry.

    The server calls this on every name before any system call sees it, so that a name can never climb (`..`),
    restart (`/x`), descend (`a/b`) or stay (`.`, empty), or be cut short by C (`a\\0b`). The kernel, asked
    with RESOLVE_BENEATH, would refuse to escape too; this is the first of the two locks.

    Raises OSError: ENAMETOOLONG for one longer than NAME_MAX, EINVAL for the others (as lisafs answers).
    """
    if len(name) > NAME_MAX:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
    if name in _NEVER or b"/" in name or b"\0" in name:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))


_NEVER = (b"", b".", b"..")


def encode(path: str | bytes | os.PathLike[str] | os.PathLike[bytes]) -> bytes:
    """The bytes of a path in the gofer's tree, given as text, bytes or a path object."""
    raw = os.fspath(path)
    return raw if isinstance(raw, bytes) else raw.encode("utf-8", "surrogateescape")


def decode(name: bytes) -> str:
    """The text of a name; `encode` gives the same bytes back, UTF-8 or not."""
    return name.decode("utf-8", "surrogateescape")


def show(name: bytes) -> str:
    """A name for a terminal: what cannot be printed is escaped (`\\x1b`, `\\xff`).

    A file name is chosen by somebody else, and an escape sequence in one would otherwise drive the terminal.
    """
    text = decode(name)
    return "".join(_printable(character) for character in text)


def _printable(character: str) -> str:
    if character.isprintable() and character != "\\":
        return character
    if character == "\\":
        return "\\\\"
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # surrogateescape: a byte that was not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return "".join(f"\\x{byte:02x}" for byte in character.encode("utf-8", "surrogatepass"))
