"""The seed's BM_Open: files through the gofer, over window and Unix socket, beside the system call.

open_close is what a user does, GoferClient.open_raw(path).close(): one round trip, and a share of the one in
which FIDs are given back together, against one openat and one close. The file is in the page cache, so the
way to it is what takes the time. read_1m gives the caller the bytes where the gofer has put them
(flipcall.view), read_1m_copied in memory of its own, read_1m_donated reads with the gofer's descriptor;
beside each stands os.pread. The servers are confined as `gofer serve` is, so that what that costs is in the
figures.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import msgspec

from bench.measure import Contender, CpuTimes, Effort, Sample, sample_calls
from bench.mount import measure_mounts
from bench.peer import GoferConfig
from bench.placement import Placement
from bench.policies import switch_of
from bench.process import PeerProcess
from bench.rows import Labels, Row, find_row, ratio
from bench.run import Case, Progress, measure_group
from gofer.client import GoferClient
from gofer.confine import Confinement, confine
from gofer.export import Export
from gofer.file import RemoteFile
from gofer.server import GoferServer

NAME = "file.bin"
READ_BYTES = 1 << 20
FILE_BYTES = 32 * READ_BYTES
"""Read from the beginning to the end, again and again: more than a CPU's own caches hold."""
DEEP = "a/b/c/d/e/f"
"""A path of six names."""
MANY = 10_000
TRANSPORTS: dict[str, Literal["window", "socket"]] = {"flipcall": "window", "socket": "socket"}
SIZES: dict[str, int | None] = {
    "open_close": None,
    "stat": None,
    "stat_deep": None,
    "getdents_10000": None,
    "read_4k": 4096,
    "read_1m": READ_BYTES,
    "read_1m_copied": READ_BYTES,
    "read_1m_donated": READ_BYTES,
}
"""The cases, and bytes moved where that is what they are about."""


Operations = dict[str, Callable[[], object]]


class FileOperation:
    """One operation over one transport; processes and connections are the family's."""

    def __init__(self, labels: Labels, call: Callable[[], object], cpu_times: Callable[[], CpuTimes]) -> None:
        self.labels = labels
        self._call = call
        self._cpu_times = cpu_times

    def run(self, effort: Effort) -> Sample:
        """One back-to-back run."""
        return sample_calls(self._call, effort.seconds, self._cpu_times)


class _Way(msgspec.Struct, frozen=True):
    """One way to the file: what can be done with it there, and who pays."""

    transport: str
    operations: Operations
    cpu_times: Callable[[], CpuTimes]


def measure_family(effort: Effort, progress: Progress) -> tuple[list[Row], dict[str, float | None]]:
    """All rows and ratios of the family. Each operation is one comparison of three ways."""
    rows: list[Row] = []
    with ExitStack() as stack:
        directory = Path(stack.enter_context(TemporaryDirectory(prefix="flipcall-bench-")))
        root = directory / "root"
        _plant(root)
        progress("starting the gofers")
        ways = [_proxied(stack, transport, directory, root) for transport in TRANSPORTS]
        ways.append(_direct(stack, root))
        for case in SIZES:
            rows += measure_group(
                [_case(case, way) for way in ways if case in way.operations], effort, progress
            )
    mounted, mount_ratios = measure_mounts(effort, progress)
    return [*rows, *mounted], {**ratios(rows), **mount_ratios}


def _plant(root: Path) -> None:
    (root / DEEP).parent.mkdir(parents=True)
    (root / DEEP).touch()
    (root / NAME).write_bytes(os.urandom(READ_BYTES) * (FILE_BYTES // READ_BYTES))
    (root / "many").mkdir()
    for number in range(MANY):
        (root / "many" / f"entry{number:05}").touch()


class _Sequence:
    """Reads of `size` bytes, one after the other, from the beginning again after the end."""

    def __init__(self, read: Callable[[int, int], object], size: int) -> None:
        self._read = read
        self._size = size
        self._offset = 0

    def __call__(self) -> None:
        self._read(self._size, self._offset)
        self._offset = (self._offset + self._size) % FILE_BYTES


def ratios(rows: list[Row]) -> dict[str, float | None]:
    """How much longer each operation takes over the socket than the window, and there than directly."""

    def over(case: str, transport: str, under: str) -> float | None:
        return ratio(find_row(rows, case, transport=transport), find_row(rows, case, transport=under))

    found: dict[str, float | None] = {}
    for case in SIZES:
        name = "open" if case == "open_close" else case
        found[f"{name}_socket_over_flipcall"] = over(case, "socket", "flipcall")
        found[f"{name}_flipcall_over_direct"] = over(case, "flipcall", "direct")
    found["getdents_10000_over_scandir"] = over("getdents_10000", "flipcall", "direct")
    found["read_1mib_over_pread_bandwidth"] = over("read_1m", "direct", "flipcall")
    found["copied_read_over_pread_bandwidth"] = over("read_1m_copied", "direct", "flipcall")
    found["donated_read_over_pread_bandwidth"] = over("read_1m_donated", "direct", "flipcall")
    return found


def serve(config: GoferConfig, ready: Callable[[], None], until: Callable[[], object]) -> None:
    """The server process: a gofer over `config.root`, until `until` returns."""
    try:
        export = Export(config.root, read_only=config.read_only, donate=True)
    except PermissionError:  # a read-only tree's need a mount of its own: the donated rows are missing then
        export = Export(config.root, read_only=config.read_only)
    server = GoferServer(export, config.path)
    server.listen()
    confine(export, Confinement.PARTIAL)
    try:
        with server:
            ready()
            until()
    finally:
        export.close()


def _proxied(stack: ExitStack, transport: str, directory: Path, root: Path) -> _Way:
    path = str(directory / f"{transport}.sock")
    peer = stack.enter_context(PeerProcess(GoferConfig(path=path, root=str(root))))
    client = stack.enter_context(GoferClient(path, transport=TRANSPORTS[transport]))
    opened = stack.enter_context(client.open_raw(NAME))
    if opened.pread(FILE_BYTES, 0) != (root / NAME).read_bytes():
        raise AssertionError("the gofer's file is not what was written")
    if len(list(client.scandir("many"))) != MANY:
        raise AssertionError("the gofer's directory is not what was made")

    def open_close() -> None:
        client.open_raw(NAME).close()

    operations: Operations = {
        "open_close": open_close,
        "stat": partial(client.stat, NAME),
        "stat_deep": partial(client.stat, DEEP),
        "getdents_10000": lambda: list(client.scandir("many")),
        "read_4k": partial(opened.pread, 4096, 0),
        "read_1m": _Sequence(partial(_view, opened), READ_BYTES),
        "read_1m_copied": _Sequence(opened.pread, READ_BYTES),
    }
    if client.limits.donates and transport == "flipcall":
        donated = stack.enter_context(opened.donated())
        operations["read_1m_donated"] = _Sequence(partial(os.pread, donated.fileno()), READ_BYTES)
    return _Way(transport, operations, peer.cpu_times)


def _view(file: RemoteFile, size: int, offset: int) -> None:
    """Read where the bytes lie; what is done with them there is the user's."""
    with file.view(size, offset) as data:
        if len(data) != size:
            raise AssertionError(f"{len(data)} bytes came, not {size}")


def _direct(stack: ExitStack, root: Path) -> _Way:
    path = os.fspath(root / NAME)
    fd = os.open(path, os.O_RDONLY)
    stack.callback(os.close, fd)

    def open_close() -> None:
        os.close(os.open(path, os.O_RDONLY))

    operations: Operations = {
        "open_close": open_close,
        "stat": partial(os.stat, path),
        "stat_deep": partial(os.stat, os.fspath(root / DEEP)),
        "getdents_10000": partial(_scandir, os.fspath(root / "many")),
        "read_4k": partial(os.pread, fd, 4096, 0),
        **{
            case: _Sequence(partial(os.pread, fd), READ_BYTES) for case in SIZES if case.startswith("read_1m")
        },
    }
    return _Way("direct", operations, lambda: CpuTimes(client=time.process_time_ns(), server=None))


def _scandir(path: str) -> list[tuple[str, os.stat_result]]:
    with os.scandir(path) as entries:
        return [(entry.name, entry.stat(follow_symlinks=False)) for entry in entries]


def _case(case: str, way: _Way) -> Case:
    through_window = way.transport == "flipcall"
    labels = Labels(
        case=case,
        transport=way.transport,
        switch=switch_of("balanced", Placement.FREE) if through_window else None,
        policy="balanced" if through_window else None,
        size=SIZES[case],
    )

    def open_operation() -> AbstractContextManager[Contender]:
        return nullcontext(FileOperation(labels, way.operations[case], way.cpu_times))

    return Case(labels, open_operation)
