"""`gofer serve`."""

from __future__ import annotations

import sys

import click

import flipcall
from gofer.confine import Confinement, User
from gofer.export import DEFAULT_MAX_FIDS
from gofer.ids import IdMap, Ids, Range
from gofer.server import DEFAULT_MAX_CHANNELS, Transports
from gofer.server import serve as serve_tree


@click.command()
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
@click.option("--donate", is_flag=True, help="Hand out the host's descriptors of files to those who ask.")
@click.option("--sockets", is_flag=True, help="Let Unix sockets in the tree be connected to and made.")
@click.option(
    "--map-uid",
    "uids",
    multiple=True,
    metavar="CLIENT:SERVER[:SIZE]",
    help="A client's users CLIENT... are SERVER... here; others are nobody. May be given several times.",
)
@click.option("--map-gid", "gids", multiple=True, metavar="CLIENT:SERVER[:SIZE]", help="The same for groups.")
@click.option("--user", metavar="USER[:GROUP]", help="Run as this user, once the tree is opened.")
@click.option("--stop-with-parent", is_flag=True, help="End when the process that started this one does.")
def serve(
    directory: str,
    socket_path: str,
    read_only: bool,
    transport: Transports,
    max_fids: int,
    max_channels: int,
    donate: bool,
    sockets: bool,
    uids: tuple[str, ...],
    gids: tuple[str, ...],
    confinement: str,
    user: str | None,
    stop_with_parent: bool,
) -> None:
    """Serve DIRECTORY until SIGTERM or Ctrl-C."""
    try:
        ids = Ids(*(IdMap([Range.parse(text) for text in texts]) for texts in (uids, gids)))
    except ValueError as error:
        raise click.UsageError(f"--map-uid, --map-gid: {error}") from None
    try:
        serve_tree(
            directory,
            socket_path,
            read_only=read_only,
            transport=transport,
            max_fids=max_fids,
            max_channels=max_channels,
            donate=donate,
            sockets=sockets,
            ids=ids if uids or gids else None,
            confinement=Confinement(confinement),
            user=None if user is None else User.parse(user),
            stop_with_parent=stop_with_parent,
        )
    except (flipcall.FlipcallError, OSError) as error:
        print(f"gofer: cannot serve {directory} on {socket_path}: {error}", file=sys.stderr)
        sys.exit(1)
