"""Running something in a real child process, and killing it at a chosen step."""

import os
import signal
import sys
import traceback
from collections.abc import Callable
from types import FrameType
from typing import Any

# Where a step is counted: every call into C that these modules make, before it and after it.
_STEPS_OF = {"flipcall.named", "flipcall.window", "flipcall.process", "flipcall.allocator"}


def fork(body: Callable[[], object]) -> int:
    """Run `body` in a child, which then ends without cleaning up: exit status 0, or 1 if it raised."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        _kept = body()  # not collected, and so not closed, before the end
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def wait(pid: int) -> int:
    """The exit status of a child, or minus the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def run(body: Callable[[], object]) -> int:
    """fork and wait."""
    return wait(fork(body))


def kill_at(step: int, body: Callable[[], object]) -> bool:
    """Run `body` in a child that SIGKILLs itself at its `step`-th step; False when it has fewer steps."""

    def dying() -> object:
        seen = 0

        def count(frame: FrameType, event: str, _arg: Any) -> None:
            nonlocal seen
            if event in ("c_call", "c_return") and frame.f_globals.get("__name__") in _STEPS_OF:
                seen += 1
                if seen == step:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.setprofile(count)
        result = body()
        sys.setprofile(None)
        return result

    status = run(dying)
    assert status in (0, -signal.SIGKILL)
    return status != 0


def nofile_limit(spare: int) -> int:
    """The RLIMIT_NOFILE that leaves this process room for exactly `spare` descriptors more."""
    probes = [os.dup(0) for _ in range(spare + 1)]  # the lowest free numbers, holes included
    for fd in probes:
        os.close(fd)
    return probes[-1]


class Gate:
    """Holds children back until open() is called; made before they are forked."""

    def __init__(self) -> None:
        self._r, self._w = os.pipe()

    def wait(self) -> None:
        """In a child: return when the gate opens, or the parent is gone."""
        os.close(self._w)
        os.read(self._r, 1)

    def open(self) -> None:
        os.close(self._w)
        os.close(self._r)


class Reports:
    """Bytes that children send to their parent; made before they are forked."""

    def __init__(self) -> None:
        self._r, self._w = os.pipe()

    def send(self, byte: bytes) -> None:
        os.write(self._w, byte)

    def read(self, n: int) -> bytes:
        """Exactly `n` bytes, in any order of the children."""
        out = b""
        while len(out) < n:
            out += os.read(self._r, n - len(out))
        return out

    def close(self) -> None:
        os.close(self._r)
        os.close(self._w)
