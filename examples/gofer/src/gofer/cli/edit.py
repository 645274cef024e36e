"""Changing the tree: `rm` and `mv`."""

from __future__ import annotations

import errno
import os
import stat

import click

from gofer import names
from gofer.cli.common import Failures, connected, is_directory, on_gofer, quoted, say_no_directory
from gofer.client import GoferClient, Transport
from gofer.protocol import Stat
from gofer.tree import walk


@click.command()
@click.argument("paths", nargs=-1, required=True)
@click.option("-r", "-R", "recursive", is_flag=True, help="Directories too, with what is in them.")
@click.option("-f", "force", is_flag=True, help="Say nothing of what is not there.")
@on_gofer
def rm(paths: tuple[str, ...], recursive: bool, force: bool, socket_path: str, transport: Transport) -> None:
    """Remove files."""
    with connected("rm", socket_path, transport) as (client, failures):
        for path in paths:
            raw = names.encode(path)
            if recursive and raw and not raw.strip(b"/"):
                failures.say(f"it is dangerous to operate recursively on {quoted(path)}")
                continue
            if recursive and os.path.basename(raw.rstrip(b"/")) in (b".", b".."):
                failures.say(f"refusing to remove '.' or '..' directory: skipping {quoted(path)}")
                continue
            try:
                # A `/` at the end follows no link here: what it leads to keeps what is in it.
                directory = stat.S_ISDIR(client.lstat(raw.rstrip(b"/") or raw).mode)
            except OSError as error:
                if not (force and isinstance(error, FileNotFoundError | NotADirectoryError)):
                    failures.report(f"cannot remove {quoted(path)}", error)
                continue
            if directory and not recursive:
                failures.say(f"cannot remove {quoted(path)}: Is a directory")
                continue
            _remove(client, raw, directory, failures)


def _remove(client: GoferClient, top: bytes, directory: bool, failures: Failures) -> None:
    """What is in a directory before the directory; what cannot be removed is said, and the rest removed."""
    doomed = [(top, directory)]
    kept: set[bytes] = set()  # directories that keep something, of which that is not said again

    def failed(path: bytes, error: OSError) -> None:
        if isinstance(error, FileNotFoundError):
            return  # somebody else was quicker
        failures.report(f"cannot remove {quoted(path)}", error)
        while path not in kept and path != top:
            kept.add(path)
            path = os.path.dirname(path)
        kept.add(top)

    if directory:
        for found in walk(client, top, unreadable=failed):
            doomed.append((os.path.join(top, found.path), stat.S_ISDIR(found.stat.mode)))
    for path, holds in reversed(doomed):
        if path in kept:
            continue
        try:
            (client.rmdir if holds else client.unlink)(path)
        except OSError as error:
            failed(path, error)


@click.command()
@click.argument("sources", nargs=-1, required=True)
@click.argument("target")
@click.option("-n", "keep", is_flag=True, help="Replace nothing.")
@click.option("--exchange", is_flag=True, help="Let SOURCE and TARGET trade places, in one step.")
@on_gofer
def mv(
    sources: tuple[str, ...], target: str, keep: bool, exchange: bool, socket_path: str, transport: Transport
) -> None:
    """Rename files, or move them into a directory, within the tree."""
    if keep and exchange:
        raise click.UsageError("-n and --exchange exclude each other")
    with connected("mv", socket_path, transport) as (client, failures):
        into = not exchange and is_directory(client, target)
        if len(sources) > 1 and not into:
            say_no_directory(failures, target, lambda: client.stat(target))
            return
        for source in sources:
            final = os.path.join(target, os.path.basename(source.rstrip("/"))) if into else target
            try:
                info = client.lstat(source)
            except OSError as error:
                failures.report(f"cannot stat {quoted(source)}", error)
                continue
            try:
                if exchange or not _same(client, info, source, final, failures):
                    client.rename(source, final, exchange=exchange, replace=not keep)
            except FileExistsError:
                if not keep:
                    raise
            except OSError as error:
                _say_why_not(client, source, final, error, failures)


def _same(client: GoferClient, info: Stat, source: str, final: str, failures: Failures) -> bool:
    """Whether both names are one file's already, of which rename(2) would keep both; that is said."""
    try:
        there = client.lstat(final)
    except OSError:
        return False
    if (there.dev, there.ino) != (info.dev, info.ino) or stat.S_ISDIR(info.mode):
        return False
    failures.say(f"{quoted(source)} and {quoted(final)} are the same file")
    return True


def _say_why_not(client: GoferClient, source: str, final: str, error: OSError, failures: Failures) -> None:
    """What mv says of a rename that failed: for some errnos, what they mean there."""
    into_itself = error.errno == errno.EINVAL
    overwrites = error.errno in (errno.ENOTDIR, errno.EISDIR) and _is_there(client, final)
    if into_itself:
        failures.say(f"cannot move {quoted(source)} to a subdirectory of itself, {quoted(final)}")
    elif overwrites and error.errno == errno.ENOTDIR:
        failures.say(f"cannot overwrite non-directory {quoted(final)} with directory {quoted(source)}")
    elif overwrites:
        failures.say(f"cannot overwrite directory {quoted(final)} with non-directory {quoted(source)}")
    else:
        failures.report(f"cannot move {quoted(source)} to {quoted(final)}", error)


def _is_there(client: GoferClient, path: str) -> bool:
    try:
        client.lstat(path)
    except OSError:
        return False
    return True
