"""A process that confines itself as `gofer serve` does and then tries what it must not be able to do.

    python confined.py TREE ro|rw ATTEMPT...

For each attempt a line: `did it`, or the name of the errno. Some attempts end the process.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import signal
import socket
import stat
import sys
from collections.abc import Callable

from gofer.confine import Confinement, confine
from gofer.export import Export

tree, access, *attempts = sys.argv[1:]
outside = os.path.dirname(tree)
libc = ctypes.CDLL(None, use_errno=True)


def call(*arguments: object) -> None:
    """A system call, raw."""
    numbers = {"ptrace": 101, "io_uring_setup": 425, "open_by_handle_at": 304, "landlock": 446}
    if libc.syscall(ctypes.c_long(numbers[str(arguments[0])]), *arguments[1:]) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def thread_of_x32() -> None:
    """A system call by x86_64's other convention."""
    libc.syscall(ctypes.c_long(0x40000000 | 39))


ATTEMPTS: dict[str, Callable[[], object]] = {
    "read outside": lambda: os.open(f"{outside}/secret", os.O_RDONLY),
    "read /etc": lambda: os.open("/etc/passwd", os.O_RDONLY),
    "read a process": lambda: os.open("/proc/1/environ", os.O_RDONLY),
    "list outside": lambda: os.listdir("/"),
    "write outside": lambda: os.open(f"{outside}/secret", os.O_WRONLY),
    "make outside": lambda: os.open(f"{outside}/new", os.O_WRONLY | os.O_CREAT),
    "make a directory outside": lambda: os.mkdir(f"{outside}/new"),
    "remove outside": lambda: os.unlink(f"{outside}/secret"),
    "move in": lambda: os.rename(f"{outside}/secret", f"{tree}/secret"),
    "link in": lambda: os.link(f"{outside}/secret", f"{tree}/secret"),
    "truncate outside": lambda: os.truncate(f"{outside}/secret", 0),
    "make a device": lambda: os.mknod(f"{tree}/null", 0o666 | stat.S_IFCHR, os.makedev(1, 3)),
    "follow a link out": lambda: os.open(f"{tree}/absolute", os.O_RDONLY),
    "tcp": lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM),
    "netlink": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
    "fork": os.fork,
    "signal": lambda: os.kill(os.getppid(), signal.SIGTERM),
    "executable memory": lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC),
    "loosen Landlock": lambda: call("landlock", -1, 0),
    "new namespace": lambda: libc.unshare(0x10000000),
    "exec": lambda: os.execv("/bin/true", ["true"]),
    "ptrace": lambda: call("ptrace", 0, 0, 0, 0),
    "io_uring": lambda: call("io_uring_setup", 1, 0),
    "open by handle": lambda: call("open_by_handle_at", -1, 0, 0),
    "setuid": lambda: os.setuid(0),
    "x32": thread_of_x32,
    "write inside": lambda: os.open(f"{tree}/hello", os.O_WRONLY),
    "make inside": lambda: os.open(f"{tree}/new", os.O_WRONLY | os.O_CREAT),
    "chmod inside": lambda: os.chmod("hello", 0o600, dir_fd=os.open(tree, os.O_RDONLY)),
    "remove inside": lambda: os.unlink(f"{tree}/hello"),
    "read inside": lambda: os.open(f"{tree}/hello", os.O_RDONLY),
}

if __name__ == "__main__":
    confine(Export(tree, read_only=access == "ro"), Confinement.FULL)
    for attempt in attempts:
        try:
            ATTEMPTS[attempt]()
        except OSError as error:
            print(errno.errorcode[error.errno or 0], flush=True)
        else:
            print("did it", flush=True)
