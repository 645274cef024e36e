"""flipcall call: one call, arguments and result as JSON."""

import sys
from typing import Any

import click
import msgspec

from ..errors import FlipcallError, MisuseError
from . import remote
from .text import print_json


@click.command("call")
@click.argument("path", type=click.Path())
@click.argument("method")
@click.argument("arguments", metavar="JSON", default="[]")
@click.option("--json", "as_json", is_flag=True, help="A bytes result as JSON too, in base64.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="How long connecting, and then the call, may take.",
)
def command(path: str, method: str, arguments: str, as_json: bool, timeout: float) -> None:
    """Call METHOD of the service at the socket PATH, without having its class.

    JSON holds the arguments: an array in their order, an object by name; anything else is the only argument.
    bytes are base64 strings. The result is printed as JSON; a bytes result is written as it is, unless stdout
    is a terminal.
    """
    with remote.connect(path, timeout) as there:
        try:
            _, target = there.method(method)
            result = there.call(method, remote.arguments(target, arguments))
        except MisuseError as e:  # no such method, or arguments that do not fit it
            raise click.UsageError(str(e)) from e
        except (FlipcallError, click.ClickException):
            raise
        except Exception as e:  # the handler's own, rebuilt here: an answer, not this program's failure
            raise click.ClickException(f"{type(e).__name__}: {e}") from e
    if target.bulk_result and not as_json and not sys.stdout.isatty():
        sys.stdout.buffer.write(result)
    else:
        _print(result)


def _print(result: Any) -> None:
    try:
        print_json(result)
    except (TypeError, msgspec.ValidationError) as e:
        raise click.ClickException(f"the result has no form in JSON: {e}") from e
