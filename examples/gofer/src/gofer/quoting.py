"""A name in a message, as coreutils quote it: a shell reads the name from it, whatever bytes it is.

The rules are those of gnulib's quotearg(3): single quotes; double ones for a name with a single quote where that
changes nothing else; `$'\\n'` for what cannot be printed, so that no name drives a terminal.
"""

from __future__ import annotations

from gofer import names

_ESCAPES = {7: "\\a", 8: "\\b", 9: "\\t", 10: "\\n", 11: "\\v", 12: "\\f", 13: "\\r"}

_NEVER_BARE = frozenset(" !\"$&'()*;<=>?[\\^`|:")
"""What a shell, or who reads `cat: NAME: message`, would take for something else."""

_NEVER_IN_DOUBLE_QUOTES = frozenset('!"#$&()*;<=>?[\\^`{|}~')


def quote(name: bytes) -> str:
    """A name in quotes, for the middle of a sentence."""
    text = names.decode(name)
    printable = text.isprintable()
    if "'" in text and printable and not _NEVER_IN_DOUBLE_QUOTES.intersection(text):
        return f'"{text}"'
    quoted: list[str] = []
    escaping = False
    for character in text:
        if character.isprintable():
            if character == "'":
                quoted.append("'\\''")
            else:
                quoted.append("''" * escaping + character)
            escaping = False
        else:
            quoted.append("'$'" * (not escaping) + _escaped(character))
            escaping = True
    return "'" + "".join(quoted) + "'"


def quote_if_needed(name: bytes) -> str:
    """A name as it is, where it cannot be mistaken; otherwise in quotes."""
    text = names.decode(name)
    bare = text.isprintable() and text[:1] not in ("", "#", "~") and text not in ("{", "}")
    return text if bare and not _NEVER_BARE.intersection(text) else quote(name)


def _escaped(character: str) -> str:
    if ord(character) in _ESCAPES:
        return _ESCAPES[ord(character)]
    return "".join(f"\\{byte:03o}" for byte in names.encode(character))
