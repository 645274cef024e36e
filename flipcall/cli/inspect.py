"""flipcall inspect: what a server offers."""

from typing import Any

import click
from rich.table import Table

from . import remote
from .text import console, print_json, printable

_WINDOW = 1 << 22  # bytes: a thousand methods are described in 2 MiB


def describe(path: str, timeout: float) -> dict[str, Any]:
    """What the handshake tells about the server at `path`, as the document `--json` prints."""
    from ..health import Health

    with remote.typed(Health, path, timeout=timeout, connect_timeout=timeout) as health:
        services = health.services()
    with remote.connect(path, timeout) as there:
        welcome, peer = there.welcome, remote.peer_of(there)
        return {
            "service": welcome.service,
            "fingerprint": remote.fingerprint_of(welcome.methods),
            "protocol_version": welcome.version,
            "services": services,
            "peer": {"pid": peer.pid, "uid": peer.uid, "gid": peer.gid},
            "limits": {"window_bytes": welcome.window, "message_max_bytes": welcome.message_max},
            "methods": [
                {
                    "name": method.name,
                    "signature": method.signature,
                    "fingerprint": method.fingerprint,
                    "parameters": [
                        {
                            "name": param.name,
                            "required": param.required,
                            "bulk": param.bulk,
                            "stream": param.stream,
                        }
                        for param in method.params
                    ],
                    "bulk_result": method.bulk_result,
                    "stream_result": method.stream_result,
                }
                for method in welcome.methods
            ],
        }


def _print(found: dict[str, Any]) -> None:
    peer, limits = found["peer"], found["limits"]
    facts = Table.grid(padding=(0, 2))
    facts.add_row("service", printable(found["service"]))
    facts.add_row("fingerprint", found["fingerprint"])
    facts.add_row("protocol", f"version {found['protocol_version']}")
    facts.add_row("server", f"pid {peer['pid']}, uid {peer['uid']}, gid {peer['gid']}")
    facts.add_row(
        "limits", f"window {limits['window_bytes']} bytes, message {limits['message_max_bytes']} bytes"
    )
    for name, state in found["services"].items():
        facts.add_row("health" if not name else "", f"{printable(name) or 'server'}: {state}")
    methods = Table("fingerprint", "method", box=None, padding=(0, 2, 0, 0))
    for method in found["methods"]:
        methods.add_row(printable(method["fingerprint"]), printable(method["signature"]))
    out = console()
    out.print(facts)
    out.print()
    out.print(methods)


@click.command("inspect")
@click.argument("path", type=click.Path())
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of tables.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=5.0,
    show_default=True,
    metavar="SECONDS",
    help="How long connecting may take.",
)
@click.option("--schema", is_flag=True, help="The service as JSON Schema (draft 2020-12).")
def command(path: str, as_json: bool, timeout: float, schema: bool) -> None:
    """What the server at the socket PATH offers: its service, methods, limits, and which process it is."""
    if schema:
        from ..reflection import Reflection

        options: dict[str, Any] = {"timeout": timeout, "connect_timeout": timeout, "window_size": _WINDOW}
        with remote.typed(Reflection, path, **options) as reflection:
            print_json(reflection.schema())
        return
    found = describe(path, timeout)
    if as_json:
        print_json(found)
    else:
        _print(found)
