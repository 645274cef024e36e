"""`gofer`: the server, and a client's commands, which print and fail as coreutils do."""

from __future__ import annotations

import os
import shutil
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

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

import flipcall
from gofer import names, show
from gofer.client import GoferClient, Transport
from gofer.confine import Confinement, User
from gofer.copy import download, is_remote, remote_path, upload
from gofer.export import DEFAULT_MAX_FIDS
from gofer.mount_command import mount
from gofer.protocol import Stat
from gofer.server import DEFAULT_MAX_CHANNELS, Transports
from gofer.server import serve as serve_tree
from gofer.tree import children, walk

_LONG_COPY = 32 << 20
"""Bytes from which on a copy shows its progress (on a terminal)."""

F = TypeVar("F", bound=Callable[..., Any])


class Failures:
    """What went wrong so far: a command goes on with its next argument and exits with this in the end."""

    def __init__(self, command: str) -> None:
        self.command = command
        self.status = 0

    def report(self, what: str, error: OSError, status: int = 1) -> None:
        """`ls: cannot access 'x': No such file or directory`."""
        reason = error.strerror or str(error)
        print(f"{self.command}: {what}: {reason}", file=sys.stderr)
        self.status = max(self.status, status)


def quoted(path: str) -> str:
    """A path in an error message."""
    return f"'{names.show(names.encode(path))}'"


def on_gofer(function: F) -> F:
    """The options of every client command."""
    transport = click.option(
        "--transport",
        type=click.Choice(["window", "socket"]),
        default="window",
        show_default=True,
        help="How calls travel: a packet window in shared memory, or the socket itself.",
    )
    path = click.option("--socket", "socket_path", required=True, metavar="PATH", help="The gofer's socket.")
    return path(transport(function))


@contextmanager
def connected(command: str, socket_path: str, transport: Transport) -> Iterator[tuple[GoferClient, Failures]]:
    """A client for one command, which exits with the command's status; a broken connection ends it in one
    line.
    """
    failures = Failures(command)
    try:
        with GoferClient(socket_path, transport=transport) as client:
            yield client, failures
    except BrokenPipeError:
        os.dup2(
            os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno()
        )  # `gofer ls | head`: nothing more to say
        sys.exit(1)
    except (flipcall.FlipcallError, OSError) as error:
        print(f"gofer: {socket_path}: {getattr(error, 'strerror', None) or error}", file=sys.stderr)
        sys.exit(1)
    sys.exit(failures.status)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """A file proxy: `serve` owns a directory tree; the other commands ask it."""
    show.prepare_stdout()


main.add_command(mount)


@main.command()
@click.argument("directory", type=click.Path(exists=True, file_okay=False))
@click.option("--socket", "socket_path", required=True, metavar="PATH", help="Where to listen.")
@click.option("--read-only", is_flag=True, help="Refuse every change (EROFS).")
@click.option(
    "--transport",
    type=click.Choice(["both", "window", "socket"]),
    default="both",
    show_default=True,
    help="What clients may ask for.",
)
@click.option(
    "--max-fids", type=click.IntRange(8), default=DEFAULT_MAX_FIDS, show_default=True, help="For each client."
)
@click.option(
    "--max-channels",
    type=click.IntRange(1),
    default=DEFAULT_MAX_CHANNELS,
    show_default=True,
    help="For all clients together; a client has one, and more when its calls overlap.",
)
@click.option(
    "--confinement",
    type=click.Choice([level.value for level in Confinement]),
    default="full",
    show_default=True,
    help="partial: serve although the kernel lacks some of it.",
)
@click.option("--user", metavar="USER[:GROUP]", help="Run as this user, once the tree is opened.")
@click.option("--stop-with-parent", is_flag=True, help="End when the process that started this one does.")
def serve(
    directory: str,
    socket_path: str,
    read_only: bool,
    transport: Transports,
    max_fids: int,
    max_channels: int,
    confinement: str,
    user: str | None,
    stop_with_parent: bool,
) -> None:
    """Serve DIRECTORY until SIGTERM or Ctrl-C."""
    try:
        serve_tree(
            directory,
            socket_path,
            read_only=read_only,
            transport=transport,
            max_fids=max_fids,
            max_channels=max_channels,
            confinement=Confinement(confinement),
            user=None if user is None else User.parse(user),
            stop_with_parent=stop_with_parent,
        )
    except (flipcall.FlipcallError, OSError) as error:
        print(f"gofer: cannot serve {directory} on {socket_path}: {error}", file=sys.stderr)
        sys.exit(1)


@main.command()
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


@main.command()
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


@main.command(name="stat")
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


@main.command()
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


@main.command()
@click.argument("sources", nargs=-1, required=True)
@click.argument("target")
@on_gofer
def cp(sources: tuple[str, ...], target: str, socket_path: str, transport: Transport) -> None:
    """Copy files out of the tree or into it.

    A path in the tree is written remote:PATH. `cp remote:/a b` copies out, `cp b remote:/a` copies in;
    several SOURCES, or a TARGET that is a directory, keep their names.
    """
    outwards = not is_remote(target)
    if any(is_remote(source) is not outwards for source in sources):
        raise click.UsageError("one side must be in the tree (remote:PATH), the other local")
    with connected("cp", socket_path, transport) as (client, failures):
        into = os.path.isdir(target) if outwards else _is_remote_directory(client, remote_path(target))
        if len(sources) > 1 and not into:
            raise click.UsageError(f"target {quoted(target)} is not a directory")
        for source in sources:
            try:
                size = _source_size(client, source)
            except OSError as error:
                failures.report(f"cannot stat {quoted(source)}", error)
                continue
            if size is None:
                print(f"cp: -r not supported; omitting directory {quoted(source)}", file=sys.stderr)
                failures.status = 1
                continue
            name = os.path.basename((remote_path(source) if outwards else source).rstrip("/"))
            final = os.path.join(target, name) if into else target
            try:
                with _progress(name, size) as advance:
                    if outwards:
                        download(client, remote_path(source), final, advance)
                    else:
                        upload(client, source, remote_path(final), advance)
            except OSError as error:
                failures.report(f"cannot copy {quoted(source)} to {quoted(final)}", error)


def _is_remote_directory(client: GoferClient, path: str) -> bool:
    try:
        return stat.S_ISDIR(client.stat(path).mode)
    except OSError:
        return False


def _source_size(client: GoferClient, source: str) -> int | None:
    """Bytes; None for a directory."""
    if is_remote(source):
        info = client.stat(remote_path(source))
        mode, size = info.mode, info.size
    else:
        local = os.stat(source)
        mode, size = local.st_mode, local.st_size
    return None if stat.S_ISDIR(mode) else size


@contextmanager
def _progress(name: str, size: int) -> Iterator[Callable[[int], None]]:
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
        task = bar.add_task(names.show(names.encode(name)).replace("[", "\\["), total=size)
        yield lambda count: bar.advance(task, count)
