"""What the command line prints: names, long listings, trees and stats, as coreutils and tree(1) do."""

from __future__ import annotations

import functools
import grp
import os
import pwd
import stat
import sys
import time
from collections.abc import Callable, Iterable, Iterator

from gofer import names
from gofer.protocol import Stat
from gofer.tree import Found

_HALF_YEAR_NS = 182 * 86400 * 10**9


def name(raw: bytes) -> str:
    """A name as stdout should have it: made safe for a terminal, otherwise as it is (`prepare_stdout`)."""
    return names.show(raw) if sys.stdout.isatty() else names.decode(raw)


def prepare_stdout() -> None:
    """Let names that are not UTF-8 through to pipes and files byte for byte.

    Where there is no standard output, nothing else becomes it, and writing to it is an error, not forgotten.
    """
    if sys.stdout is None:
        sys.stdout = open(os.open(os.devnull, os.O_RDONLY), "w")  # noqa: SIM115 - for as long as the process
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(encoding="utf-8", errors="surrogateescape")


def _pointing(raw: bytes, target: bytes | None) -> str:
    return name(raw) + (f" -> {name(target)}" if target is not None else "")


def long_listing(entries: Iterable[tuple[bytes, Stat, bytes | None]]) -> Iterator[str]:
    """Lines as of `ls -l`: of each entry its name, its stat, and the target if it is a link."""
    rows = [
        (
            stat.filemode(info.mode),
            str(info.nlink),
            _user(info.uid),
            _group(info.gid),
            _size(info),
            _when(info.mtime_ns),
            _pointing(raw, target),
        )
        for raw, info, target in entries
    ]
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(5)]
    for mode, links, user, group, size, when, shown in rows:
        yield (
            f"{mode} {links:>{widths[1]}} {user:<{widths[2]}} {group:<{widths[3]}} {size:>{widths[4]}}"
            f" {when} {shown}"
        )


def tree(found: Iterable[Found], target: Callable[[Found], bytes | None]) -> Iterator[str]:
    """Lines as of tree(1), without the first and the last; `target` says where a link points."""
    open_levels: list[bool] = []  # of each level above: whether something follows there
    for entry in found:
        del open_levels[entry.depth :]
        bars = "".join("│   " if more else "    " for more in open_levels)
        yield f"{bars}{'└── ' if entry.last else '├── '}{_pointing(entry.name, target(entry))}"
        open_levels.append(not entry.last)


def stat_lines(path: bytes, info: Stat, target: bytes | None) -> Iterator[str]:
    """Lines as of stat(1)."""
    kind = _KINDS.get(stat.S_IFMT(info.mode), "weird file")
    if stat.S_ISREG(info.mode) and info.size == 0:
        kind = "regular empty file"
    yield f"  File: {_pointing(path, target)}"
    yield f"  Size: {info.size:<10}\tBlocks: {info.blocks:<10} IO Block: {info.blksize:<6} {kind}"
    device = f"{os.major(info.dev)},{os.minor(info.dev)}"
    special = stat.S_ISCHR(info.mode) or stat.S_ISBLK(info.mode)
    what = f" Device type: {os.major(info.rdev)},{os.minor(info.rdev)}" if special else ""
    yield f"Device: {device}\tInode: {info.ino:<10}  Links: {f'{info.nlink:<5}' if special else info.nlink}{what}"
    yield (
        f"Access: ({stat.S_IMODE(info.mode):04o}/{stat.filemode(info.mode)})"
        f"  Uid: ({info.uid:5}/{_user(info.uid):>8})   Gid: ({info.gid:5}/{_group(info.gid):>8})"
    )
    for label, moment in (("Access", info.atime_ns), ("Modify", info.mtime_ns), ("Change", info.ctime_ns)):
        seconds, nanoseconds = divmod(moment, 10**9)
        local = time.localtime(seconds)
        date, zone = time.strftime("%Y-%m-%d %H:%M:%S", local), time.strftime("%z", local)
        yield f"{label}: {date}.{nanoseconds:09} {zone}"
    yield " Birth: -"  # which the protocol does not tell, like some file systems


def room(blocks: int, human: bool) -> str:
    """Blocks of 512 bytes, as du(1) says them: rounded up to KiB, or to a unit that needs at most three digits."""
    kib = -(-blocks // 2)
    if not human or kib == 0:
        return str(kib)
    number, unit = kib, 0
    while number > 1023:
        number, unit = -(-number // 1024), unit + 1
    tenths = -(-kib * 10 // 1024**unit)
    text = f"{tenths / 10:.1f}" if tenths < 100 else str(-(-tenths // 10))
    return text + "KMGTP"[unit]


_KINDS = {
    stat.S_IFREG: "regular file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symbolic link",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "character special file",
    stat.S_IFBLK: "block special file",
}


def _size(info: Stat) -> str:
    if stat.S_ISCHR(info.mode) or stat.S_ISBLK(info.mode):
        return f"{os.major(info.rdev)}, {os.minor(info.rdev)}"
    return str(info.size)


def _when(moment_ns: int) -> str:
    local = time.localtime(moment_ns // 10**9)
    recent = -3600 * 10**9 < time.time_ns() - moment_ns < _HALF_YEAR_NS
    return time.strftime("%b %e %H:%M" if recent else "%b %e  %Y", local)


@functools.cache
def _user(uid: int) -> str:
    """The user's name here: client and gofer are on one machine."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


@functools.cache
def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
