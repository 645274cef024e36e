"""Whether the two sides of a handshake mean the same service: the server's half compares, the client's tells.

Equal fingerprints are enough. Only where they differ are the shapes of the methods asked for and compared, so that
a connection between equals costs no more for it. What was found to fit is remembered for the further channels of
the session, and not for others: a client can only deceive itself.
"""

import socket

from .compat import differences
from .errors import CallError, ProtocolError
from .handshake import Compare, Hello, Shapes, recv_message, send_message, shapes_decoder
from .method import Method
from .service import Contract
from .session import Session
from .status import Status

_SHOWN = 10  # mismatched methods in one refusal
_TOLD = 5  # differences of one method in it
_AT_ONCE = 64  # shapes in one message, which has a limit


def agree(sock: socket.socket, hello: Hello, session: Session, deadline: float) -> None:
    """Server: that the client can call what it would call. A method that only one side has does not matter here.

    Raises CallError (FAILED_PRECONDITION) naming what differs; ProtocolError, ClosedError, DeadlineExceeded.
    """
    dispatcher = session.dispatcher
    if not hello.service:
        return
    if hello.service != dispatcher.name:
        what = f"the client asks for service {hello.service}, this is {dispatcher.name}"
        raise CallError(Status.FAILED_PRECONDITION, what)
    unlike = [
        m
        for m in dispatcher.methods
        if (wanted := hello.methods.get(m.name)) is not None
        and wanted.fingerprint not in (m.fingerprint, session.agreed.get(m.name))
    ]
    wrong: list[str] = []
    for at in range(0, len(unlike), _AT_ONCE):
        wrong += _compared(sock, hello, unlike[at : at + _AT_ONCE], deadline)
    if wrong:
        more = f"; and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        raise CallError(Status.FAILED_PRECONDITION, "; ".join(wrong[:_SHOWN]) + more)
    session.agreed.update((m.name, hello.methods[m.name].fingerprint) for m in unlike)


def _compared(sock: socket.socket, hello: Hello, methods: list[Method], deadline: float) -> list[str]:
    """In words, which of these methods do not fit, and why."""
    send_message(sock, Compare([m.name for m in methods]))
    shapes, _ = recv_message(sock, shapes_decoder, deadline)
    wrong = []
    for method in methods:
        shape = shapes.methods.get(method.name)
        if shape is None:
            raise ProtocolError(f"the client did not say what its {method.name} looks like")
        if found := differences(shape, method.shape):
            wanted = hello.methods[method.name].signature
            told = ", ".join(found[:_TOLD]) + (", …" if len(found) > _TOLD else "")
            wrong.append(f"{method.name}: the client calls {wanted}, the server has {method}: {told}")
    return wrong


def shapes_of(contract: Contract | None, asked: Compare) -> Shapes:
    """Client: the answer to `asked`. Raises ProtocolError when the server asks for what was not offered to it."""
    methods = {m.name: m.shape for m in contract.methods} if contract else {}
    try:
        return Shapes({name: methods[name] for name in asked.methods})
    except KeyError as e:
        raise ProtocolError(f"the server asks for method {e}, which this side did not name") from None
