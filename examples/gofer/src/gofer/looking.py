"""Finding and looking: walks, and what can be asked about an inode."""

from __future__ import annotations

import contextlib
import errno
import os
import stat

from gofer import syscalls
from gofer.fids import Handle
from gofer.operations import WALK, Operations, error
from gofer.protocol import Inode, Looked, Mounted, Stat, StatFs, Stop, Walked, WalkedStat

_SETTLED_BY_STEPS = (errno.ENOENT, errno.ELOOP, errno.ENOTDIR)
"""Why a walk in one go fails without saying where."""


class Looking(Operations):
    """The operations that change nothing and open nothing."""

    def mount(self) -> Mounted:
        export = self._export
        with self._fids.batch(1) as new:
            root = self._adopt(new, os.dup(export.root))
        return Mounted(
            root,
            export.max_io,
            export.max_io,
            export.max_names,
            export.max_fids,
            export.read_only,
            export.donate,
            export.sockets,
        )

    def walk(self, fid: int, names: list[bytes]) -> Walked:
        self._check_walk(names)
        inodes: list[Inode] = []
        stop = Stop.DONE
        with self._fids.control(fid) as start, self._fids.batch(len(names)) as new, self._tree.here.lock:
            at, node = start.fd, start.node
            for name in names:
                try:
                    with node.reading:
                        at = syscalls.open_beneath(at, name, WALK)
                except FileNotFoundError:
                    stop = Stop.MISSING
                    break
                found = self._adopt(new, at)
                inodes.append(found)
                if stat.S_ISLNK(found.stat.mode):
                    stop = Stop.SYMLINK
                    break
                node = self._tree.node(found.stat.dev, found.stat.ino)
        return Walked(inodes, stop)

    def walk_stat(self, fid: int, names: list[bytes], every: bool) -> WalkedStat:
        self._check_walk(names)
        with self._fids.control(fid) as start:
            if not every and names:
                quick = self._stat_at_once(start, names)
                if quick is not None:
                    stop = Stop.SYMLINK if stat.S_ISLNK(quick.mode) else Stop.DONE
                    return WalkedStat([quick], len(names), stop)
            with self._tree.here.lock:
                stats, stop = self._stat_by_steps(start, names)
        return WalkedStat(stats if every else stats[-1:], len(stats), stop)

    def walk_look(self, fid: int, names: list[bytes], name: bytes) -> Looked:
        self._check_walk([*names, name])
        with self._fids.control(fid) as start, self._tree.here.lock:
            fd = self._walk_to(start, names)
            try:
                info = os.fstat(fd)
                found: Stat | None = None
                with (
                    contextlib.suppress(FileNotFoundError),
                    self._tree.node(info.st_dev, info.st_ino).reading,
                ):
                    # One plain name, no link followed: safe without openat2.
                    found = self._stat(os.stat(name, dir_fd=fd, follow_symlinks=False))
            finally:
                os.close(fd)
        return Looked(self._stat(info), found)

    def _stat_at_once(self, start: Handle, names: list[bytes]) -> Stat | None:
        """Of the last name; None when it takes a walk by steps, because something is being changed (locks.py) or
        to say where it ends.
        """
        tree = self._tree
        before = tree.generation
        if tree.changing:
            return None
        try:
            if len(names) == 1:
                # One plain name, no link followed: safe without openat2.
                info = os.stat(names[0], dir_fd=start.fd, follow_symlinks=False)
            else:
                fd = syscalls.open_beneath(start.fd, b"/".join(names), WALK)
                try:
                    info = os.fstat(fd)
                finally:
                    os.close(fd)
        except OSError as e:
            if e.errno in _SETTLED_BY_STEPS:
                return None
            raise
        return self._stat(info) if tree.generation == before else None

    def _at_once(self, start: Handle, names: list[bytes], flags: int) -> int:
        """A descriptor of what the names lead to, in one system call; -1 when something was being changed
        meanwhile (locks.py), so that it takes a walk by steps.
        """
        tree = self._tree
        before = tree.generation
        if tree.changing:
            return -1
        try:
            fd = syscalls.open_beneath(start.fd, b"/".join(names), flags)
        except OSError:
            if tree.generation != before:
                return -1
            raise
        if tree.generation == before:
            return fd
        os.close(fd)
        return -1

    def _walk_to(self, start: Handle, names: list[bytes]) -> int:
        """An O_PATH descriptor of what the names lead to. The tree is shared."""
        fd = self._at_once(start, names, WALK) if names else -1
        if fd >= 0:
            return fd
        fd = os.dup(start.fd)
        try:
            for name in names:
                info = os.fstat(fd)
                if stat.S_ISLNK(info.st_mode):
                    raise error(errno.ELOOP)
                node = self._tree.node(info.st_dev, info.st_ino)
                with node.reading:
                    below = syscalls.open_beneath(fd, name, WALK)
                os.close(fd)
                fd = below
        except BaseException:
            os.close(fd)
            raise
        return fd

    def _stat_by_steps(self, start: Handle, names: list[bytes]) -> tuple[list[Stat], Stop]:
        """Name by name, each directory locked while it is looked into. The tree is shared."""
        stats: list[Stat] = []
        at, node = start.fd, start.node
        try:
            for name in names:
                previous = at
                try:
                    with node.reading:
                        at = syscalls.open_beneath(at, name, WALK)
                except FileNotFoundError:
                    return stats, Stop.MISSING
                if previous != start.fd:
                    os.close(previous)
                info = os.fstat(at)
                stats.append(self._stat(info))
                if stat.S_ISLNK(info.st_mode):
                    return stats, Stop.SYMLINK
                node = self._tree.node(info.st_dev, info.st_ino)
        finally:
            if at != start.fd:
                os.close(at)
        return stats, Stop.DONE

    def stat(self, fid: int) -> Stat:
        tree = self._tree
        with self._fids.any(fid) as handle:
            node = handle.node
            before = tree.generation, node.generation
            if not (tree.changing or node.changing):
                info = os.fstat(handle.fd)
                if before == (tree.generation, node.generation):
                    return self._stat(info)
            with tree.here.lock, node.reading:
                return self._stat(os.fstat(handle.fd))

    def statfs(self, fid: int) -> StatFs:
        with self._fids.any(fid) as handle, self._tree.here.lock, handle.node.reading:
            info = os.fstatvfs(handle.fd)
        return StatFs(
            info.f_bsize,
            info.f_frsize,
            info.f_blocks,
            info.f_bfree,
            info.f_bavail,
            info.f_files,
            info.f_ffree,
            info.f_favail,
            info.f_flag,
            info.f_namemax,
            info.f_fsid,
        )

    def readlink(self, fid: int) -> bytes:
        with self._fids.control(fid) as handle, self._tree.here.lock, handle.node.reading:
            if handle.type != stat.S_IFLNK:
                raise error(errno.EINVAL)
            return os.readlink(b"", dir_fd=handle.fd)
