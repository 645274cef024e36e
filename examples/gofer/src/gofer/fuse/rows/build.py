"""How rows.c reaches Python: a cffi API-mode module, gofer.fuse.rows._rows. Built where libfuse3's headers are."""

import subprocess
import sys
import sysconfig

from cffi import FFI

CDEF = """
void rows_arm(bool armed);
bool rows_armed(void);
int rows_reply_error(void *request, int error);
int rows_reply_offset(void *request, int64_t offset);
extern "Python+C" int rows_fallocate(void *request, uint64_t handle, int mode, int64_t offset, int64_t length);
extern "Python+C" int rows_lseek(void *request, uint64_t handle, int64_t offset, int whence);
"""
HERE = "src/gofer/fuse/rows"
"""From where setup.py is."""


def headers() -> list[str] | None:
    """The compiler's arguments for libfuse3's headers, None where they are not (or pkg-config is not)."""
    try:
        asked = subprocess.run(
            ["pkg-config", "--cflags", "fuse3"], capture_output=True, text=True, check=True
        )
    except (FileNotFoundError, subprocess.CalledProcessError):
        return None
    return asked.stdout.split()


abi3 = sys.implementation.name == "cpython" and not sysconfig.get_config_var("Py_GIL_DISABLED")

ffi = FFI()
ffi.cdef(CDEF)
ffi.set_source(
    "gofer.fuse.rows._rows",
    '#include "rows.h"',
    sources=[f"{HERE}/rows.c"],
    depends=[f"{HERE}/rows.h"],
    include_dirs=[HERE],
    extra_compile_args=[
        "-std=gnu11", "-O2", "-fvisibility=hidden", "-D_FILE_OFFSET_BITS=64",
        "-Wall", "-Wextra", "-Wno-unused-parameter", *(headers() or []),
    ],
    py_limited_api=abi3,
)  # fmt: skip
