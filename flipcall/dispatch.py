"""From request bytes to reply bytes: what a call does at the server, whatever carried it.

One function owns exceptions: whatever a handler raises, the caller gets a reply. What only a broken or hostile
client can send (a method number that was never offered, a body that is no msgpack) is its fault, not an answer:
ProtocolError, and the channel ends. Arguments of the wrong type are an answer (INVALID_ARGUMENT), because an
honest Python caller can pass them.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from .errors import CallError, ProtocolError
from .failure import describe
from .method import Method, encode
from .service import Service, contract_of
from .status import Status

Answer = tuple[int, bytes, Any]  # status, body, attachment
NOTHING = b""


class Dispatcher:
    """The methods of one implementation, by number. Any thread, as far as the implementation allows."""

    def __init__(self, service: Service, tracebacks: bool) -> None:
        self.service = service
        self.tracebacks = tracebacks
        contract = contract_of(type(service))
        self.name = contract.name
        self.methods = contract.methods
        self._run = [self._plain(m) for m in self.methods]
        self._handlers = [getattr(service, m.name) for m in self.methods]

    def answer(self, number: int, body: bytes) -> Answer:
        """The answer to a request without attachment. Raises ProtocolError for what no honest client sends."""
        if number >= len(self._run):
            raise ProtocolError(f"request for method {number} of {len(self._run)}")
        try:
            return self._run[number](body)
        except ProtocolError:
            raise
        except BaseException as e:
            return (*describe(e, self.tracebacks), NOTHING)

    def answer_bulk(self, number: int, body: bytes, attachment: memoryview) -> Answer:
        """As answer(), for a request with an attachment, a view borrowed until the reply is sent."""
        if number >= len(self.methods):
            raise ProtocolError(f"request for method {number} of {len(self.methods)}")
        method = self.methods[number]
        if not method.bulk_params:
            raise ProtocolError(f"{method.name} was sent {len(attachment)} bytes it has no parameter for")
        try:
            return self._bulk(method, body, attachment)
        except ProtocolError:
            raise
        except BaseException as e:
            return (*describe(e, self.tracebacks), NOTHING)

    def _plain(self, method: Method) -> Callable[[bytes], Answer]:
        """The quickest way through `method`: a closure."""
        if method.bulk_params or method.bulk_result:
            return lambda body: self._bulk(method, body, memoryview(NOTHING))
        handler, decode = getattr(self.service, method.name), method.decode_args
        if method.keyword_only:
            plain = handler

            def handler(*args: Any) -> Any:
                return method.call(plain, args)

        def run(body: bytes) -> Answer:
            try:
                args = decode(body)
            except msgspec.DecodeError as e:
                raise _bad_arguments(method, e) from None
            return 0, encode(handler(*args)), NOTHING

        return run

    def _bulk(self, method: Method, body: bytes, attachment: memoryview) -> Answer:
        try:
            slots = method.decode_args(body)
        except msgspec.DecodeError as e:
            raise _bad_arguments(method, e) from None
        result = method.call(self._handlers[method.number], method.join(slots, attachment))
        if not method.bulk_result:
            return 0, encode(result), NOTHING
        memoryview(result).release()  # a TypeError here is the handler's: it returned something else
        return 0, NOTHING, result


def _bad_arguments(method: Method, error: msgspec.DecodeError) -> Exception:
    if isinstance(error, msgspec.ValidationError):
        return CallError(Status.INVALID_ARGUMENT, f"{method.name}: {error}")
    return ProtocolError(f"the arguments of {method.name} cannot be read: {error}")
