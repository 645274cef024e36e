"""The one door for system calls: numbers as the C library knows them, errors as the kernel gives them."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import subprocess
from pathlib import Path

import pytest

from flipcall import syscalls

_NAMES = ["futex", "seccomp", "openat2", "landlock_create_ruleset", "futex_waitv"]
_HEADER_NAMES = {
    "FUTEX_WAIT_BITSET": "linux/futex.h",
    "FUTEX_PRIVATE_FLAG": "linux/futex.h",
    "SECCOMP_SET_MODE_FILTER": "linux/seccomp.h",
    "SECCOMP_GET_ACTION_AVAIL": "linux/seccomp.h",
    "SECCOMP_FILTER_FLAG_NEW_LISTENER": "linux/seccomp.h",
    "SECCOMP_RET_USER_NOTIF": "linux/seccomp.h",
    "SECCOMP_RET_ALLOW": "linux/seccomp.h",
    "LANDLOCK_CREATE_RULESET_VERSION": "linux/landlock.h",
    "RESOLVE_NO_MAGICLINKS": "linux/openat2.h",
    "RESOLVE_NO_SYMLINKS": "linux/openat2.h",
    "RESOLVE_BENEATH": "linux/openat2.h",
    "PR_SET_NO_NEW_PRIVS": "linux/prctl.h",
}


def _compiled(tmp_path: Path, headers: set[str], names: list[str]) -> dict[str, int]:
    """The values the C compiler has for `names`; those its headers do not know are left out."""
    lines = [f"#include <{header}>" for header in sorted(headers)] + [
        "#include <stdio.h>",
        "int main(void) {",
    ]
    for name in names:
        lines += [f"#ifdef {name}", f'printf("{name} %lld\\n", (long long)({name}));', "#endif"]
    source = tmp_path / "values.c"
    source.write_text("\n".join([*lines, "return 0; }", ""]))
    subprocess.run(["cc", "-o", str(tmp_path / "values"), str(source)], check=True)
    told = subprocess.run([str(tmp_path / "values")], check=True, capture_output=True, text=True).stdout
    return {name: int(value) for name, value in (line.split() for line in told.splitlines())}


def test_numbers_are_the_headers(tmp_path: Path) -> None:
    """Every number typed in syscalls.py is the one of this machine's headers, where they know it."""
    values = _compiled(tmp_path, {"sys/syscall.h"}, [f"SYS_{name}" for name in _NAMES])
    assert "SYS_futex" in values
    assert {name: syscalls._number(name[4:]) for name in values} == values


def test_constants_are_the_headers(tmp_path: Path) -> None:
    """So is every constant."""
    values = _compiled(tmp_path, set(_HEADER_NAMES.values()), list(_HEADER_NAMES))
    assert "FUTEX_WAIT_BITSET" in values
    assert {name: getattr(syscalls, name) for name in values} == values


def test_unknown_machine_is_enosys(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine without a table every call says ENOSYS, naming the machine; no number is guessed."""
    monkeypatch.setattr(platform, "machine", lambda: "pdp11")
    with pytest.raises(OSError, match="pdp11") as caught:
        syscalls.landlock_abi()
    assert caught.value.errno == errno.ENOSYS


def test_machines_share_what_is_common() -> None:
    """A call with a number in the common table has none of its own, on any machine."""
    assert set(syscalls._OWN["x86_64"]) == set(syscalls._OWN["aarch64"])
    assert not set(syscalls._OWN["x86_64"]) & set(syscalls._COMMON)


def test_zero_words_cannot_be_written() -> None:
    """The page the probes point the kernel at reads as zero and refuses the kernel's own writes."""
    with syscalls.zero_words() as address:
        read, write = os.pipe()
        os.write(write, b"x")
        result = syscalls._libc.read(read, ctypes.c_void_p(address), 1)
        os.close(read)
        os.close(write)
        assert ctypes.c_uint32.from_address(address).value == 0
    assert result == -1


def test_openat2_stays_beneath(tmp_path: Path) -> None:
    """openat2 opens below the directory and refuses `..` and symlinks with the kernel's errno."""
    (tmp_path / "inside").touch()
    (tmp_path / "link").symlink_to("/etc/passwd")
    directory = os.open(tmp_path, os.O_PATH)
    resolve = syscalls.RESOLVE_BENEATH | syscalls.RESOLVE_NO_SYMLINKS
    try:
        os.close(syscalls.openat2(directory, "inside", os.O_RDONLY, 0, resolve))
        for name, code in [("../x", errno.EXDEV), ("link", errno.ELOOP), ("/etc", errno.EXDEV)]:
            with pytest.raises(OSError, match=os.strerror(code)) as caught:
                syscalls.openat2(directory, name, os.O_RDONLY, 0, resolve)
            assert caught.value.errno == code
    except OSError as error:
        if error.errno != errno.ENOSYS:
            raise
        pytest.skip("this kernel has no openat2")
    finally:
        os.close(directory)
