"""How the command line prints: JSON for programs, and text from a peer as text, not as terminal control."""

import os
import sys
from typing import Any

import click
import msgspec
from rich.console import Console

MESSAGE_MAX = 2000  # characters of an error line
PIPE_WIDTH = 200


def one_line(text: str) -> str:
    """`text` on one line and without control characters: it may come from the other side."""
    shown = printable("; ".join(part.strip() for part in text.splitlines() if part.strip()))
    return shown if len(shown) <= MESSAGE_MAX else f"{shown[:MESSAGE_MAX]}…"


def printable(text: str) -> str:
    """`text` with everything a terminal might act on written as an escape."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def print_json(value: Any) -> None:
    """One JSON document on stdout; bytes as base64. Raises TypeError for what JSON has no word for."""
    _echo_json(msgspec.json.format(msgspec.json.encode(value, order="deterministic"), indent=2))


def print_json_line(value: Any) -> None:
    """One JSON document on a line of stdout, at once. Raises as print_json() does."""
    _echo_json(msgspec.json.encode(value, order="deterministic"))
    sys.stdout.flush()


def _echo_json(document: bytes) -> None:
    # JSON escapes the C0 controls itself; what is left (C1, bidi overrides) is valid in strings only.
    click.echo("".join(c if c == "\n" or c.isprintable() else _json_escape(c) for c in document.decode()))


def _json_escape(char: str) -> str:
    units = char.encode("utf-16-be")
    return "".join(f"\\u{int.from_bytes(units[i : i + 2], 'big'):04x}" for i in range(0, len(units), 2))


def console() -> Console:
    """Where tables go. No markup and no highlighting: text from elsewhere stays text.

    Into a file or pipe lines are as long as they need to be (COLUMNS, if set, decides).
    """
    out = Console(markup=False, highlight=False, emoji=False)
    if not out.is_terminal and "COLUMNS" not in os.environ:
        out.width = PIPE_WIDTH
    return out
