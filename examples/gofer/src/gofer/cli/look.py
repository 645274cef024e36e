"""Looking at the tree: `ls`, `stat`, `tree`, `du`."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from enum import Enum

import click

from gofer import names, show
from gofer.cli.common import Failures, connected, on_gofer, put, quoted
from gofer.client import GoferClient, Transport
from gofer.protocol import Stat
from gofer.tree import Found, children, walk

Entry = tuple[bytes, Stat]
"""A name, and what is there."""


@click.command()
@click.argument("paths", nargs=-1)
@click.option("-l", "long", is_flag=True, help="Attributes too.")
@click.option("-a", "every", is_flag=True, help="Names that begin with a dot too.")
@click.option("-A", "hidden", is_flag=True, help="The same without `.` and `..`.")
@click.option("-d", "itself", is_flag=True, help="Directories themselves, not what is in them.")
@click.option("-R", "recursive", is_flag=True, help="Directories below too.")
@click.option("-1", "_one", is_flag=True, help="One name a line, which it is always.")
@on_gofer
def ls(
    paths: tuple[str, ...],
    long: bool,
    every: bool,
    hidden: bool,
    itself: bool,
    recursive: bool,
    _one: bool,
    socket_path: str,
    transport: Transport,
) -> None:
    """List directories (the root by default), and files."""
    with connected("ls", socket_path, transport, write_error=2) as (client, failures):
        files: list[Entry] = []
        directories: list[bytes] = []
        for path in paths or ("/",):
            try:
                info = _argument(client, path, follow=not long)
            except OSError as error:
                failures.report(f"cannot access {quoted(path)}", error, status=2)
                continue
            raw = names.encode(path)
            if stat.S_ISDIR(info.mode) and not itself:
                directories.append(raw)
            else:
                files.append((raw, info))
        _put_entries(client, b"", sorted(files), long)
        todo = [(path, True) for path in sorted(directories, reverse=True)]
        first = not files
        while todo:
            top, argument = todo.pop()
            try:
                entries = _entries(client, top, every or hidden, every)
            except OSError as error:
                failures.report(f"cannot open directory {quoted(top)}", error, 2 if argument else 1)
                continue
            if recursive or len(paths) > 1:
                put(("" if first else "\n") + show.name(top) + ":")
            first = False
            if long:
                put(f"total {-(-sum(info.blocks for _, info in entries) // 2)}")
            _put_entries(client, top, entries, long)
            if recursive:
                below = [name for name, info in entries if stat.S_ISDIR(info.mode) and name not in _HERE]
                todo.extend((os.path.join(top, name), False) for name in reversed(below))


_HERE = (b".", b"..")


def _entries(client: GoferClient, top: bytes, hidden: bool, here: bool) -> list[Entry]:
    """What is in a directory, by name; with `here`, the directory and the one above it, too."""
    entries = [(dent.name, info) for dent, info in children(client, top)]
    if not hidden:
        return [entry for entry in entries if not entry[0].startswith(b".")]
    if here:
        entries += [(name, client.stat(os.path.join(top, name))) for name in _HERE]
    return sorted(entries)


def _argument(client: GoferClient, path: str, follow: bool) -> Stat:
    """What ls shows of an argument: a link that leads nowhere is shown itself."""
    try:
        return client.stat(path, follow_symlinks=follow)
    except FileNotFoundError:
        return client.lstat(path)


def _put_entries(client: GoferClient, top: bytes, entries: list[Entry], long: bool) -> None:
    if not long:
        for name, _ in entries:
            put(show.name(name))
        return
    rows = [(name, info, _target(client, os.path.join(top, name), info)) for name, info in entries]
    for line in show.long_listing(rows):
        put(line)


def _target(client: GoferClient, path: bytes, info: Stat) -> bytes | None:
    if not stat.S_ISLNK(info.mode):
        return None
    try:
        return client.readlink(path)
    except OSError:
        return None  # changed since it was listed


@click.command(name="stat")
@click.argument("paths", nargs=-1, required=True)
@on_gofer
def stat_command(paths: tuple[str, ...], socket_path: str, transport: Transport) -> None:
    """Show everything known of files (of a symbolic link: of the link)."""
    with connected("stat", socket_path, transport) as (client, failures):
        for path in paths:
            try:
                info = client.lstat(path)
                raw = names.encode(path)
                for line in show.stat_lines(raw, info, _target(client, raw, info)):
                    put(line)
            except OSError as error:
                failures.report(f"cannot statx {quoted(path)}", error)


@click.command()
@click.argument("path", default="/")
@click.option("-a", "hidden", is_flag=True, help="Names that begin with a dot too.")
@on_gofer
def tree(path: str, hidden: bool, socket_path: str, transport: Transport) -> None:
    """Draw everything below PATH."""
    with connected("tree", socket_path, transport) as (client, failures):
        top = names.encode(path)
        counts = {True: 0, False: 0}

        def unreadable(below: bytes, error: OSError) -> None:
            failures.report(quoted(below), error)

        def counted() -> Iterator[Found]:
            for found in walk(client, top, hidden=hidden, unreadable=unreadable):
                counts[stat.S_ISDIR(found.stat.mode)] += 1
                yield found

        put(show.name(top))
        for line in show.tree(counted(), lambda one: _target(client, os.path.join(top, one.path), one.stat)):
            put(line)
        directories = f"{counts[True]} director{'y' if counts[True] == 1 else 'ies'}"
        put(f"\n{directories}, {counts[False]} file{'' if counts[False] == 1 else 's'}")


@click.command()
@click.argument("paths", nargs=-1)
@click.option("-a", "every", is_flag=True, help="Files too, not directories alone.")
@click.option("-s", "summary", is_flag=True, help="Only the sum of each argument.")
@click.option("-h", "human", is_flag=True, help="Sizes in K, M, G; otherwise KiB.")
@on_gofer
def du(
    paths: tuple[str, ...], every: bool, summary: bool, human: bool, socket_path: str, transport: Transport
) -> None:
    """Say how much room directories take."""
    if every and summary:
        raise click.UsageError("cannot both summarize and show all entries")
    with connected("du", socket_path, transport) as (client, failures):
        usage = _Usage(client, failures)
        for path in paths or ("/",):
            try:
                info = client.lstat(path)
            except OSError as error:
                failures.report(f"cannot access {quoted(path)}", error)
                continue
            for blocks, found, kind in usage.of(names.encode(path), info):
                if kind is _Kind.TOP or (not summary and (every or kind is _Kind.DIRECTORY)):
                    put(f"{show.room(blocks, human)}\t{show.name(found)}")


class _Kind(Enum):
    """What a line of du is about."""

    TOP, DIRECTORY, FILE = range(3)


class _Usage:
    """The room that trees take: a file with several names, and an argument given twice, count once."""

    def __init__(self, client: GoferClient, failures: Failures) -> None:
        self._client = client
        self._failures = failures
        self._seen: set[tuple[int, int]] = set()

    def of(self, top: bytes, info: Stat) -> Iterator[tuple[int, bytes, _Kind]]:
        """Blocks of all that is at `top`, what is below a directory before it."""
        if not self._first(info):
            return
        totals = [info.blocks]
        open_directories = [top]

        def close(depth: int) -> Iterator[tuple[int, bytes, _Kind]]:
            while len(totals) > depth:
                total, path = totals.pop(), open_directories.pop()
                if totals:
                    totals[-1] += total
                yield total, path, _Kind.DIRECTORY if totals else _Kind.TOP

        if stat.S_ISDIR(info.mode):
            counted = b"/"  # a directory below that was an argument, too
            for found in walk(self._client, top, unreadable=self._unreadable):
                yield from close(found.depth + 1)
                if found.path.startswith(counted):
                    continue
                path = os.path.join(top, found.path)
                if not self._first(found.stat):
                    counted = found.path + b"/" if stat.S_ISDIR(found.stat.mode) else counted
                    continue
                if stat.S_ISDIR(found.stat.mode):
                    totals.append(found.stat.blocks)
                    open_directories.append(path)
                else:
                    totals[-1] += found.stat.blocks
                    yield found.stat.blocks, path, _Kind.FILE
        yield from close(0)

    def _first(self, info: Stat) -> bool:
        """Whether this has not been counted. Of a directory there is one name; what is in it would be counted."""
        if info.nlink > 1 or stat.S_ISDIR(info.mode):
            if (info.dev, info.ino) in self._seen:
                return False
            self._seen.add((info.dev, info.ino))
        return True

    def _unreadable(self, path: bytes, error: OSError) -> None:
        self._failures.report(f"cannot read directory {quoted(path)}", error)
