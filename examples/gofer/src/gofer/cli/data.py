"""Moving data: `cat` and `cp`."""

from __future__ import annotations

import errno
import os
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
from gofer.cli.common import Failures, connected, on_gofer, quoted, say_no_directory, writing
from gofer.client import Transport
from gofer.copy import REMOTE, copy_file, copy_tree
from gofer.quoting import quote_if_needed
from gofer.sides import Local, Remote, Side

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
                with client.open_raw(path) as file:
                    while data := file.read(client.max_read):
                        with writing():
                            out.write(data)
            except OSError as error:
                failures.report(quote_if_needed(names.encode(path)), error)


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
            say_no_directory(failures, target, lambda: to_side.info(_path(target), True))
            return
        for source in sources:
            path = _path(source)
            try:
                info = from_side.info(path, not recursive)
            except OSError as error:
                failures.report(f"cannot stat {quoted(source)}", error)
                continue
            name = os.path.basename(path.rstrip(b"/"))
            whole = name in (b"", b".", b"..")  # `cp -r a/. b`: what is in it, not it
            final = os.path.join(target, os.fsdecode(name)) if into and not whole else target
            if not stat.S_ISDIR(info.mode):
                size = info.size
            elif recursive:
                size = _total(from_side, path)
            else:
                failures.say(f"-r not specified; omitting directory {quoted(source)}")
                continue
            with _progress(name, size) as advance:
                if recursive:
                    for done in copy_tree(from_side, path, to_side, _path(final), advance, preserve=preserve):
                        if done.error is not None:
                            old, new = _below(source, path, done.path), _below(final, _path(final), done.to)
                            _say_why_not(failures, old, new, done.kind, done.error)
                elif _dangles(to_side, _path(final)):
                    failures.say(f"not writing through dangling symlink {quoted(final)}")
                else:
                    try:
                        copy_file(from_side, path, to_side, _path(final), advance, preserve=preserve)
                    except OSError as error:
                        _say_why_not(failures, source, final, stat.S_IFREG, error)


def _below(given: str, top: bytes, path: bytes) -> str:
    """A path as the user would have written it who gave `given` for `top`."""
    return given + os.fsdecode(path.removeprefix(top))


def _dangles(side: Side, path: bytes) -> bool:
    """Whether a symbolic link is there that leads nowhere: a file would be made where nobody said."""
    try:
        link = stat.S_ISLNK(side.info(path, False).mode)
    except OSError:
        return False  # what is wrong with it, opening it will say
    try:
        side.info(path, True)
    except FileNotFoundError:
        return link
    except OSError:
        pass
    return False


_KINDS = {
    stat.S_IFREG: "regular file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symbolic link",
    stat.S_IFIFO: "fifo",
}


def _say_why_not(failures: Failures, source: str, target: str, kind: int, error: OSError) -> None:
    """What cp says of a copy that failed."""
    if isinstance(error, IsADirectoryError) and not target.endswith("/"):
        failures.say(f"cannot overwrite directory {quoted(target)} with non-directory")
    elif isinstance(error, NotADirectoryError) and error.filename == os.fsdecode(_path(target).rstrip(b"/")):
        failures.say(f"cannot overwrite non-directory {quoted(target)} with directory {quoted(source)}")
    elif error.errno in _CANNOT_CREATE and kind in _KINDS:  # the source was there just now
        failures.report(f"cannot create {_KINDS[kind]} {quoted(target)}", error)
    else:
        failures.report(f"cannot copy {quoted(source)} to {quoted(target)}", error)


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
