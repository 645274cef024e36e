"""``python -m bench sendrecv|call|gofer [--json] [--quick] [--runs N] [--case PATTERN] [--plot FILE]``, and
``python -m bench plot REPORT.json FILE``, which draws what ``--json`` printed.
"""

from __future__ import annotations

import argparse
import importlib
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import msgspec

from bench import machine
from bench.compile import CompileError
from bench.measure import FULL, MATRIX, QUICK, Effort
from bench.plot import PlotError, draw, family_of, require
from bench.process import PeerError
from bench.rows import Report, Row
from bench.run import Progress
from flipcall.errors import FlipcallError

FAMILIES = ("sendrecv", "call", "gofer")
Family = Callable[[Effort, Progress], tuple[list[Row], dict[str, float | None]]]


def main(arguments: list[str] | None = None) -> int:
    """Measure one family and print its report. The exit status: 0 whatever the figures say."""
    options = _parser().parse_args(arguments)
    if options.family == "plot":
        return _plot_saved(options.report, options.file)
    effort = QUICK if options.quick else MATRIX if options.family == "sendrecv" else FULL
    effort = msgspec.structs.replace(effort, cases=tuple(options.case))
    if options.runs is not None:
        effort = msgspec.structs.replace(effort, runs=options.runs)
    signal.signal(signal.SIGTERM, _terminate)  # unwind, so that no child is left
    try:
        if options.plot is not None:
            require()  # before the minutes, not after
        described = machine.describe()  # before, not after: the load average is part of it
        family: Family = importlib.import_module(f"bench.{options.family}").measure_family
        rows, ratios = family(effort, _progress())
    except (CompileError, PeerError, FlipcallError, OSError, subprocess.SubprocessError, PlotError) as error:
        print(f"bench: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("bench: interrupted", file=sys.stderr)
        return 130
    finally:
        _progress()("")
    report = Report(machine=described, rows=rows, ratios=ratios)
    if not rows and options.case:
        print(f"bench: no case of {options.family} is like {' or '.join(options.case)}", file=sys.stderr)
        return 1
    if options.plot is not None:
        draw(options.family, report, options.plot)
    if options.json:
        print(report.to_json())
        return 0
    from rich.console import Console

    from bench.report import render

    console = Console(width=None if sys.stdout.isatty() else 180, highlight=False)
    render(options.family, report, console)
    if options.quick:
        console.print("[yellow]--quick: a check that everything runs; the figures mean little.[/]")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure flipcall beside its peers.")
    commands = parser.add_subparsers(dest="family", required=True, metavar="|".join((*FAMILIES, "plot")))
    for family in FAMILIES:
        _add_options(commands.add_parser(family, help=f"measure {family}"))
    plot = commands.add_parser("plot", help="draw a saved report")
    plot.add_argument("report", type=Path, help="what --json printed")
    plot.add_argument("file", type=_picture, help="FILE.svg or FILE.png")
    return parser


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--json", action="store_true", help="one JSON object on standard output, nothing else"
    )
    parser.add_argument(
        "--quick", action="store_true", help="seconds instead of minutes; only shows that it runs"
    )
    parser.add_argument("--runs", type=_positive, metavar="N", help="runs of each contender")
    parser.add_argument(
        "--case",
        action="append",
        default=[],
        metavar="PATTERN",
        help="only cases like this, as a shell compares: '*_futex', or with placement and load "
        "'python_*/free/paced-*'; may be repeated",
    )
    parser.add_argument("--plot", type=_picture, metavar="FILE", help="also draw it: FILE.svg or FILE.png")


def _plot_saved(report: Path, file: Path) -> int:
    try:
        saved = msgspec.json.decode(report.read_bytes(), type=Report)
        draw(family_of(saved), saved, file)
    except (OSError, msgspec.DecodeError, PlotError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    return 0


def _picture(text: str) -> Path:
    path = Path(text)
    if path.suffix not in (".svg", ".png"):
        raise argparse.ArgumentTypeError("must end in .svg or .png")
    return path


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def _progress() -> Progress:
    """Says on standard error what is being measured, if a person watches; a line that is overwritten."""
    if not sys.stderr.isatty():
        return lambda text: None

    def show(text: str) -> None:
        sys.stderr.write(f"\r\x1b[K{text}")
        sys.stderr.flush()

    return show


def _terminate(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
