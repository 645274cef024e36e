"""ProcessId: which process a number meant, told apart from a later process with the same number.

The kernel hands a process number out again once its owner is gone. Number and start time together are
unique until the machine restarts, and a number means something only inside one pid namespace
(pid_namespaces(7)).
"""

import os
from typing import NamedTuple


class ProcessId(NamedTuple):
    """A process of this pid namespace. `start` is field 22 of /proc/PID/stat (proc(5)): clock ticks after
    boot."""

    pid: int
    start: int

    @classmethod
    def current(cls) -> "ProcessId":
        """This process. Raises OSError when /proc is not mounted."""
        return cls(os.getpid(), _starttime("self")[0])

    def alive(self) -> bool:
        """Whether this very process still runs; one that was killed and awaits its parent does not.

        Raises OSError when /proc cannot be read for a reason other than the process being gone.
        """
        try:
            start, running = _starttime(str(self.pid))
        except (FileNotFoundError, ProcessLookupError):
            return False
        return running and start == self.start


def pid_namespace() -> int:
    """What tells the pid namespace of this process from others. Raises OSError when /proc is not mounted."""
    return os.stat("/proc/self/ns/pid").st_ino


def _starttime(pid: str) -> tuple[int, bool]:
    with open(f"/proc/{pid}/stat", "rb") as f:
        text = f.read()
    # The second field, the command in parentheses, may itself hold spaces and parentheses.
    fields = text[text.rindex(b")") + 1 :].split()
    state, threads, start = fields[0], int(fields[17]), int(fields[19])
    # A process is a zombie, too, when its first thread has ended and others still run.
    return start, state not in (b"Z", b"X") or threads > 1
