"""Looking at the tree: `ls`, `stat`, `tree`, `du`."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from typing import Any

import click

from gofer import names, show
from gofer.cli.common import connected, on_gofer, quoted
from gofer.client import GoferClient, Transport
from gofer.protocol import Stat
from gofer.tree import children, walk


@click.command()
@click.argument("paths", nargs=-1)
@click.option("-l", "long", is_flag=True, help="Attributes too.")
@click.option("-a", "hidden", is_flag=True, help="Names that begin with a dot too.")
@click.option("-R", "recursive", is_flag=True, help="Directories below too.")
@on_gofer
def ls(
    paths: tuple[str, ...],
    long: bool,
    hidden: bool,
    recursive: bool,
    socket_path: str,
    transport: Transport,
) -> None:
    """List directories (the root by default), and files."""
    with connected("ls", socket_path, transport) as (client, failures):
        files: list[tuple[bytes, Stat]] = []
        directories: list[bytes] = []
        for path in paths or ("/",):
            try:
                info = client.stat(path, follow_symlinks=not long)
            except OSError as error:
                failures.report(f"cannot access {quoted(path)}", error, status=2)
                continue
            raw = names.encode(path)
            if stat.S_ISDIR(info.mode):
                directories.append(raw)
            else:
                files.append((raw, info))
        _print_entries(client, b"", files, long)
        titled = recursive or len(paths) > 1
        first = not files
        todo = directories[::-1]
        while todo:
            top = todo.pop()
            try:
                entries = [(dent.name, info) for dent, info in children(client, top)]
            except OSError as error:
                failures.report(f"cannot open directory {quoted(names.decode(top))}", error)
                continue
            if not hidden:
                entries = [entry for entry in entries if not entry[0].startswith(b".")]
            if titled:
                print(("" if first else "\n") + show.name(top) + ":")
            first = False
            _print_entries(client, top, entries, long)
            if recursive:
                below = [os.path.join(top, name) for name, info in entries if stat.S_ISDIR(info.mode)]
                todo.extend(below[::-1])


def _print_entries(client: GoferClient, top: bytes, entries: list[tuple[bytes, Stat]], long: bool) -> None:
    if not long:
        for name, _ in entries:
            print(show.name(name))
        return
    rows = [(name, info, _target(client, os.path.join(top, name), info)) for name, info in entries]
    for line in show.long_listing(rows):
        print(line)


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
                    print(line)
            except OSError as error:
                failures.report(f"cannot stat {quoted(path)}", error)


@click.command()
@click.argument("path", default="/")
@on_gofer
def tree(path: str, socket_path: str, transport: Transport) -> None:
    """Draw everything below PATH."""
    with connected("tree", socket_path, transport) as (client, failures):
        counts = {True: 0, False: 0}
        print(show.name(names.encode(path)))

        def counted() -> Iterator[Any]:
            for found in walk(client, names.encode(path)):
                counts[stat.S_ISDIR(found.stat.mode)] += 1
                yield found

        try:
            for line in show.tree(counted()):
                print(line)
        except OSError as error:
            failures.report(quoted(path), error)
        directories = f"{counts[True]} director{'y' if counts[True] == 1 else 'ies'}"
        print(f"\n{directories}, {counts[False]} file{'' if counts[False] == 1 else 's'}")


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
        seen: set[tuple[int, int]] = set()  # files with several names count once
        for path in paths or ("/",):
            try:
                for line in _usage(client, names.encode(path), seen, every, summary, human):
                    print(line)
            except OSError as error:
                failures.report(f"cannot access {quoted(path)}", error)


def _usage(
    client: GoferClient, top: bytes, seen: set[tuple[int, int]], every: bool, summary: bool, human: bool
) -> Iterator[str]:
    """Lines of du, what is below a directory before it."""
    totals = [_blocks(client.lstat(top), seen)]
    open_directories = [top]
    is_directory = stat.S_ISDIR(client.lstat(top).mode)

    def close(depth: int) -> Iterator[str]:
        while len(totals) > depth:
            total, path = totals.pop(), open_directories.pop()
            if totals:
                totals[-1] += total
            if not summary or not totals:
                yield f"{show.room(total, human)}\t{show.name(path)}"

    if is_directory:
        for found in walk(client, top):
            yield from close(found.depth + 1)
            path, blocks = os.path.join(top, found.path), _blocks(found.stat, seen)
            if stat.S_ISDIR(found.stat.mode):
                totals.append(blocks)
                open_directories.append(path)
            else:
                totals[-1] += blocks
                if every:
                    yield f"{show.room(blocks, human)}\t{show.name(path)}"
    yield from close(0)


def _blocks(info: Stat, seen: set[tuple[int, int]]) -> int:
    if info.nlink > 1 and not stat.S_ISDIR(info.mode):
        if (info.dev, info.ino) in seen:
            return 0
        seen.add((info.dev, info.ino))
    return info.blocks
