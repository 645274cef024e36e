"""Downloads: 1 MiB of a server's, as bytes, into a buffer, and seen in the window, beside the copy that takes.

The memcpy row is one copy from private memory to shared, which is the one that no way can do without; again and
again the same buffers, in one process, so at best from its cache.
"""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import partial
from pathlib import Path
from types import TracebackType

import flipcall
from bench.echo import STORED, Store
from bench.measure import Contender, CpuTimes, Effort, Sample, sample_calls
from bench.peer import ServeConfig
from bench.peers.base import Address
from bench.policies import policy_named
from bench.process import PeerProcess
from bench.rows import Labels, Row, find_row, ratio
from bench.run import Case, Progress, measure_group

MIB = STORED
WINDOW = 2 * MIB


class Transfer:
    """One way to move MIB bytes, between this process and a server process of its own."""

    def __init__(self, labels: Labels, directory: Path) -> None:
        self.labels = labels
        path = str(directory / f"{labels.case}.sock")
        with ExitStack() as stack:
            address = Address(transport="flipcall", path=path, content="store")
            self.peer = stack.enter_context(PeerProcess(ServeConfig(address=address, cpu=-1)))
            client = flipcall.connect(Store, path, window_size=WINDOW, policy=policy_named("balanced"))
            self._call = self.way(stack.enter_context(client))
            self._open = stack.pop_all()

    def way(self, store: Store) -> Callable[[], None]:
        """What moves them once, as the labels say."""
        raise NotImplementedError

    def run(self, effort: Effort) -> Sample:
        """One run."""
        return sample_calls(self._call, effort.seconds, self.peer.cpu_times)

    def __enter__(self) -> Transfer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._open.close()


class Download(Transfer):
    """One way to download."""

    def way(self, store: Store) -> Callable[[], None]:
        """See Transfer."""
        self._read = store.read
        self._buffer = bytearray(MIB)
        ways = {"download_view": self._view, "download_into": self._into, "download": self._bytes}
        return ways[self.labels.case]

    def _view(self) -> None:
        with flipcall.view(self._read, MIB) as data:
            if len(data) != MIB:
                raise AssertionError(f"{len(data)} bytes came")

    def _into(self) -> None:
        if flipcall.into(self._buffer, self._read, MIB) != MIB:
            raise AssertionError("too few bytes came")

    def _bytes(self) -> None:
        if len(self._read(MIB)) != MIB:
            raise AssertionError("too few bytes came")


class Memcpy:
    """The one copy that a transfer cannot do without, without a transfer."""

    def __init__(self, labels: Labels) -> None:
        self.labels = labels
        self._shared, self._private = memoryview(mmap.mmap(-1, MIB)), os.urandom(MIB)

    def run(self, effort: Effort) -> Sample:
        """One run."""
        return sample_calls(self._copy, effort.seconds, _own_time)

    def _copy(self) -> None:
        self._shared[:] = self._private


def measure_part(
    effort: Effort, progress: Progress, directory: Path
) -> tuple[list[Row], dict[str, float | None]]:
    """The rows and ratios of downloads, all one comparison."""
    ways = {
        "download_view": "download_1mib_view_over_memcpy",
        "download_into": "download_1mib_into_over_memcpy",
        "download": "download_1mib_over_memcpy",
    }
    return beside_memcpy("download", ways, Download, effort, progress, directory)


def beside_memcpy(
    case: str,
    ways: Mapping[str, str],
    transfer: type[Transfer],
    effort: Effort,
    progress: Progress,
    directory: Path,
) -> tuple[list[Row], dict[str, float | None]]:
    """The rows of one copy and of all `ways` of a transfer, one comparison; ratios by the name of each way's."""
    copy = Labels(case=case, transport="memcpy", size=MIB)

    def open_copy() -> AbstractContextManager[Contender]:
        return nullcontext(Memcpy(copy))

    cases = [Case(copy, open_copy)]
    for way in ways:
        labels = Labels(case=way, transport="flipcall", policy="balanced", size=MIB)
        cases.append(Case(labels, partial(transfer, labels, directory)))
    rows = measure_group(cases, effort, progress)
    under = find_row(rows, case, transport="memcpy")
    return rows, {name: ratio(find_row(rows, way, transport="flipcall"), under) for way, name in ways.items()}


def _own_time() -> CpuTimes:
    return CpuTimes(client=time.process_time_ns(), server=None)
