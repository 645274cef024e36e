"""What a test could leave behind in its process: descriptors, children, shared memory, mappings, threads.

A `Holdings` is a picture of all of it; `Holdings.beyond` names what a later picture has more.
tests/conftest.py takes one before and compares after every test.
"""

from __future__ import annotations

import os
import re
import threading
from collections import Counter
from dataclasses import dataclass
from multiprocessing import resource_tracker
from pathlib import Path

import psutil

_SHM = Path("/dev/shm")
_SHARED = re.compile(r"^(/memfd:|/dev/shm/)")
_OF_THE_MACHINE = re.compile(
    r"^iox2_.*\.global_mgmt$"
)  # iceoryx2's, a peer of bench: made once, kept for all
_THREADS = "flipcall-"


@dataclass(frozen=True)
class Holdings:
    """What this process holds now. Each set's members read well in a failure message."""

    descriptors: frozenset[str]  # "7 -> socket:[123]": a number used anew for something else is new
    children: frozenset[str]
    shm: frozenset[str]
    mappings: Counter[str]  # "/memfd:x (inode 12)" -> bytes, so that splitting a mapping is not a new one
    threads: frozenset[str]

    @classmethod
    def now(cls) -> Holdings:
        return cls(_descriptors(), _children(), _shm(), _mappings(), _flipcall_threads())

    def beyond(self, before: Holdings) -> list[str]:
        """What is held now and was not held `before`, one line each; empty when nothing is."""
        lines = [f"descriptor {x}" for x in sorted(self.descriptors - before.descriptors)]
        lines += [f"child {x}" for x in sorted(self.children - before.children)]
        lines += [f"/dev/shm/{x}" for x in sorted(self.shm - before.shm) if not _belongs_elsewhere(x)]
        lines += [
            f"mapping {x}: {size} bytes" for x, size in sorted((self.mappings - before.mappings).items())
        ]
        lines += [f"thread {x}" for x in sorted(self.threads - before.threads)]
        return lines


def _tracker() -> tuple[int, int]:
    """multiprocessing's resource tracker: one process and pipe a program, kept on purpose until it ends."""
    tracker = resource_tracker._resource_tracker  # pyright: ignore
    pid, fd = getattr(tracker, "_pid", None), getattr(tracker, "_fd", None)
    return pid or -1, -1 if fd is None else fd


def children(recursive: bool = False) -> list[psutil.Process]:
    """This process's children, but for multiprocessing's resource tracker: see _tracker()."""
    keep = _tracker()[0]
    return [child for child in psutil.Process().children(recursive=recursive) if child.pid != keep]


def _descriptors() -> frozenset[str]:
    keep = _tracker()[1]
    found: set[str] = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            continue  # the one the listing itself used
        if int(name) != keep:
            found.add(f"{name} -> {target}")
    return frozenset(found)


def _children() -> frozenset[str]:
    """Children of every thread, zombies included."""
    keep = _tracker()[0]
    pids: set[int] = set()
    for task in Path("/proc/self/task").iterdir():
        try:
            pids.update(int(pid) for pid in (task / "children").read_text().split())
        except (FileNotFoundError, ProcessLookupError):
            continue  # a thread that has just ended
    return frozenset(f"{pid} {_command(pid)}" for pid in pids if pid != keep)


def _command(pid: int) -> str:
    try:
        state = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0]
        words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return "(gone)"
    return "(zombie)" if state == "Z" else words.strip()[:200]


def _shm() -> frozenset[str]:
    return frozenset(name for name in os.listdir(_SHM) if not _OF_THE_MACHINE.match(name))


def _belongs_elsewhere(name: str) -> bool:
    """Whether a live process that is neither this one nor its child has the entry mapped or open.

    /dev/shm is everybody's; another program's memory is not this test's leak. Looked at only on suspicion.
    """
    path = str(_SHM / name)
    ours = {os.getpid(), *(int(line.split()[0]) for line in _children())}
    for process in Path("/proc").iterdir():
        if not process.name.isdigit() or int(process.name) in ours:
            continue
        try:
            if path in (process / "maps").read_text(errors="replace"):
                return True
            if any(os.readlink(fd) == path for fd in (process / "fd").iterdir()):
                return True
        except OSError:
            continue  # gone, or another user's
    return not (_SHM / name).exists()


def _mappings() -> Counter[str]:
    sizes: Counter[str] = Counter()
    for line in Path("/proc/self/maps").read_text(errors="replace").splitlines():
        fields = line.split(maxsplit=5)
        if len(fields) == 6 and _SHARED.match(fields[5]):
            start, _, end = fields[0].partition("-")
            sizes[f"{fields[5]} (inode {fields[4]})"] += int(end, 16) - int(start, 16)
    return sizes


def _flipcall_threads() -> frozenset[str]:
    return frozenset(
        f"{thread.name} ({thread.ident})"
        for thread in threading.enumerate()
        if thread.name.startswith(_THREADS)
    )
