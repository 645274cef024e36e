"""`gofer`: the server, and a client's commands, which print and fail as coreutils do."""

from __future__ import annotations

import click

from gofer import show
from gofer.cli.bench import bench
from gofer.cli.data import cat, cp
from gofer.cli.edit import mv, rm
from gofer.cli.look import du, ls, stat_command, tree
from gofer.cli.mount import mount
from gofer.cli.serve import serve


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """A file proxy: `serve` owns a directory tree; the other commands ask it."""
    show.prepare_stdout()


for command in (serve, mount, ls, stat_command, tree, du, cat, cp, rm, mv, bench):
    main.add_command(command)
