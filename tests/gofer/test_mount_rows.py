"""The two rows that gofer.fuse.rows adds to pyfuse3's table: whose sessions get them, and whose never."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from gofer_support import ROOT, fails
from mount_support import fallocate, mounted, needs_mount, needs_rows, sparse

pytestmark = [needs_mount, pytest.mark.timeout(40)]

MAIN = "from gofer.cli import main; main()"
IMPORTED = f"import pyfuse3; {MAIN}"
NOT_BUILT = f"import sys; sys.modules['gofer.fuse.rows._rows'] = None; {MAIN}"
FORKED = f"""
import os, signal, sys
import gofer.fuse
child = 0
signal.signal(signal.SIGTERM, lambda *_: child and os.kill(child, signal.SIGTERM))
child = os.fork()
if child:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
{MAIN}
"""


@pytest.mark.parametrize(
    ("code", "said"),
    [
        pytest.param(IMPORTED, "pyfuse3 was imported before gofer.fuse\n", marks=needs_rows),
        (NOT_BUILT, "not built, for want of libfuse3's headers\n"),
    ],
    ids=["imported-before", "not-built"],
)
def test_without_rows(tmp_path: Path, code: str, said: str) -> None:
    """Where there are none, the mount says so and why, and works: fallocate is EOPNOTSUPP, holes read as data."""
    with mounted(tmp_path, code=code) as mount:
        assert mount.mount.line() == f"gofer: fallocate and holes: not available: {said}"
        with open(mount.at / "file", "w+b", buffering=0) as file:
            for mode in (0, 1, 1 | 2, 16):  # none, KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE
                assert fallocate(file.fileno(), mode, 0, 1 << 16) == errno.EOPNOTSUPP
            assert (mount.tree / "file").stat().st_size == 0
            os.posix_fallocate(file.fileno(), 0, 1 << 16)  # libc makes up for it, by writing
            assert (mount.tree / "file").stat().st_blocks * 512 >= 1 << 16
        sparse(mount.tree / "sparse")
        with open(mount.at / "sparse", "rb") as file:
            assert os.lseek(file.fileno(), 0, os.SEEK_DATA) == 0
            with fails(errno.ENXIO):
                os.lseek(file.fileno(), 1 << 40, os.SEEK_DATA)
        assert mount.mount.stop() == (0, "")


@needs_rows
def test_in_a_forked_child(tmp_path: Path) -> None:
    """A child that was forked after the import mounts as any."""
    with mounted(tmp_path, code=FORKED) as mount:
        assert mount.mount.line() == "gofer: fallocate and holes: available\n"
        with open(mount.at / "file", "w+b", buffering=0) as file:
            assert fallocate(file.fileno(), 0, 0, 4096) == 0
        assert mount.mount.stop() == (0, "")
        assert not mount.is_mounted()


@needs_rows
def test_another_file_system_in_the_process(tmp_path: Path) -> None:
    """A session of pyfuse3's that is not the gofer's gets no rows, though gofer.fuse was imported first."""
    (tmp_path / "tree").mkdir()
    (tmp_path / "mnt").mkdir()
    sparse(tmp_path / "tree" / "file")
    code = (
        "import gofer.fuse, runpy; runpy.run_module('bench.passthrough', run_name='__main__', alter_sys=True)"
    )
    peer = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "tree"), str(tmp_path / "mnt")],
        cwd=ROOT, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert peer.stdout is not None
        assert peer.stdout.readline() == "ready\n"
        with open(tmp_path / "mnt" / "file", "rb") as file:
            assert os.lseek(file.fileno(), 0, os.SEEK_DATA) == 0
    finally:
        peer.terminate()
        peer.communicate(timeout=20)


def test_pyfuse3_has_none() -> None:
    """pyfuse3 has no handlers for the two; the day it has, gofer.fuse.rows can go."""
    import pyfuse3

    assert not {"fallocate", "lseek"} & set(vars(pyfuse3.Operations))


CALLS = """
import ctypes, sys
from gofer.fuse import rows
lib = rows.lib
caller = ctypes.CDLL(sys.argv[1])
class Given(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in
                ("ops", "size", "version", "userdata", "fallocate", "lseek", "create")]
caller.table.restype = ctypes.c_void_p
caller.table.argtypes = [ctypes.c_void_p] * 2
caller.make.restype = ctypes.POINTER(Given)
caller.make.argtypes = [ctypes.c_int, ctypes.c_size_t, ctypes.c_void_p]
def make(versioned, size=caller.whole(), own=None):
    global table
    table = caller.table(7, own)
    got = caller.make(versioned, size, 9)[0]
    assert (got.create, got.userdata, bool(got.version)) == (7, 9, bool(versioned))
    return got
"""


@pytest.fixture(scope="module")
def caller(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library that makes sessions, linked with a libfuse that is none."""
    compiler, flags = shutil.which("cc"), subprocess.run(
        ["pkg-config", "--cflags", "fuse3"], capture_output=True, text=True, check=False
    )  # fmt: skip
    if compiler is None or flags.returncode:
        pytest.skip("no C compiler, or no libfuse3 headers")
    directory = tmp_path_factory.mktemp("caller")
    for name, more in (("libfake", []), ("libold", ["-DNO_LSEEK"]), ("caller", ["-DCALLER"])):
        made = [compiler, "-shared", "-fPIC", "-Wall", "-Werror", "-Wl,-z,lazy", *flags.stdout.split(), *more]
        made += ["-o", str(directory / f"{name}.so"), str(Path(__file__).with_name("rows_caller.c"))]
        if name == "caller":
            made += [f"-L{directory}", "-lfake", "-Wl,-rpath,$ORIGIN"]
        subprocess.run(made, check=True)
    return directory / "caller.so"


@needs_rows
@pytest.mark.parametrize("versioned", [0, 1], ids=["as-3.0", "as-3.17"])
def test_tables(caller: Path, versioned: int) -> None:
    """Armed, one session's table is a copy with both rows, also of one that is shorter; its own rows stay."""
    code = f"""{CALLS}
unarmed = make({versioned})
assert (unarmed.ops, unarmed.size, unarmed.fallocate, unarmed.lseek) == (table, caller.whole(), 0, 0)
lib.rows_arm(True)
armed = make({versioned})
assert not lib.rows_armed()
assert armed.ops != table and armed.size == caller.whole() and armed.fallocate and armed.lseek
assert make({versioned}).fallocate == 0
lib.rows_arm(True)
short = make({versioned}, caller.before_lseek())
assert caller.before_lseek() < short.size <= caller.whole() and short.fallocate and short.lseek
lib.rows_arm(True)
assert make({versioned}, own=11).fallocate == 11
assert lib.rows_reply_error(rows.ffi.NULL, 5) == -5
assert lib.rows_reply_offset(rows.ffi.NULL, 6) == -6
"""
    subprocess.run([sys.executable, "-c", code, str(caller)], check=True, timeout=20)


@needs_rows
def test_python_fails(caller: Path) -> None:
    """Should Python not take a request, for want of memory maybe, it is answered all the same: EIO."""
    code = f"""{CALLS}
def fail(*request):
    raise MemoryError(*request[1:])
rows.ffi.def_extern("rows_fallocate", error=0)(fail)
rows.ffi.def_extern("rows_lseek", error=0)(fail)
lib.rows_arm(True)
armed = make(0)
answered = ctypes.c_int.in_dll(ctypes.CDLL("libfake.so"), "answered")
handle = ctypes.create_string_buffer(64)
for row, of in (
    (armed.fallocate, (ctypes.c_void_p, ctypes.c_ulong, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)),
    (armed.lseek, (ctypes.c_void_p, ctypes.c_ulong, ctypes.c_int64, ctypes.c_int)),
):
    answered.value = 0
    ctypes.CFUNCTYPE(None, *of, ctypes.c_char_p)(row)(None, *range(1, len(of)), handle.raw)
    assert answered.value == {errno.EIO}
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(caller)], capture_output=True, text=True, check=True, timeout=20
    )
    assert done.stderr.count("MemoryError") == 2


@needs_rows
def test_a_libfuse_without_the_answers(caller: Path) -> None:
    """A libfuse that cannot answer an lseek gets no rows; what was armed stays so, which is what is reported."""
    old = caller.parent / "old"
    old.mkdir()
    shutil.copy(caller, old / "caller.so")
    shutil.copy(caller.parent / "libold.so", old / "libfake.so")
    code = f"{CALLS}\nlib.rows_arm(True)\nassert make(0).fallocate == 0\nassert lib.rows_armed()"
    done = subprocess.run(
        [sys.executable, "-c", code, str(old / "caller.so")],
        capture_output=True,
        text=True,
        check=True,
        timeout=20,
    )
    assert set(done.stderr.splitlines()) == {
        "gofer: the caller of libfuse is linked with no fuse_reply_lseek"
    }
