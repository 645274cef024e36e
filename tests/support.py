"""What several tests need: waiting for a state, Python children, stopping and killing processes."""

from __future__ import annotations

import inspect
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TypeVar

REPOSITORY = Path(__file__).resolve().parents[1]
POLL_S = 0.002
# How many times slower than usual this machine is: an emulator, in which `make test-swap` runs tests.
SLOW = max(1, int(os.environ.get("FLIPCALL_TEST_SLOW") or 1))
PATIENCE_S = 20.0 * SLOW  # for things that take milliseconds; wide, because a loaded CI machine is slow

T = TypeVar("T")


def wait_until(predicate: Callable[[], T], timeout: float = PATIENCE_S, what: str = "") -> T:
    """Poll `predicate` until it returns something true, and return that. AssertionError after `timeout` s."""
    deadline = time.monotonic() + timeout
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s: {what or _source(predicate)}")
        time.sleep(POLL_S)


def _source(predicate: Callable[[], object]) -> str:
    try:
        return inspect.getsource(predicate).strip()
    except (OSError, TypeError):
        return repr(predicate)


def process_state(pid: int) -> str:
    """The state letter in /proc/PID/stat: R, S, D, T (stopped), Z (zombie); "" when there is no process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return stat.rpartition(")")[2].split()[0]


def is_gone(pid: int) -> bool:
    """Whether the process has ended, reaped or not."""
    return process_state(pid) in ("", "Z", "X")


def stop(pid: int) -> None:
    """SIGSTOP the process and return once it has stopped."""
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: process_state(pid) == "T", what=f"process {pid} stops")


def resume(pid: int) -> None:
    """SIGCONT the process."""
    os.kill(pid, signal.SIGCONT)


class Child:
    """A Python child running a snippet, spoken to by lines: we read its stdout and write its stdin.

    Use `say(...)` in the snippet to tell the test where it has got to, and `wait_line()` here: that is how
    tests synchronise with it.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.pid = process.pid
        assert process.stdin is not None
        assert process.stdout is not None
        self.stdin: IO[str] = process.stdin
        self.stdout: IO[str] = process.stdout

    def wait_line(self) -> str:
        """The next line the child says. AssertionError with its status when it ends first."""
        line = self.stdout.readline()
        if not line:
            raise AssertionError(
                f"the child said nothing more and ended with {self.process.wait(PATIENCE_S)}"
            )
        return line.rstrip("\n")

    def expect(self, line: str) -> None:
        """Wait for the child to say exactly `line`."""
        said = self.wait_line()
        assert said == line, f"the child said {said!r}, not {line!r}"

    def tell(self, line: str) -> None:
        """Write one line to the child's stdin."""
        self.stdin.write(line + "\n")
        self.stdin.flush()

    def signal(self, number: int) -> None:
        """Send a signal; nothing happens if the child is gone."""
        self.process.send_signal(number)

    def kill(self) -> int:
        """SIGKILL, wait, and return the status (negative: the signal)."""
        self.process.kill()
        return self.wait()

    def wait(self, timeout: float = PATIENCE_S) -> int:
        """Wait for the end; the exit status, or minus the signal."""
        return self.process.wait(timeout)


_PRELUDE = """\
import sys
def say(*words):
    print(*words, flush=True)
def hear():
    return sys.stdin.readline().rstrip("\\n")
"""


def source_of(code: str | Callable[..., None], args: Sequence[object] = ()) -> str:
    """A program from a snippet (its `args` are sys.argv[1:]) or from a function, which is called with `args`.

    A function must import what it uses inside itself (its own annotations: builtins only); its arguments must
    have a repr that evaluates.
    """
    if isinstance(code, str):
        return _PRELUDE + textwrap.dedent(code)
    name = code.__name__
    call = f"{name}({', '.join(repr(arg) for arg in args)})"
    return f"{_PRELUDE}{textwrap.dedent(inspect.getsource(code))}\n{call}\n"


@contextmanager
def child(
    code: str | Callable[..., None],
    *args: object,
    env: dict[str, str] | None = None,
    stderr: int | None = None,
    pass_fds: Sequence[int] = (),
) -> Iterator[Child]:
    """Run Python code in a fresh process; it is killed and reaped on the way out, whatever happened.

    Fresh, not forked: the parent's threads, descriptors and endpoints are none of its business.
    """
    argv = [] if callable(code) else [str(arg) for arg in args]
    process = subprocess.Popen(
        [sys.executable, "-c", source_of(code, args), *argv],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        cwd=REPOSITORY,
        env={**os.environ, **(env or {})},
        pass_fds=pass_fds,
    )
    with process:  # closes the pipes and waits
        try:
            yield Child(process)
        finally:
            process.kill()
            process.send_signal(signal.SIGCONT)


def run_python(
    code: str | Callable[..., None],
    *args: object,
    env: dict[str, str] | None = None,
    timeout: float = PATIENCE_S,
) -> subprocess.CompletedProcess[str]:
    """Run Python code in a fresh process to its end; status and both outputs as text."""
    argv = [] if callable(code) else [str(arg) for arg in args]
    return run([sys.executable, "-c", source_of(code, args), *argv], env=env, timeout=timeout)


def run(
    command: Sequence[str],
    *,
    env: dict[str, str] | None = None,
    timeout: float = PATIENCE_S,
    stdin: str = "",
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end in the repository's root; status and both outputs as text."""
    return subprocess.run(
        list(command),
        input=stdin,
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        env={**os.environ, **(env or {})},
        timeout=timeout,
        check=False,
    )
