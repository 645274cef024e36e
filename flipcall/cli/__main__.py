"""`python -m flipcall.cli` is `flipcall`."""

from . import main

if __name__ == "__main__":
    main()
