"""FUTEX_SWAP's number: what it can be set to, what never reaches the kernel, and what the core is told."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

import pytest

from flipcall import kernel, syscalls
from flipcall._core import lib
from tests.support import run_python
from tests.switch.support import needs_swap

VARIABLE = kernel.FUTEX_SWAP_VARIABLE


@pytest.fixture(autouse=True)
def _asked_anew() -> Iterator[None]:
    """The probe remembers its answer; these tests want it asked."""
    kernel.futex_swap.cache_clear()
    yield
    kernel.futex_swap.cache_clear()


class Kernel:
    """A futex(2) that answers as a kernel with FUTEX_SWAP at `number` would, and writes down what it is asked."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.asked: list[int] = []

    def futex(self, word: int, op: int, value: int, timeout: syscalls.Timespec, word2: int) -> int:
        self.asked.append(op & ~syscalls.FUTEX_PRIVATE_FLAG)
        if self.asked[-1] != self.number:
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
        bad = timeout.tv_nsec >= 1_000_000_000
        raise OSError(errno.EINVAL if bad else errno.EAGAIN, "")


def test_default_is_fourteen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the setting, or with an empty one, it is what proto/kernel's patch takes."""
    monkeypatch.delenv(VARIABLE, raising=False)
    assert kernel.futex_swap_number() == 14
    monkeypatch.setenv(VARIABLE, " ")
    assert kernel.futex_swap_number() == 14


@pytest.mark.parametrize(("text", "number"), [("14", 14), (" 64 ", 64), ("127", 127), ("015", 15)])
def test_numbers_that_can_be(monkeypatch: pytest.MonkeyPatch, text: str, number: int) -> None:
    """Any number above FUTEX_LOCK_PI2's and below the flags can be FUTEX_SWAP; exactly that is asked for."""
    monkeypatch.setenv(VARIABLE, text)
    assert kernel.futex_swap_number() == number
    pretended = Kernel(number)
    monkeypatch.setattr(syscalls, "futex", pretended.futex)
    feature = kernel.futex_swap()
    assert feature.available
    assert feature.value == number
    assert pretended.asked == [number, number]


@pytest.mark.parametrize(
    "text", ["0", "12", "128", "142", "-1", "x", "0xe", "1e1", "14.0", "１４", "9" * 400]
)
def test_numbers_that_cannot_be(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Other operations, flags and nonsense are refused by the setting's name; nothing is asked."""
    monkeypatch.setenv(VARIABLE, text)
    monkeypatch.setattr(syscalls, "futex", lambda *_: pytest.fail("asked the kernel"))
    with pytest.raises(ValueError, match=VARIABLE):
        kernel.futex_swap_number()
    feature = kernel.futex_swap()
    assert not feature.available
    assert feature.reason.startswith(VARIABLE)
    assert len(feature.reason) < 200


@pytest.mark.parametrize(
    ("release", "allowed"),
    [
        ("5.13.19-generic", True),
        ("4.18.0-553.el8", True),
        ("3.10.0", True),
        ("5.14.0-rc1", False),
        ("5.15", False),
        ("6.12.117-futexswap", False),
        ("10.1", False),
        ("2.6.72", False),  # setarch --uname-2.6 on a new kernel
        ("5", False),
        ("unknown", False),
        ("", False),
    ],
)
def test_thirteen_only_before_lock_pi2(monkeypatch: pytest.MonkeyPatch, release: str, allowed: bool) -> None:
    """13, the number of 2020, is asked for only where it cannot be FUTEX_LOCK_PI2."""
    monkeypatch.setenv(VARIABLE, "13")
    monkeypatch.setattr(kernel.platform, "release", lambda: release)
    pretended = Kernel(13)
    monkeypatch.setattr(syscalls, "futex", pretended.futex)
    assert kernel.futex_swap().available is allowed
    assert pretended.asked == ([13, 13] if allowed else [])


def test_core_takes_only_numbers_that_can_be() -> None:
    """The core's own check, behind the probe's."""
    try:
        for number in (1, 12, 128, 128 + 14, 2**32 - 1):
            assert lib.fc_set_swap(number) == lib.FC_ERR_SIZE
        for number in (lib.FC_SWAP_MIN, lib.FC_SWAP_MAX, 0):
            assert lib.fc_set_swap(number) == lib.FC_OK
    finally:
        feature = kernel.futex_swap()
        lib.fc_set_swap(feature.value if feature.available else 0)


@needs_swap
def test_wrong_number_here_is_no_swap() -> None:
    """A number that is nothing in this kernel: swap is not offered, and asking for it says which number it was."""
    done = run_python(
        """
        from flipcall import switch
        say(*switch.offered(None))
        try:
            switch.offered("swap")
        except Exception as error:
            say(type(error).__name__, error)
        """,
        env={VARIABLE: "99"},
        timeout=120,
    )
    first, second = done.stdout.splitlines()
    assert "swap" not in first.split()
    assert second.startswith("UnsupportedError switch swap cannot work here: ENOSYS")
