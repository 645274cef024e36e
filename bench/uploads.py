"""Uploads: 1 MiB to a server that looks at it where it lies, beside one copy of as much.

What is sent is made anew each time, by a copy out of private memory, as a file's pages or an encoder's output are:
into private memory, for an argument that is bytes (`upload`, with the copy into the window two), or by filled(),
where it is sent from (`upload_filled`: one). `upload_ready` is sent as it was before the run: one copy as well.
The memcpy row is the one copy from private memory to shared, buffers reused, in one process.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import flipcall
from bench.echo import Store
from bench.measure import Effort
from bench.rows import Row
from bench.run import Progress
from bench.views import MIB, Transfer, beside_memcpy


class Upload(Transfer):
    """One way to upload."""

    def way(self, store: Store) -> Callable[[], None]:
        """See Transfer."""
        self._write = store.write
        self._source, self._made = os.urandom(MIB), bytearray(MIB)
        ways = {"upload_filled": self._filled, "upload_ready": self._ready, "upload": self._bytes}
        return ways[self.labels.case]

    def _make(self, place: memoryview | bytearray) -> None:
        place[:] = self._source

    def _filled(self) -> None:
        self._check(self._write(flipcall.filled(MIB, self._make)))

    def _ready(self) -> None:
        self._check(self._write(memoryview(self._source)))

    def _bytes(self) -> None:
        self._make(self._made)
        self._check(self._write(memoryview(self._made)))

    def _check(self, size: int) -> None:
        if size != MIB:
            raise AssertionError(f"{size} bytes came")


def measure_part(
    effort: Effort, progress: Progress, directory: Path
) -> tuple[list[Row], dict[str, float | None]]:
    """The rows and ratios of uploads, all one comparison."""
    ways = {
        "upload_filled": "upload_1mib_filled_over_memcpy",
        "upload_ready": "upload_1mib_ready_over_memcpy",
        "upload": "upload_1mib_over_memcpy",
    }
    return beside_memcpy("upload", ways, Upload, effort, progress, directory)
