"""flipcall call: one call, arguments and result as JSON."""

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import click
import msgspec

from ..errors import FlipcallError, MisuseError
from . import remote
from .text import print_json, print_json_line


@click.command("call")
@click.argument("path", type=click.Path())
@click.argument("method")
@click.argument("arguments", metavar="JSON", default="[]")
@click.option("--json", "as_json", is_flag=True, help="Results that are bytes as JSON too, in base64.")
@click.option(
    "--stdin",
    "from_stdin",
    is_flag=True,
    help="The parameter that is a stream: each line of stdin is a JSON document.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="How long connecting, and then the call, may take.",
)
@click.option("--service", default="", metavar="NAME", help="A built-in one, such as flipcall.Health.")
def command(
    path: str,
    method: str,
    arguments: str,
    as_json: bool,
    from_stdin: bool,
    timeout: float,
    service: str,
) -> None:
    """Call METHOD of the service at the socket PATH, without having its class.

    JSON holds the arguments: an array in their order, an object by name; anything else is the only argument.
    bytes are base64 strings, a stream is an array. The result is printed as JSON, the items of a stream one a line
    as they come; bytes are written as they are, unless stdout is a terminal.
    """
    with remote.connect(path, timeout, service) as there:
        with _answering():
            _, target = there.method(method)
            given = remote.arguments(target, arguments)
            if from_stdin:
                given = remote.with_stream(target, given, remote.lines(sys.stdin))
            result = there.call(method, given)
        raw = not as_json and not sys.stdout.isatty()
        if target.stream_result:
            for item in _answers(result):
                _item(item, raw)
        elif target.bulk_result and raw:
            sys.stdout.buffer.write(result)
        else:
            _print(result, print_json)


@contextmanager
def _answering() -> Iterator[None]:
    """Around what may raise what the handler raised. Not around printing, whose errors are this program's own."""
    try:
        yield
    except MisuseError as e:  # no such method, or arguments that do not fit it
        raise click.UsageError(str(e)) from e
    except (FlipcallError, click.ClickException):
        raise
    except Exception as e:  # the handler's own, rebuilt here: an answer, not this program's failure
        raise click.ClickException(f"{type(e).__name__}: {e}") from e


def _answers(items: Iterable[Any]) -> Iterator[Any]:
    with _answering():
        yield from items


def _item(item: Any, raw: bool) -> None:
    if raw and isinstance(item, bytes):
        sys.stdout.buffer.write(item)
        sys.stdout.buffer.flush()
    else:
        _print(item, print_json_line)


def _print(result: Any, how: Callable[[Any], None]) -> None:
    try:
        how(result)
    except (TypeError, msgspec.ValidationError) as e:
        raise click.ClickException(f"the result has no form in JSON: {e}") from e
