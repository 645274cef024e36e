"""The gofer's tree as a file system of this machine: `gofer mount SOCKET MOUNTPOINT`. Needs the extra `fuse`.

       a program          the kernel                this process              the gofer
      open("m/a/b") ──► FUSE: dentries, ──/dev/fuse──► Operations ──FIDs──► descriptors
                         attributes, pages              Nodes, FidCache       of the tree

What each part keeps: the kernel names and attributes for `cache` seconds, and pages; Nodes what the kernel may
ask about (numbers, and the names they were found under); FidCache some descriptors of the gofer's, which can be
had again by name. The reasons are in docs/gofer.md.

To be imported before pyfuse3, or the mount has no fallocate (rows/__init__.py).
"""

from gofer.fuse import rows  # first: before pyfuse3 is imported
from gofer.fuse.life import mount

__all__ = ["mount", "rows"]
