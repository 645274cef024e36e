"""The feature probes: what they may never do, what they leave behind (nothing), how they read each answer."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator

import pytest

from flipcall import kernel, syscalls
from tests.support import run_python

FUTEX_LOCK_PI2 = 13
Futex = Callable[..., int]


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    """Probes remember their answers; these tests want them asked."""
    for probe in kernel.PROBES:
        getattr(probe, "cache_clear", lambda: None)()
    yield
    for probe in kernel.PROBES:
        getattr(probe, "cache_clear", lambda: None)()


@pytest.mark.parametrize("probe", kernel.PROBES, ids=lambda probe: probe.__name__)
def test_probe_answers_with_a_reason(probe: Callable[[], kernel.Feature]) -> None:
    """Every probe gives its own name and says why in one line; the fixture checks that it leaves nothing."""
    feature = probe()
    assert feature.name == probe.__name__
    assert feature.reason
    assert "\n" not in feature.reason


def test_lock_pi2_is_never_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """No probe issues futex operation 13: on Linux >= 5.14 it takes a lock."""
    asked: list[int] = []
    real = syscalls.futex

    def spy(word: int, op: int, *rest: object) -> int:
        asked.append(op & 0x7F)
        return real(word, op, *rest)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(syscalls, "futex", spy)
    kernel.features()
    assert syscalls.FUTEX_SWAP in asked
    assert FUTEX_LOCK_PI2 not in asked


def _answers(*answers: int | None) -> Futex:
    """A futex(2) that gives these answers in turn: an errno, or None for success."""
    left = list(answers)

    def futex(*_: object) -> int:
        code = left.pop(0)
        if code is not None:
            raise OSError(code, os.strerror(code))
        return 0

    return futex


@pytest.mark.parametrize(
    ("answers", "available", "said"),
    [
        ((errno.ENOSYS,), False, "ENOSYS"),
        ((errno.EINVAL, errno.EAGAIN), True, "carries the patch"),
        ((None,), False, "something else"),
        ((errno.EINVAL, None), False, "something else"),
        ((errno.EINVAL, errno.EFAULT), False, "something else here: EFAULT"),
        ((errno.EINVAL, errno.ETIMEDOUT), False, "something else here: ETIMEDOUT"),
        ((errno.EPERM,), False, "EPERM"),
    ],
)
def test_futex_swap_believes_only_what_the_patch_says(
    monkeypatch: pytest.MonkeyPatch, answers: tuple[int | None, ...], available: bool, said: str
) -> None:
    """Only EINVAL for an impossible timeout, then EAGAIN, mean FUTEX_SWAP; anything else does not."""
    monkeypatch.setattr(syscalls, "futex", _answers(*answers))
    feature = kernel.futex_swap()
    assert feature.available is available
    assert said in feature.reason


def test_wait_operation_in_place_of_swap_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Should 14 become an operation that takes no timeout (here: FUTEX_WAKE), the first question tells."""
    monkeypatch.setattr(syscalls, "FUTEX_SWAP", 1)
    assert not kernel.futex_swap().available


def test_lock_operation_in_place_of_swap_takes_no_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Should 14 become a lock operation (here: FUTEX_LOCK_PI2), the probe ends at once and holds none."""
    monkeypatch.setattr(syscalls, "FUTEX_SWAP", FUTEX_LOCK_PI2)
    feature = kernel.futex_swap()
    assert not feature.available


def test_sync_wake_is_probed_elsewhere() -> None:
    """After the seccomp-notify probe this process has no filter and no no_new_privs."""

    def status() -> list[str]:
        with open("/proc/self/status", encoding="ascii") as lines:
            return [line for line in lines if line.startswith(("Seccomp", "NoNewPrivs"))]

    before = status()
    kernel.seccomp_notify_sync_wake()
    assert before
    assert status() == before


@pytest.mark.parametrize(
    ("status", "stderr", "said"),
    [
        (1, "EINVAL Invalid argument\n", "EINVAL"),
        (1, "", "exit status 1"),
        (-signal.SIGSYS, "", f"killed by signal {int(signal.SIGSYS)}"),
    ],
)
def test_sync_wake_reads_how_the_prober_ended(
    monkeypatch: pytest.MonkeyPatch, status: int, stderr: str, said: str
) -> None:
    """A prober that fails, or is killed by an outer filter, is a "no" with its reason."""
    done = subprocess.CompletedProcess[str]([], status, "", stderr)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)
    feature = kernel.seccomp_notify_sync_wake()
    assert not feature.available
    assert said in feature.reason


def test_probes_are_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel does not change under a process: the second answer is the first."""
    first = kernel.futex_waitv()
    monkeypatch.setattr(syscalls, "futex_waitv_of_nothing", lambda: pytest.fail("asked again"))
    assert kernel.futex_waitv() is first


def test_probes_work_from_any_thread() -> None:
    """Nothing in a probe needs the main thread."""
    found: list[kernel.Feature] = []
    thread = threading.Thread(target=lambda: found.extend(kernel.features()))
    thread.start()
    thread.join()
    assert len(found) == len(kernel.PROBES)


def test_imports_nothing_above_the_core() -> None:
    """flipcall.kernel stands at the bottom of the house: of flipcall it loads cpus and syscalls alone."""
    done = run_python(
        """
        import sys, types
        package = types.ModuleType("flipcall")
        package.__path__ = ["flipcall"]
        sys.modules["flipcall"] = package
        import flipcall.kernel
        say(*sorted(name for name in sys.modules if name.startswith("flipcall.")))
        """
    )
    assert done.stdout.split() == ["flipcall.cpus", "flipcall.kernel", "flipcall.syscalls"], done.stderr
