"""What a gofer may do once it is confined, and who needs it: data for landlock.py and seccomp.py."""

from __future__ import annotations

import os

from gofer import landlock, seccomp
from gofer.export import Export
from gofer.landlock import Access
from gofer.seccomp import When

_READ = Access.READ_FILE | Access.READ_DIR
_CHANGE = (
    Access.WRITE_FILE | Access.TRUNCATE | Access.REMOVE_DIR | Access.REMOVE_FILE | Access.MAKE_DIR
    | Access.MAKE_REG | Access.MAKE_SOCK | Access.MAKE_FIFO | Access.MAKE_SYM | Access.REFER
)  # fmt: skip


def files(export: Export) -> list[landlock.Rule]:
    """The files it may touch: its tree, but no device and no program there."""
    read_only = export.read_only
    return [
        landlock.Rule(export.path, _READ if read_only else _READ | _CHANGE, "the operations", export.root),
        landlock.Rule("/dev/null", Access.READ_FILE, "flipcall: the descriptor it keeps in reserve"),
        landlock.Rule("/sys/fs/cgroup", Access.READ_FILE, "flipcall: whether a CPU quota lets it spin"),
    ]


_THREAD = 0x00010000  # CLONE_THREAD
_PROT_EXEC = 4
_AF_UNIX = 1
_IOCTLS = {"FIOCLEX": 0x5451, "FIONBIO": 0x5421, "TCGETS": 0x5401}


def _rules(user: str, *names: str) -> list[seccomp.Rule]:
    return [seccomp.Rule(name, user) for name in names]


_ALLOWED = [
    # The most frequent first: the kernel goes through them one by one where it has no bitmap of them.
    *_rules("flipcall: waiting and waking; threads", "futex"),
    *_rules("looking.py, opening.py: walks", "openat2"),
    *_rules("every operation, by descriptor", "close", "fstat", "newfstatat", "openat"),
    *_rules("data.py", "preadv", "preadv2", "pwrite64", "lseek", "getdents64", "fallocate"),
    *_rules("data.py: fsync, flush", "fsync", "fdatasync", "dup"),
    *_rules("looking.py", "readlinkat", "fstatfs", "statfs"),
    *_rules("flipcall: sockets of clients", "recvfrom", "sendto", "recvmsg", "sendmsg", "poll", "ppoll"),
    *_rules("flipcall: sockets of clients", "accept4", "getsockopt", "setsockopt", "getsockname"),
    *_rules("flipcall: sockets of clients", "getpeername", "shutdown", "read", "write", "fcntl"),
    *_rules("flipcall: the watcher", "epoll_ctl", "epoll_wait", "epoll_pwait", "epoll_create1", "eventfd2"),
    *_rules("flipcall: windows", "memfd_create", "ftruncate", "munmap"),
    *_rules("flipcall: liveness of clients", "pidfd_open", "getpid", "getppid", "geteuid", "getuid"),
    *_rules(
        "flipcall: placement of threads", "sched_getaffinity", "sched_setaffinity", "sched_yield", "getcpu"
    ),
    seccomp.Rule("mmap", "memory and windows; never a program", When(2, _PROT_EXEC, "none")),
    seccomp.Rule("mprotect", "memory of new threads; never a program", When(2, _PROT_EXEC, "none")),
    seccomp.Rule("clone", "threads; never a process", When(0, _THREAD, "any")),
    *(seccomp.Rule("ioctl", f"Python: {name}", When(1, number)) for name, number in _IOCTLS.items()),
    *_rules("threads", "rseq", "set_robust_list", "rt_sigprocmask", "exit", "gettid", "sigaltstack"),
    *_rules("memory", "brk", "madvise", "mremap"),
    *_rules("signals: draining on SIGTERM", "rt_sigaction", "rt_sigreturn", "restart_syscall"),
    *_rules("time", "clock_gettime", "clock_nanosleep", "nanosleep", "gettimeofday", "getrandom"),
    *_rules("the end", "exit_group", "wait4"),
]

_CHANGING = [
    *_rules("changing.py: attributes", "fchmodat", "fchmodat2", "fchownat", "utimensat"),
    *_rules(
        "changing.py: entries",
        "mkdirat",
        "mknodat",
        "symlinkat",
        "linkat",
        "unlinkat",
        "renameat",
        "renameat2",
    ),
    *_rules("xattrs.py", "setxattr", "removexattr"),
]

_AF_UNIX = 1
_SOCKETS = [
    seccomp.Rule("socket", "sockets.py: in the tree", When(0, _AF_UNIX)),
    *_rules("sockets.py: in the tree", "connect", "bind", "listen", "fchmod"),
]

_XATTRS = _rules("xattrs.py", "getxattr", "listxattr")

DEADLY = [
    "execve", "execveat", "ptrace", "process_vm_readv", "process_vm_writev", "open_by_handle_at",
    "mount", "umount2", "open_tree", "mount_setattr", "move_mount", "fsopen", "pivot_root", "chroot",
    "setns", "unshare", "bpf", "perf_event_open", "init_module", "finit_module", "kexec_load", "reboot",
    "keyctl", "userfaultfd", "io_uring_setup", "setuid", "setresuid",
]  # fmt: skip
"""What ends the process at once: nothing here would call it but somebody who has taken it over."""


def system_calls(export: Export) -> list[seccomp.Rule]:
    """The system calls it may make."""
    own = seccomp.Rule("tgkill", "Python: a signal to itself", When(0, os.getpid()))
    changing = [] if export.read_only else _CHANGING
    return [*_ALLOWED, *_XATTRS, own, *changing, *(_SOCKETS if export.sockets else [])]
