"""seccomp: which system calls the process may make from now on (seccomp(2)).

An allow-list, compiled to the kernel's classic BPF: a chain of comparisons with the system call's number, each
with a condition on one argument where that is worth it. What is not on the list does not exist (ENOSYS, so that
libc takes another way where it has one), what is there and refused as it is asked for is EPERM, and what
nothing but an attack would call ends the process.

Own code: libseccomp would have to be installed beside pip, and its binding on PyPI is from 2021. The numbers
are the system-calls package's.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from typing import NamedTuple

import system_calls

_SECCOMP = {"x86_64": 317, "aarch64": 277}
"""The system call's own number."""
_SECCOMP_SET_MODE_FILTER = 1
_FILTER_FLAG_TSYNC = 1

_ALLOW = 0x7FFF0000
_ERRNO = 0x00050000
_KILL_PROCESS = 0x80000000

# linux/bpf_common.h
_LOAD = 0x20  # BPF_LD | BPF_W | BPF_ABS
_JUMP_EQUAL = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_JUMP_ANY_BIT = 0x45  # BPF_JMP | BPF_JSET | BPF_K
_JUMP_NOT_BELOW = 0x35  # BPF_JMP | BPF_JGE | BPF_K
_RETURN = 0x06

# struct seccomp_data: nr, arch, instruction_pointer, args[6]; the lower half of an argument, little-endian
_NUMBER, _ARCH, _ARGUMENTS = 0, 4, 16
_MACHINES = {"x86_64": (0xC000003E, "x86_64"), "aarch64": (0xC00000B7, "arm64")}
_X32 = 0x40000000  # x86_64's other calling convention, by the same architecture: its numbers are from here on


class When(NamedTuple):
    """A condition on the lower 32 bits of an argument; none when every other call is fine."""

    argument: int
    value: int
    bits: str = "equal"
    """"equal": all of them; "any": one of value's bits is set; "none": none is."""


class Rule(NamedTuple):
    """A system call that is allowed."""

    name: str
    user: str
    """Who needs it."""
    when: When | None = None


class UnsupportedMachine(OSError):
    """There is no filter for this processor."""


def install(program: bytes) -> str:
    """Put all threads of this process under a program of `assemble`; in words, what that is.

    The process must have no_new_privs. Raises OSError when the kernel takes no filter.
    """
    buffer = ctypes.create_string_buffer(program, len(program))

    class _Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))

    argument = _Program(len(program) // 8, ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    result = libc.syscall(
        ctypes.c_long(_SECCOMP[platform.machine()]),
        ctypes.c_uint(_SECCOMP_SET_MODE_FILTER), ctypes.c_uint(_FILTER_FLAG_TSYNC), ctypes.byref(argument),
    )  # fmt: skip
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"seccomp(2): {os.strerror(code)}")
    if result:
        raise OSError(errno.EBUSY, f"seccomp(2): thread {result} has a filter of its own")
    return f"an allow-list, {len(program) // 8} instructions"


def assemble(allowed: list[Rule], deadly: list[str]) -> bytes:
    """A program that allows `allowed`, and ends the process for `deadly`; names this architecture does not have
    are left out. Reads the tables of numbers, so that it comes before there is no file to be read.
    """
    arch, _ = _machine()
    code = [
        _instruction(_LOAD, _ARCH),
        _instruction(_JUMP_EQUAL, arch, 1, 0),
        _instruction(_RETURN, _KILL_PROCESS),
        _instruction(_LOAD, _NUMBER),
        _instruction(_JUMP_NOT_BELOW, _X32, 0, 1),
        _instruction(_RETURN, _KILL_PROCESS),
    ]
    numbers = _numbers([rule.name for rule in allowed])
    for rule in allowed:
        if rule.name in numbers:
            code += _allow(numbers[rule.name], rule.when)
    for name in dict.fromkeys(
        rule.name for rule in allowed if rule.when is not None and rule.name in numbers
    ):
        code += [
            _instruction(_JUMP_EQUAL, numbers[name], 0, 1),
            _instruction(_RETURN, _ERRNO | errno.EPERM),
        ]
    for number in _numbers(deadly).values():
        code += [_instruction(_JUMP_EQUAL, number, 0, 1), _instruction(_RETURN, _KILL_PROCESS)]
    code.append(_instruction(_RETURN, _ERRNO | errno.ENOSYS))
    return b"".join(code)


def _allow(number: int, when: When | None) -> list[bytes]:
    if when is None:
        return [_instruction(_JUMP_EQUAL, number, 0, 1), _instruction(_RETURN, _ALLOW)]
    jump = _JUMP_EQUAL if when.bits == "equal" else _JUMP_ANY_BIT
    yes, no = (1, 0) if when.bits == "none" else (0, 1)
    return [
        _instruction(_JUMP_EQUAL, number, 0, 4),
        _instruction(_LOAD, _ARGUMENTS + 8 * when.argument),
        _instruction(jump, when.value, yes, no),
        _instruction(_RETURN, _ALLOW),
        # Refused, and known: the next rule may be for the same call, with another condition.
        _instruction(_LOAD, _NUMBER),
    ]


def _instruction(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)


def _machine() -> tuple[int, str]:
    try:
        return _MACHINES[platform.machine()]
    except KeyError:
        raise UnsupportedMachine(errno.ENOSYS, f"no seccomp filter for {platform.machine()}") from None


def _numbers(names: list[str]) -> dict[str, int]:
    """Of those that this architecture has."""
    table, (_, arch) = system_calls.syscalls(), _machine()
    found = {}
    for name in names:
        try:
            found[name] = int(table.get(name, arch))
        except system_calls.NotSupportedSystemCall:
            pass
    return found
