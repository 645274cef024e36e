"""`gofer mount`: the tree as a file system of this machine."""

from __future__ import annotations

import logging
import sys

import click

import flipcall
from gofer.client import GoferClient, Transport


@click.command()
@click.argument("socket_path", metavar="SOCKET")
@click.argument("mountpoint", type=click.Path(exists=True, file_okay=False))
@click.option(
    "--cache",
    type=click.FloatRange(min=0),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="How long others' changes of names and attributes may go unseen.",
)
@click.option("--allow-other", is_flag=True, help="Let other users in, by the files' permissions.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="How long one answer of the gofer may take; then it is EIO.",
)
@click.option(
    "--transport",
    type=click.Choice(["window", "socket"]),
    default="window",
    show_default=True,
    help="How calls travel: a packet window in shared memory, or the socket itself.",
)
def mount(
    socket_path: str, mountpoint: str, cache: float, allow_other: bool, timeout: float, transport: Transport
) -> None:
    """Mount the tree of the gofer at SOCKET on the directory MOUNTPOINT, until it is unmounted or Ctrl-C.

    When the gofer is gone, everything is an I/O error; when it is back, the mount works again.
    """
    try:
        from gofer import fuse
    except ImportError as error:
        print(f"gofer: mount needs pip install 'flipcall-gofer[fuse]' ({error})", file=sys.stderr)
        sys.exit(1)
    from gofer.fuse import passthrough
    from gofer.fuse.rows import answers

    logging.basicConfig(level=logging.INFO, format="gofer: %(message)s")

    def announce() -> None:
        print(f"gofer: mounted {socket_path} on {mountpoint}")
        print(f"gofer: fallocate and holes: {answers.report()}")
        print(f"gofer: FUSE passthrough: {passthrough.report()}", flush=True)

    try:
        fuse.mount(
            socket_path,
            mountpoint,
            connect=lambda path: GoferClient(path, transport=transport, timeout=timeout),
            cache=cache,
            allow_other=allow_other,
            ready=announce,
        )
    except (flipcall.FlipcallError, OSError) as error:
        print(f"gofer: cannot mount {socket_path} on {mountpoint}: {error}", file=sys.stderr)
        sys.exit(1)
