"""`gofer bench`: what calls cost on a gofer that is running."""

from __future__ import annotations

import json
import stat

import click
from rich.console import Console
from rich.table import Table

from gofer import names
from gofer.cli.common import connected, quoted
from gofer.latency import latencies
from gofer.tree import walk


@click.command()
@click.argument("path", required=False)
@click.option("--json", "as_json", is_flag=True, help="One object on stdout, in microseconds.")
@click.option("--socket", "socket_path", required=True, metavar="PATH", help="The gofer's socket.")
def bench(path: str | None, as_json: bool, socket_path: str) -> None:
    """Time calls about the file PATH (by default any), over a packet window and over the socket."""
    with connected("bench", socket_path, "window") as (client, failures):
        if path is None:
            found = next((one.path for one in walk(client) if stat.S_ISREG(one.stat.mode)), None)
            if found is None:
                failures.say("there is no file in the tree")
                return
        else:
            found = names.encode(path)
            try:
                client.open_raw(found).close()
            except OSError as error:
                failures.report(f"cannot open {quoted(path)}", error)
                return
        measured = latencies(socket_path, found)
        if as_json:
            print(json.dumps({name: one._asdict() for name, one in measured.items()}))
            return
        table = Table(title=f"Median latency, µs: {names.show(found)}", title_justify="left")
        table.add_column("")
        for column in ("flipcall", "Unix socket", "ratio"):
            table.add_column(column, justify="right")
        for label, one in measured.items():
            table.add_row(label, f"{one.window:.1f}", f"{one.socket:.1f}", f"{one.socket / one.window:.1f}×")
        Console().print(table)
