"""A process that serves a tree makes itself unable to do anything else, before it reads its first request.

In this order, each step needing the ones before it:

0. the tree is on a mount of its own where that is permitted (detached.py), before all the rest;
1. the user it runs as, if another one is asked for (`--user`), without its groups;
2. capabilities: all go but those that serving other users' files takes;
3. no_new_privs: nothing it could start would have more;
4. Landlock: no file but those of the tree (landlock.py);
5. seccomp: no system call but those that serving takes (seccomp.py).

The socket it listens on is there before; nothing it can make or remove is beside the tree.

All of it holds for the calling thread and the threads it starts, so it is done while there is but one.

What the kernel cannot do is an error (`Confinement.FULL`), unless the operator says otherwise. What is enforced
is said line by line. openat2 (syscalls.py) is not among it: without that there is no gofer at all.
"""

from __future__ import annotations

import enum
import errno
import grp
import os
import pwd
from collections.abc import Callable
from typing import NamedTuple

import pyprctl
from pyprctl import Cap

from flipcall.lowlevel import spinning_allowed
from gofer import landlock, policy, seccomp
from gofer.export import Export


class Confinement(enum.Enum):
    """How much of it must be there."""

    FULL = "full"
    """All of it, or nothing is served."""
    PARTIAL = "partial"
    """What this kernel can do; what it cannot is said."""
    NONE = "none"
    """Nothing: for debugging."""


class User(NamedTuple):
    """Whom to run as."""

    uid: int
    gid: int

    @classmethod
    def parse(cls, text: str) -> User:
        """USER or USER:GROUP, names or numbers; without GROUP, the user's own. Raises OSError when unknown."""
        name, _, group = text.partition(":")
        try:
            entry = pwd.getpwuid(int(name)) if name.isdecimal() else pwd.getpwnam(name)
        except KeyError:
            if not (name.isdecimal() and group):
                raise OSError(errno.EINVAL, f"no such user, or no group given: {text}") from None
            entry = None
        uid = int(name) if entry is None else entry.pw_uid
        if not group:
            assert entry is not None
            return cls(uid, entry.pw_gid)
        try:
            return cls(uid, int(group) if group.isdecimal() else grp.getgrnam(group).gr_gid)
        except KeyError:
            raise OSError(errno.EINVAL, f"no such group: {group}") from None


class Enforced(NamedTuple):
    """One line of the report."""

    what: str
    how: str


_KEPT = {
    # What root needs for files that are others', and no more: not to open what it has no right to by handle,
    # not to make devices, not to change the owner of a process.
    True: {Cap.DAC_READ_SEARCH},
    False: {Cap.DAC_OVERRIDE, Cap.FOWNER, Cap.CHOWN},
}
"""By whether the tree is read-only. A process that does not have them does not get them."""


def confine(export: Export, level: Confinement, user: User | None = None) -> list[Enforced]:
    """Confine the calling process to `export`, and to the descriptors it has; what is enforced now.

    Raises OSError when something that `level` asks for is not to be had.
    """
    report = [Enforced("openat2", "beneath the tree, no symbolic links, no magic links")]
    restrictions = "no devices, no set-uid programs" + ", read-only" * export.read_only
    report.append(
        Enforced("mount", restrictions if export.own_mount else "the host's (CAP_SYS_ADMIN is missing)")
    )
    handed = [what for what, allowed in (("files", export.donate), ("sockets", export.sockets)) if allowed]
    report.append(
        Enforced("descriptors", f"{' and '.join(handed)} are handed out" if handed else "none is handed out")
    )
    if level is not Confinement.NONE and Cap.SETPCAP in pyprctl.CapState.get_current().effective:
        pyprctl.capbset.limit(*_KEPT[export.read_only])  # while it may: another user cannot
    if user is not None:
        report.append(_become(user))
    if level is Confinement.NONE:
        return [*report, Enforced("Landlock", "OFF (--confinement none)"), Enforced("seccomp", "OFF")]
    threads = len(os.listdir("/proc/self/task"))
    if threads != 1:
        raise OSError(errno.EBUSY, f"confining comes before threads, of which there are {threads}")
    _look_ahead()
    install_filter = _filter(export)
    report.append(_drop_capabilities(export.read_only))
    pyprctl.set_no_new_privs()
    report.append(Enforced("no_new_privs", "on"))
    enforcements: list[tuple[str, Callable[[], str]]] = [
        ("Landlock", lambda: landlock.restrict(policy.files(export))),
        ("seccomp", install_filter),
    ]
    for what, enforce in enforcements:
        try:
            report.append(Enforced(what, enforce()))
        except OSError as e:
            if level is Confinement.FULL:
                why = f"{what}: {e.strerror}; --confinement partial serves without what is missing"
                raise OSError(e.errno, why) from None
            report.append(Enforced(what, f"MISSING: {e.strerror}"))
    return report


def _become(user: User) -> Enforced:
    os.setgroups([])
    os.setresgid(user.gid, user.gid, user.gid)
    os.setresuid(user.uid, user.uid, user.uid)
    return Enforced("user", f"uid {user.uid}, gid {user.gid}, no other groups")


def _drop_capabilities(read_only: bool) -> Enforced:
    now = pyprctl.CapState.get_current()
    kept = now.permitted & _KEPT[read_only]
    pyprctl.CapState(effective=kept, permitted=kept, inheritable=set()).set_current()
    names = ", ".join(sorted(cap.name for cap in kept))
    return Enforced("capabilities", f"only {names}" if names else "none")


def _filter(export: Export) -> Callable[[], str]:
    """What installs the filter. It is assembled here and now, while the tables of numbers can be read."""
    try:
        program = seccomp.assemble(policy.system_calls(export), policy.DEADLY)
    except seccomp.UnsupportedMachine as e:
        unsupported = e

        def refuse() -> str:
            raise unsupported

        return refuse
    return lambda: seccomp.install(program)


def _look_ahead() -> None:
    """What is read once and remembered is read now, while it can be."""
    spinning_allowed()  # where the limits of CPUs stand, in /proc
