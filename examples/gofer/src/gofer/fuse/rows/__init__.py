"""Two rows more in the table of operations that pyfuse3 gives libfuse: fallocate, and lseek, which finds holes.

libfuse's table has them, and pyfuse3 (3.5.0, the newest) leaves them empty: then the kernel answers for itself.
The table is in pyfuse3's static memory and copied when it makes its session, so that is the moment:

    pyfuse3.init ──► fuse_session_new ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─► libfuse's
                        └──► rows.c: is armed? a copy of the table with two rows more ──┘

The dynamic linker looks a symbol up in what was loaded for everybody before it looks in the libraries that the
asking one is linked with. So _rows, which defines fuse_session_new, is loaded for everybody, and before pyfuse3,
whose symbols are bound when it is loaded. That is a hack, and bounded so:

- Unless it is armed, which is for the moment of the mount's pyfuse3.init alone (answers.py), it passes a call on
  unchanged; and always to the libfuse that the caller is linked with, of which there may be several.
- Where it cannot work, nothing changes: not built for want of libfuse3's headers, pyfuse3 imported before, or
  linked with libfuse statically. What is reported is what happened: whether a session got the rows.
- A pyfuse3 that has such a row itself keeps it.
- A forked child has what its parent had, no more.

A row is called within fuse_session_process_buf, on the loop's thread, which holds the GIL. It starts a task and
returns, and that task answers; as pyfuse3's own do.

Rejected:
- mfusepy has fallocate (no lseek), and paths for files: docs/gofer-mount.md.
- A binding of our own for the thirty other operations, or pyfuse3 in our own edition: to be kept up for ever.
- Writing into libfuse's session after it was made: its layout is private and changes.
- Redirecting pyfuse3's own entry for the symbol (its GOT), which would not mind what was imported before: ELF
  relocations of each architecture, and pages made writable that the linker made read-only.
- Reading requests before pyfuse3 does (a descriptor of ours in /dev/fuse's place): each request copied once more.
- LD_PRELOAD: has to be there before Python is.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Any

lib: Any = None
ffi: Any = None
why_not: str | None = None
"""Why there are no rows to add; None if there are."""

try:
    import gofer.fuse.rows._rows as _rows
except ModuleNotFoundError:
    why_not = "not built, for want of libfuse3's headers"
except ImportError as error:
    why_not = str(error)
else:
    lib, ffi = _rows.lib, _rows.ffi
    if "pyfuse3" in sys.modules:
        why_not = "pyfuse3 was imported before gofer.fuse"
    else:
        ctypes.CDLL(_rows.__file__, ctypes.RTLD_GLOBAL)  # the same library again, now for everybody
