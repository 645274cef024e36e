"""Every exception flipcall raises. The type says whose doing it was.

    FlipcallError
    ├── MisuseError                my own misuse: wrong order, wrong argument, too big for the window
    │   └── ForkedError            an object inherited over fork was used in the child
    ├── WindowError                this memory cannot be a packet window
    │   ├── WindowTooSmallError
    │   ├── WindowTooLargeError
    │   ├── WindowUnsealedError    its size could still be changed under us
    │   ├── WindowTruncatedError   the file ends before the window does
    │   ├── WindowForeignError     not ours: another owner, not a memfd, a stale name
    │   └── WindowInUseError       somebody is connected to it already
    ├── BusyError                  used by two threads at once
    ├── ClosedError                this side or the peer shut the connection down
    ├── PeerError                  the peer's fault
    │   ├── ProtocolError          it broke the protocol
    │   └── PeerDiedError          its process is gone
    ├── DeadlineExceeded           also a TimeoutError
    ├── UnsupportedError           this machine or kernel lacks what was asked for
    └── CallError                  the call was answered, with an error
        └── RemoteError            the handler raised something that has no registered type

After BusyError, MisuseError and DeadlineExceeded the object is as usable as before; after ClosedError and
PeerError it is over. `Endpoint.state` says so too.
"""

from .status import Status


class FlipcallError(Exception):
    """The root of the tree."""


class MisuseError(FlipcallError):
    """The caller broke a documented precondition."""


class ForkedError(MisuseError):
    """An object made before fork() was used in the child: control would be on both sides."""


class WindowError(FlipcallError):
    """This memory cannot be a packet window."""


class WindowTooSmallError(WindowError):
    """Shorter than the protocol's minimum."""


class WindowTooLargeError(WindowError):
    """Longer than the protocol's or this side's maximum."""


class WindowUnsealedError(WindowError):
    """The file can still shrink or grow: an access could end in SIGBUS."""


class WindowTruncatedError(WindowError):
    """The file ends before the window does."""


class WindowForeignError(WindowError):
    """Not a window of ours: another owner, another kind of file, a stale name."""


class WindowInUseError(WindowError):
    """Both sides of this window are taken."""


class BusyError(FlipcallError):
    """A second thread entered an object that serves one thread at a time. Nothing was changed."""


class ClosedError(FlipcallError):
    """This side or the peer shut the connection down."""


class PeerError(FlipcallError):
    """The peer's fault. `pid` is its process, 0 when unknown."""

    def __init__(self, message: str, pid: int = 0) -> None:
        super().__init__(message)
        self.pid = pid


class ProtocolError(PeerError):
    """The peer broke the protocol; the connection is over."""


class PeerDiedError(PeerError):
    """The peer's process is gone."""


class DeadlineExceeded(FlipcallError, TimeoutError):
    """The deadline passed first. The peer may still be working; its answer will be dropped."""


class UnsupportedError(FlipcallError):
    """This machine or kernel lacks what was asked for; `flipcall doctor` shows what it has."""


class CallError(FlipcallError):
    """The call was answered with an error. A handler may raise it to choose the status itself."""

    def __init__(self, status: Status, message: str) -> None:
        super().__init__(status, message)
        self.status = status
        self.message = message

    def __str__(self) -> str:
        return f"{self.status.name}: {self.message}"


class RemoteError(CallError):
    """The handler raised an exception without a registered type.

    `type_name` is its qualified name at the server, `traceback` the server's, or None unless it was asked to
    send tracebacks.
    """

    def __init__(self, status: Status, message: str, type_name: str, traceback: str | None = None) -> None:
        super().__init__(status, message)
        self.type_name = type_name
        self.traceback = traceback

    def __str__(self) -> str:
        text = f"{self.type_name}: {self.message}"
        return f"{text}\n\n{self.traceback}" if self.traceback else text
