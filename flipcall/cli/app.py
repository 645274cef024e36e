"""The commands, and the one place where an exception becomes a line on stderr and an exit status."""

import errno
import os
import sys
from collections.abc import Sequence
from typing import Any

import click

from .. import errors
from . import bench, call, demo, doctor, inspect, serve, top
from .text import one_line

FAILED, USAGE, INTERNAL, INTERRUPTED = 1, 2, 70, 130


class _Interrupted(Exception):
    """Ctrl-C, as an ordinary exception: click would write an empty line to stderr for it first."""


class _Commands(click.Group):
    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as e:
            raise _Interrupted from e


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="flipcall", prog_name="flipcall", message="%(prog)s %(version)s")
def commands() -> None:
    """Typed calls between two processes on one machine, in microseconds."""


for _command in (
    bench.command,
    call.command,
    demo.command,
    doctor.command,
    inspect.command,
    serve.command,
    top.command,
):
    commands.add_command(_command)


def run(args: Sequence[str]) -> int:
    """Run one command line; the exit status. An error is one line on stderr, never a traceback."""
    try:
        status = commands.main(list(args), prog_name="flipcall", standalone_mode=False)
        sys.stdout.flush()
        return status if isinstance(status, int) else 0
    except click.exceptions.NoArgsIsHelpError as e:
        click.echo(e.format_message(), err=True)
        return USAGE
    except click.ClickException as e:
        return _fail(e.format_message(), e.exit_code)
    except (click.Abort, KeyboardInterrupt, _Interrupted):
        return _fail("interrupted", INTERRUPTED)
    except OSError as e:
        if e.errno == errno.EPIPE:  # whoever read our output has had enough; Python's exit must not retry it
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return FAILED
        return _fail(_of_os(e), FAILED)
    except errors.FlipcallError as e:
        return _fail(str(e) or type(e).__name__, FAILED)
    except Exception as e:
        return _fail(f"internal error, please report it: {type(e).__name__}: {e}", INTERNAL)


def _of_os(e: OSError) -> str:
    named = f"{os.fsdecode(e.filename)}: " if isinstance(e.filename, (str, bytes)) else ""
    return f"{named}{e.strerror or e}"


def _fail(message: str, status: int) -> int:
    click.echo(f"flipcall: {one_line(message)}", err=True)
    return status
