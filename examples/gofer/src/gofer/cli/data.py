"""Moving data: `cat` and `cp`."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from gofer import names
from gofer.cli.common import connected, on_gofer, quoted
from gofer.client import Transport
from gofer.copy import REMOTE, Local, Remote, Side, copy_file, copy_tree

_LONG_COPY = 32 << 20
"""Bytes from which on a copy shows its progress (on a terminal)."""

_CANNOT_CREATE = (errno.ENOENT, errno.ENOTDIR, errno.EROFS)
"""What goes wrong with a copy's target."""


@click.command()
@click.argument("paths", nargs=-1, required=True)
@on_gofer
def cat(paths: tuple[str, ...], socket_path: str, transport: Transport) -> None:
    """Write files to standard output."""
    with connected("cat", socket_path, transport) as (client, failures):
        out = sys.stdout.buffer
        for path in paths:
            try:
                with client.open(path, "rb", buffering=client.max_read) as file:
                    shutil.copyfileobj(file, out, client.max_read)
            except BrokenPipeError:
                raise
            except OSError as error:
                failures.report(names.show(names.encode(path)), error)
        out.flush()


@click.command()
@click.argument("sources", nargs=-1, required=True)
@click.argument("target")
@click.option("-r", "-R", "recursive", is_flag=True, help="Directories too, with what is in them.")
@click.option("-p", "preserve", is_flag=True, help="Keep the times of files and directories.")
@on_gofer
def cp(
    sources: tuple[str, ...],
    target: str,
    recursive: bool,
    preserve: bool,
    socket_path: str,
    transport: Transport,
) -> None:
    """Copy files and directories out of the tree or into it.

    A path in the tree is written remote:PATH. `cp -r remote:/a b` copies out, `cp b remote:/a` copies in;
    several SOURCES, or a TARGET that is a directory, keep their names. Holes stay holes.
    """
    outwards = not _is_remote(target)
    if any(_is_remote(source) is not outwards for source in sources):
        raise click.UsageError("one side must be in the tree (remote:PATH), the other local")
    with connected("cp", socket_path, transport) as (client, failures):
        here, there = Local(), Remote(client)
        from_side: Side = there if outwards else here
        to_side: Side = here if outwards else there
        into = _is_directory(to_side, _path(target))
        if len(sources) > 1 and not into:
            raise click.UsageError(f"target {quoted(target)} is not a directory")
        for source in sources:
            path = _path(source)
            try:
                info = from_side.info(path, not recursive)
            except OSError as error:
                failures.report(f"cannot stat {quoted(source)}", error)
                continue
            name = os.path.basename(path.rstrip(b"/"))
            whole = name in (b"", b".", b"..")  # `cp -r a/. b`: what is in it, not it
            final = os.path.join(_path(target), name) if into and not whole else _path(target)
            if not stat.S_ISDIR(info.mode):
                size = info.size
            elif recursive:
                size = _total(from_side, path)
            else:
                failures.say(f"-r not specified; omitting directory {quoted(source)}")
                continue
            with _progress(name, size) as advance:
                if recursive:
                    for done in copy_tree(from_side, path, to_side, final, advance, preserve=preserve):
                        if done.error is not None:
                            failures.report(f"cannot copy {quoted(os.fsdecode(done.path))}", done.error)
                else:
                    try:
                        copy_file(from_side, path, to_side, final, advance, preserve=preserve)
                    except OSError as error:
                        there_name = target if not into else os.path.join(target, os.fsdecode(name))
                        if error.errno in _CANNOT_CREATE:  # the source was there just now
                            failures.report(f"cannot create regular file {quoted(there_name)}", error)
                        else:
                            failures.report(f"cannot copy {quoted(source)} to {quoted(there_name)}", error)


def _is_remote(path: str) -> bool:
    return path.startswith(REMOTE)


def _path(path: str) -> bytes:
    """A path on its side; `remote:` alone is the root."""
    return os.fsencode((path[len(REMOTE) :] or "/") if _is_remote(path) else path)


def _is_directory(side: Side, path: bytes) -> bool:
    try:
        return stat.S_ISDIR(side.info(path, True).mode)
    except OSError:
        return False


def _total(side: Side, top: bytes) -> int:
    """Bytes of all files below, if anybody will see how much of it is done."""
    if not Console(stderr=True).is_terminal:
        return 0
    total, todo = 0, [top]
    while todo:
        path = todo.pop()
        try:
            info = side.info(path, False)
            if stat.S_ISDIR(info.mode):
                todo.extend(os.path.join(path, name) for name in side.names(path))
            elif stat.S_ISREG(info.mode):
                total += info.size
        except OSError:
            pass  # which the copy will say
    return total


@contextmanager
def _progress(name: bytes, size: int) -> Iterator[Callable[[int], None]]:
    """A bar on stderr for a long copy on a terminal; nothing otherwise."""
    console = Console(stderr=True)
    if size < _LONG_COPY or not console.is_terminal:
        yield lambda _count: None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(names.show(name).replace("[", "\\["), total=size)
        yield lambda count: bar.advance(task, count)
