"""flipcall serve: a service from a module, at a socket, until SIGTERM or Ctrl-C."""

import importlib
import inspect
import os
import sys
import typing
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import click

from .text import print_json

if TYPE_CHECKING:
    from ..session import Implementation


def load(name: str) -> "Implementation":
    """What `MODULE:NAME` names: a service, or a class of one, or a function that makes one for each client.

    A class whose constructor needs no argument is made once; any other is given the peer, for each client.
    Raises click.UsageError when it names none.
    """
    from ..service import Service

    module_name, colon, attribute = name.partition(":")
    if not colon or not module_name or not attribute:
        raise click.UsageError(f"{name}: give it as MODULE:CLASS")
    sys.path.insert(0, os.getcwd())
    try:
        found: Any = importlib.import_module(module_name)
        for part in attribute.split("."):
            found = getattr(found, part)
    except ModuleNotFoundError as e:
        raise click.UsageError(f"{name}: {e}") from e
    except AttributeError as e:
        raise click.UsageError(f"{name}: {e}") from e
    if isinstance(found, type) and not issubclass(found, Service):
        raise click.UsageError(f"{name} is not a subclass of flipcall.Service")
    if isinstance(found, type):
        needed = [p for p in inspect.signature(found).parameters.values() if p.default is p.empty]
        named = [p for p in needed if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
        return found if named else found()
    if not isinstance(found, Service) and not callable(found):
        raise click.UsageError(f"{name} is no service, nor makes one")
    return cast("Implementation", found)


def wants_loop(implementation: "Implementation") -> bool:
    """Whether it is to be served in an event loop: some of its methods are `async def`, or what makes it is. Of a
    plain function that makes it, what it is annotated to return says so.
    """
    from ..dispatch import wants_loop
    from ..service import Service, contract_of

    kind: Any = implementation if isinstance(implementation, type) else type(implementation)
    if not issubclass(kind, Service):
        if wants_loop(cast("Callable[..., Any]", implementation)):
            return True
        kind = typing.get_type_hints(implementation).get("return")
        if not (isinstance(kind, type) and issubclass(kind, Service)):
            return False
    return any(wants_loop(getattr(kind, m.name)) for m in contract_of(kind).methods)


@click.command("serve")
@click.argument("service", metavar="MODULE:CLASS")
@click.argument("path", type=click.Path())
@click.option(
    "--workers", type=click.IntRange(min=1), default=1, show_default=True, help="Processes that serve."
)
@click.option(
    "--grace",
    type=click.FloatRange(min=0),
    default=5.0,
    show_default=True,
    metavar="SECONDS",
    help="How long calls under way may take when the server is told to stop.",
)
@click.option("--tracebacks", is_flag=True, help="Send the tracebacks of handlers to clients.")
@click.option("--json", "as_json", is_flag=True, help="Say where it listens as one JSON document on stdout.")
def command(service: str, path: str, workers: int, grace: float, tracebacks: bool, as_json: bool) -> None:
    """Serve MODULE:CLASS at the socket PATH until SIGTERM or Ctrl-C, then drain.

    The module is looked for in this directory first. A class whose constructor takes no argument is made once for
    all clients, any other once for each, with the peer as its argument. One with `async def` methods is served in
    an event loop, or with workers in one each.
    """
    implementation = load(service)
    options: dict[str, Any] = {"tracebacks": tracebacks}
    if workers > 1:
        options["workers"] = workers

    def ready() -> None:
        told = {"path": path, "service": service, "pid": os.getpid(), "workers": workers}
        if as_json:
            print_json(told)
            sys.stdout.flush()
        else:
            click.echo(f"serving {service} at {path} (pid {os.getpid()}); Ctrl-C ends it", err=True)

    if wants_loop(implementation):
        import asyncio

        from ..asyncio import serve as serve_in_loop

        asyncio.run(serve_in_loop(implementation, path, grace=grace, ready=ready, **options))
    else:
        from ..server import serve

        serve(implementation, path, grace=grace, ready=ready, **options)
