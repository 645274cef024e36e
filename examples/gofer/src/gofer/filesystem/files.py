"""The operations of GoferFileSystem."""

from __future__ import annotations

import os
import shutil
import stat as modes
from datetime import datetime, timezone
from typing import Any, cast

from fsspec.callbacks import DEFAULT_CALLBACK, Callback
from fsspec.utils import isfilelike

from gofer import names
from gofer.copy import download, upload
from gofer.filesystem.base import ConnectedFileSystem, connected
from gofer.filesystem.file import GoferFile
from gofer.protocol import Dent, Stat

Info = dict[str, Any]


class GoferFileSystem(ConnectedFileSystem):
    """The files of a gofer, as fsspec knows files. Symbolic links are followed, within the tree."""

    # ---- looking -------------------------------------------------------------------------------------

    @connected
    def info(self, path: str, **kwargs: Any) -> Info:
        """Name, size, type and times of a file, of what a symbolic link leads to."""
        path = self._strip_protocol(path)
        return self._info(path, self.client.lstat(path))

    def _info(self, path: str, found: Stat) -> Info:
        link = modes.S_ISLNK(found.mode)
        destination = self.client.readlink(path) if link else b""
        if link:
            try:
                found = self.client.stat(path)
            except OSError:
                pass  # leads nowhere, or out of the tree: then it is the link that is described
        kinds = {modes.S_IFDIR: "directory", modes.S_IFREG: "file", modes.S_IFLNK: "link"}
        info: Info = {
            "name": path,
            "size": found.size,
            "type": kinds.get(modes.S_IFMT(found.mode), "other"),
            "created": found.ctime_ns / 1e9,
            "islink": link,
            "mode": found.mode,
            "uid": found.uid,
            "gid": found.gid,
            "mtime": found.mtime_ns / 1e9,
            "ino": found.ino,
            "nlink": found.nlink,
        }
        if link:
            info["destination"] = names.decode(destination)
        return info

    @connected
    def ls(self, path: str, detail: bool = True, **kwargs: Any) -> list[Info] | list[str]:
        """A directory's entries with their attributes, one round trip for hundreds; a file's own.

        A symbolic link to a file is a file here, too; one to a directory is a "link".
        """
        path = self._strip_protocol(path)
        try:
            entries = list(self.client.scandir(path, stats=detail))
        except NotADirectoryError:
            return [self.info(path)] if detail else [path]
        if not detail:
            return [_join(path, entry) for entry in entries]
        found = [self._info(_join(path, entry), entry.stat) for entry in entries if entry.stat is not None]
        for info in found:
            if info["islink"] and info["type"] == "directory":
                info["type"] = "link"  # or walking a tree would walk in circles
        return found

    @connected
    def lexists(self, path: str, **kwargs: Any) -> bool:
        """Whether the name is there, be it a link that leads nowhere."""
        try:
            self.client.lstat(self._strip_protocol(path))
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def created(self, path: str) -> datetime:
        """When the inode last changed: the protocol knows no time of birth."""
        return datetime.fromtimestamp(self.info(path)["created"], tz=timezone.utc)

    def modified(self, path: str) -> datetime:
        """When the content last changed."""
        return datetime.fromtimestamp(self.info(path)["mtime"], tz=timezone.utc)

    # ---- whole files ---------------------------------------------------------------------------------

    @connected
    def _open(
        self,
        path: str,
        mode: str = "rb",
        block_size: int | None = None,
        autocommit: bool = True,
        cache_options: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Any:
        path = self._strip_protocol(path)
        if self.auto_mkdir and mode[0] in "wxa":
            self.makedirs(self._parent(path), exist_ok=True)
        if "+" in mode:  # updating in place, which fsspec's own buffered file cannot
            return self.client.open(path, mode, buffering=block_size or -1)
        return GoferFile(
            self,
            self.client,
            path,
            mode,
            block_size=block_size or "default",
            autocommit=autocommit,
            cache_options=cache_options,
            **kwargs,
        )

    @connected
    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **kwargs: Any) -> bytes:
        """The bytes of a file, or of a stretch of it; negative positions count from the end."""
        with self.client.open_raw(self._strip_protocol(path)) as file:
            if start is None and end is None:
                return file.readall()
            size = self.client.gofer.stat(file.fid).size
            first, last, _ = slice(start, end).indices(size)
            return file.pread(max(0, last - first), first)

    @connected
    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **kwargs: Any) -> None:
        """Make or replace a file; FileExistsError for one that is there when `mode` is "create"."""
        path = self._strip_protocol(path)
        if self.auto_mkdir:
            self.makedirs(self._parent(path), exist_ok=True)
        only = os.O_EXCL if mode == "create" else os.O_TRUNC
        with self.client.open_raw(path, os.O_WRONLY | os.O_CREAT | only) as file:
            file.write_all(value)

    @connected
    def touch(self, path: str, truncate: bool = True, **kwargs: Any) -> None:
        """Make an empty file; of one that is there, empty it (`truncate`) or renew its times."""
        path = self._strip_protocol(path)
        if self.auto_mkdir:
            self.makedirs(self._parent(path), exist_ok=True)
        how = os.O_TRUNC if truncate else 0
        self.client.open_raw(path, os.O_WRONLY | os.O_CREAT | how).close()
        self.client.utime(path)

    @connected
    def cp_file(self, path1: str, path2: str, **kwargs: Any) -> None:
        """Copy a file within the tree, through this process; of a directory, the directory alone."""
        source, target = self._strip_protocol(path1), self._strip_protocol(path2)
        if self.auto_mkdir:
            self.makedirs(self._parent(target), exist_ok=True)
        if self.isdir(source):
            self.makedirs(target, exist_ok=True)
            return
        client = self.client
        with client.open_raw(source) as file, client.open_raw(target, _WRITE) as copy:
            while data := file.read(client.max_read):
                copy.write_all(data)

    @connected
    def get_file(
        self,
        rpath: str,
        lpath: Any = None,
        callback: Callback = DEFAULT_CALLBACK,
        outfile: Any = None,
        **kwargs: Any,
    ) -> None:
        """Copy a file to a local path, or into an open file."""
        rpath = self._strip_protocol(rpath)
        out: Any = lpath if isfilelike(lpath) else outfile
        if out is not None:
            with self.client.open(rpath, "rb") as file:
                shutil.copyfileobj(file, out, self.client.max_read)
            return
        target = cast(str, lpath)
        if self.isdir(rpath):
            os.makedirs(target, exist_ok=True)
            return
        callback.set_size(self.client.stat(rpath).size)
        os.makedirs(os.path.dirname(os.path.abspath(target)), exist_ok=True)
        download(self.client, rpath, target, callback.relative_update)

    @connected
    def put_file(
        self,
        lpath: Any,
        rpath: str,
        callback: Callback = DEFAULT_CALLBACK,
        mode: str = "overwrite",
        **kwargs: Any,
    ) -> None:
        """Copy a local file into the tree."""
        rpath = self._strip_protocol(rpath)
        if os.path.isdir(lpath):
            self.makedirs(rpath, exist_ok=True)
            return
        if mode == "create" and self.lexists(rpath):
            raise FileExistsError(17, os.strerror(17), rpath)
        self.makedirs(self._parent(rpath), exist_ok=True)
        callback.set_size(os.path.getsize(lpath))
        upload(self.client, lpath, rpath, callback.relative_update)

    # ---- changing ------------------------------------------------------------------------------------

    @connected
    def mkdir(self, path: str, create_parents: bool = True, **kwargs: Any) -> None:
        """A new directory; FileExistsError where something is."""
        path = self._strip_protocol(path)
        if create_parents:
            self.makedirs(self._parent(path), exist_ok=True)
        self.client.mkdir(path, **kwargs)

    @connected
    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        """A new directory with those above it."""
        path = self._strip_protocol(path)
        if self.isdir(path):
            if not exist_ok:
                raise FileExistsError(17, os.strerror(17), path)
            return
        if path != "/":
            self.makedirs(self._parent(path), exist_ok=True)
        try:
            self.client.mkdir(path)
        except FileExistsError:  # another made it meanwhile
            if not (exist_ok and self.isdir(path)):
                raise

    @connected
    def rmdir(self, path: str) -> None:
        """Remove an empty directory."""
        self.client.rmdir(self._strip_protocol(path))

    @connected
    def rm_file(self, path: str) -> None:
        """Remove a name of a file; of a symbolic link, the link."""
        self.client.unlink(self._strip_protocol(path))

    @connected
    def rm(self, path: str | list[str], recursive: bool = False, maxdepth: int | None = None) -> None:
        """Remove files, and with `recursive` directories with all that is in them. Links are not followed."""
        if maxdepth is not None:
            raise NotImplementedError("maxdepth would leave directories that cannot be removed")
        for one in self.expand_path(path):
            if not modes.S_ISDIR(self.client.lstat(one).mode):
                self.client.unlink(one)
            elif recursive:
                self._remove_tree(one)
            else:
                raise IsADirectoryError(21, os.strerror(21), one)

    def _remove_tree(self, path: str) -> None:
        for entry in list(self.client.scandir(path, stats=True)):
            below = _join(path, entry)
            if entry.stat is not None and modes.S_ISDIR(entry.stat.mode):
                self._remove_tree(below)
            else:
                self.client.unlink(below)
        self.client.rmdir(path)

    @connected
    def mv(
        self, path1: str, path2: str, recursive: bool = True, maxdepth: int | None = None, **kwargs: Any
    ) -> None:
        """Rename, whatever it is; what is in the way is replaced, as rename(2) would. Into a directory, where
        there is one.
        """
        source, target = self._strip_protocol(path1), self._strip_protocol(path2)
        if self.auto_mkdir:
            self.makedirs(self._parent(target), exist_ok=True)
        if self.isdir(target) and not self.isdir(source):
            target = f"{target.rstrip('/')}/{source.rpartition('/')[2]}"
        self.client.rename(source, target)

    @connected
    def chmod(self, path: str, mode: int) -> None:
        """Set the permission bits."""
        self.client.chmod(self._strip_protocol(path), mode)


_WRITE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC


def _join(directory: str, entry: Dent) -> str:
    return f"{directory.rstrip('/')}/{names.decode(entry.name)}"
