"""rows.c, where it was built (build.py). Typed by hand where it is used: cffi's objects have no types."""

from typing import Any

ffi: Any
lib: Any
