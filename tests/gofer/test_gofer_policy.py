"""The list of system calls, by table: an emulator has no seccomp, so that other processors' cannot be tried."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest
import system_calls

from gofer import policy, seccomp
from gofer.export import Export

INSTEAD = {"poll": "ppoll", "epoll_wait": "epoll_pwait"}
"""What libc calls where a system call of the list is not there: newer processors have the newer one alone."""

NEWER_ONLY = [
    # Of libc's fstat, open, rename, unlink, mkdir, chmod, ..., where the call of that name does not exist.
    "fstat", "newfstatat", "openat", "renameat", "renameat2", "unlinkat", "mkdirat", "fchmodat", "fchownat",
    "readlinkat", "symlinkat", "linkat", "mknodat", "utimensat", "getdents64",
    # Of what Python and flipcall wait, accept and start threads with.
    "ppoll", "epoll_pwait", "epoll_create1", "eventfd2", "accept4", "futex", "clone",
]  # fmt: skip


@pytest.fixture(params=["x86_64", "aarch64"])
def machine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a processor that this one is taken for; the name of its table."""
    monkeypatch.setattr(platform, "machine", lambda: request.param)
    return {"x86_64": "x86_64", "aarch64": "arm64"}[request.param]


def test_every_name_is_a_system_call_of_the_machine(machine: str, tree: Path) -> None:
    """A name that a processor does not have is left out in silence: then its successor is on the list, too."""
    export = Export(tree, sockets=True)
    try:
        allowed = [rule.name for rule in policy.system_calls(export)]
        program = seccomp.assemble(policy.system_calls(export), policy.DEADLY)
    finally:
        export.close()
    table = system_calls.syscalls()
    missing = set()
    for name in [*allowed, *policy.DEADLY]:
        try:
            table.get(name, machine)
        except system_calls.NotSupportedSystemCall:
            missing.add(name)
    assert missing == (set(INSTEAD) if machine == "arm64" else set())
    assert set(INSTEAD.values()) <= set(allowed)
    assert set(NEWER_ONLY) <= set(allowed)
    assert len(program) % 8 == 0
