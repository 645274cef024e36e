"""The command line, `flipcall`. Needs the extra flipcall[cli]; the library itself does not."""

import sys


def main() -> None:
    """Run the program and exit: 0 done, 1 failed, 2 wrong usage or extra missing, 130 interrupted."""
    try:
        from .app import run
    except ModuleNotFoundError as e:
        if (e.name or "").partition(".")[0] not in ("click", "rich"):
            raise
        print("flipcall: the command line needs click and rich: pip install 'flipcall[cli]'", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(run(sys.argv[1:]))
