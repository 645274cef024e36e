"""The gofer: a process that owns a directory tree, and clients that can do nothing but ask it.

A sandboxed program that may not open any file talks to the gofer over flipcall; the gofer opens, reads and
lists on its behalf, and only beneath one directory. The model is gVisor's gofer and its protocol, lisafs.

Modules, from the bottom up:

| module        | its noun                                                                     | side   |
|---------------|------------------------------------------------------------------------------|--------|
| protocol.py   | the operations and the messages: the table both sides share                  | both   |
| names.py      | a file name: bytes, what is allowed in one, how it is shown                  | both   |
| syscalls.py   | the one door to the system calls Python lacks: openat2, getdents64, ...      | server |
| locks.py      | the locks that hold what the table guarantees                                | server |
| fids.py       | the FID table: numbers a client holds for descriptors the server holds       | server |
| export.py     | what is served: the root descriptor, the way to reopen, the limits           | server |
| operations.py | what all operations of a session have in common; then, one upon the other:   | server |
| looking.py    | finding and looking                                                          | server |
| opening.py    | opening and closing                                                          | server |
| data.py       | what is done by open FID                                                     | server |
| changing.py   | attributes, and directories' entries                                         | server |
| xattrs.py     | extended attributes                                                          | server |
| session.py    | the operations, as one client's session runs them                            | server |
| server.py     | a running gofer                                                              | server |
| resolve.py    | a path turned into FIDs: symbolic links and `..` are the client's business   | client |
| file.py       | an open file, as Python's io knows files                                     | client |
| client.py     | GoferClient: open, stat, listdir, ... by path                                | client |
| tree.py       | a whole tree walked, read and digested                                       | client |
| cli.py        | `gofer`, the command                                                         | both   |
| demo.py       | what `make demo` runs                                                        | both   |
"""

from gofer.client import GoferClient

__all__ = ["GoferClient"]
