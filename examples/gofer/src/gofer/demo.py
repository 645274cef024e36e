"""What `make demo` runs: a directory tree read through the gofer, and what a call costs beside a Unix socket.

    python -m gofer.demo [DIR]

Exit status 0 when every file read through the gofer was the file that is there, 1 otherwise.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import NamedTuple

import click
from rich.console import Console
from rich.table import Table

import flipcall
from gofer import names, show
from gofer.client import GoferClient
from gofer.latency import RUNS, Latency, latencies
from gofer.protocol import Stat
from gofer.tree import Digested, digest, walk

_AGAIN = 3
"""A file that is being changed while it is read is read again, so often."""


class Kept(NamedTuple):
    """What is kept of a file system object for the comparison."""

    mode: int
    content: Digested | None
    """Of a regular file."""
    target: bytes | None
    """Of a symbolic link."""


class ReadTree(NamedTuple):
    """What was read through the gofer."""

    files: int
    directories: int
    links: int
    others: int
    size: int
    """Bytes of content."""
    seconds: float
    wrong: list[bytes]
    """Paths that were not what is there."""


@contextlib.contextmanager
def gofer(directory: str) -> Iterator[str]:
    """A gofer in another process; the path of its socket, on which it listens already."""
    with tempfile.TemporaryDirectory(prefix="gofer-") as private:
        path = os.path.join(private, "socket")
        command = [
            sys.executable,
            "-m",
            "gofer",
            "serve",
            "--confinement",
            "partial",
            directory,
            "--socket",
            path,
        ]
        with subprocess.Popen(
            [*command, "--read-only", "--stop-with-parent"], stdout=subprocess.PIPE, text=True
        ) as server:
            try:
                assert server.stdout is not None
                if not server.stdout.readline():
                    raise SystemExit("gofer: did not start")
                yield path
            finally:
                server.terminate()


def read_tree(client: GoferClient, directory: bytes) -> ReadTree:
    """Read all of the tree through the gofer; then compare it with what is there, and with nothing missing."""
    started = time.monotonic()
    kept = {found.path: _through_gofer(client, found.path, found.stat) for found in walk(client)}
    seconds = time.monotonic() - started
    here = set(_paths_here(directory))
    wrong = [
        path
        for path in sorted(kept.keys() | here)
        if kept.get(path) != _here(directory, path) and not _same_when_read_again(client, directory, path)
    ]
    contents = [one.content.size for one in kept.values() if one is not None and one.content is not None]
    kinds = [stat.S_IFMT(one.mode) for one in kept.values() if one is not None]
    return ReadTree(
        files=len(contents),
        directories=kinds.count(stat.S_IFDIR),
        links=kinds.count(stat.S_IFLNK),
        others=len(kinds) - len(contents) - kinds.count(stat.S_IFDIR) - kinds.count(stat.S_IFLNK),
        size=sum(contents),
        seconds=seconds,
        wrong=wrong,
    )


def _same_when_read_again(client: GoferClient, directory: bytes, path: bytes) -> bool:
    """A file may change between the two readings (this one's .git, say); one that is wrong stays wrong."""
    for _ in range(_AGAIN):
        try:
            told: Stat | None = client.lstat(path)
        except OSError:
            told = None
        again = None if told is None else _through_gofer(client, path, told)
        if again == _here(directory, path):
            return True
    return False


def _through_gofer(client: GoferClient, path: bytes, told: Stat) -> Kept | None:
    """An object as the gofer has it; None when it cannot be read."""
    try:
        return Kept(
            told.mode,
            digest(client, path) if stat.S_ISREG(told.mode) else None,
            client.readlink(path) if stat.S_ISLNK(told.mode) else None,
        )
    except OSError:
        return None


def _here(directory: bytes, path: bytes) -> Kept | None:
    """The same object, read without the gofer."""
    local = os.path.join(directory, path)
    try:
        mode = os.lstat(local).st_mode
        content = None
        if stat.S_ISREG(mode):
            sha = hashlib.sha256()
            with open(local, "rb", buffering=0) as file:
                while data := file.read(1 << 20):
                    sha.update(data)
                content = Digested(sha.hexdigest(), file.tell())
        return Kept(mode, content, os.readlink(local) if stat.S_ISLNK(mode) else None)
    except OSError:
        return None


def _paths_here(directory: bytes) -> Iterator[bytes]:
    for top, directories, files in os.walk(directory):
        for name in (*directories, *files):
            yield os.path.relpath(os.path.join(top, name), directory)


def _print_read(console: Console, directory: str, read: ReadTree) -> None:
    table = Table(title=f"Read through the gofer: {show.name(names.encode(directory))}", title_justify="left")
    for column in ("files", "directories", "links", "other", "MiB", "seconds", "MiB/s"):
        table.add_column(column, justify="right")
    mib = read.size / (1 << 20)
    table.add_row(
        f"{read.files:,}",
        f"{read.directories:,}",
        f"{read.links:,}",
        f"{read.others:,}",
        f"{mib:,.1f}",
        f"{read.seconds:.2f}",
        f"{mib / read.seconds:,.0f}",
    )
    console.print(table)
    for path in read.wrong[:20]:
        console.print(f"  differs: {names.show(path)}", style="red", markup=False)
    if read.wrong:
        console.print(f"{len(read.wrong)} of them differ from the original.", style="bold red")
    else:
        console.print("Every SHA-256, link target and mode is the original's, and nothing is missing.\n")


_WHY = (
    "Over the socket every call is two messages through the kernel: the sender wakes the other process, and the"
    " reader sleeps until it is woken in turn. Over flipcall, request and reply are written to pages both"
    " processes map; giving control away is one store to a word the other side is already looking at, and the"
    " kernel is asked only when somebody has waited too long for that. What is left of an open is the file"
    " system's own work, the same in both columns. Content is read by the gofer straight into the window."
)


def _print_latencies(console: Console, measured: dict[str, Latency]) -> None:
    table = Table(title="Median latency, µs", title_justify="left")
    table.add_column("")
    for column in ("flipcall", "Unix socket", "ratio"):
        table.add_column(column, justify="right")
    for label, one in measured.items():
        table.add_row(label, f"{one.window:.1f}", f"{one.socket:.1f}", f"{one.socket / one.window:.1f}×")
    console.print(table)
    console.print(f"Same gofer, same calls, {RUNS} alternating runs; {os.cpu_count()} CPUs here.\n")
    console.print(_WHY)
    load = os.getloadavg()[0]
    if load > (os.cpu_count() or 1) / 2:
        console.print(
            f"\nThis machine is busy (load average {load:.1f}). Looking at a word pays only while both processes"
            " have a CPU to themselves; without, every call waits to be woken. On an idle machine the left column"
            " is what flipcall costs."
        )


def _file_to_open(client: GoferClient) -> bytes | None:
    """Any regular file of the tree."""
    return next((found.path for found in walk(client) if stat.S_ISREG(found.stat.mode)), None)


@click.command()
@click.argument("directory", default=".", type=click.Path(exists=True, file_okay=False))
def main(directory: str) -> None:
    """Read DIRECTORY through a gofer in another process, compare every file, and time calls."""
    show.prepare_stdout()
    console = Console()
    try:
        with gofer(directory) as path:
            with GoferClient(path) as client:
                read = read_tree(client, os.fsencode(directory))
                _print_read(console, os.path.abspath(directory), read)
                file = _file_to_open(client)
            if file is not None:
                _print_latencies(console, latencies(path, file))
    except (flipcall.FlipcallError, OSError) as error:
        print(f"gofer: {error}", file=sys.stderr)
        sys.exit(1)
    sys.exit(1 if read.wrong else 0)


if __name__ == "__main__":
    main()
