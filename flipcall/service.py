"""Service: the base class of contracts, and what a contract is.

The *contract* is the class that derives from Service directly; its public methods are what can be called. An
implementation subclasses it; what it adds beyond the contract cannot be called from outside.
"""

import inspect
import weakref
from types import TracebackType
from typing import Any, ClassVar, TypeVar

from ._core import lib
from .errors import MisuseError
from .method import Method

S = TypeVar("S", bound="Service")


class Service:
    """Derive from it, annotate public methods, and both sides have their contract.

    `class Geo(Service, name="geo")` gives the contract another name than the class's: both sides must agree on it.
    On a client made by flipcall.connect(), close() and `with` end the connection; on an implementation they do
    nothing. The names close and on_disconnect cannot be methods of a contract.
    """

    _contract_name: ClassVar[str]

    def __init_subclass__(cls, name: str | None = None, **options: Any) -> None:
        super().__init_subclass__(**options)
        if Service in cls.__bases__:
            cls._contract_name = name or cls.__name__

    def close(self) -> None:
        """Client: end the connection; calls under way get ClosedError. Any thread, idempotent."""

    def on_disconnect(self) -> None:
        """Implementation made by a factory: its client's last channel is gone. Called once, in any thread."""

    def __enter__(self: S) -> S:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()


class Contract:
    """The methods of a service, in the order of their names; a method's number is its place."""

    def __init__(self, owner: type[Service]) -> None:
        self.owner = owner
        self.name = owner._contract_name
        functions = {n: f for n, f in vars(owner).items() if not n.startswith("_") and inspect.isfunction(f)}
        for reserved in ("close", "on_disconnect"):
            if reserved in functions and reserved != "on_disconnect":
                raise MisuseError(f"{self.name}.{reserved}: the name is reserved by flipcall.Service")
        functions.pop("on_disconnect", None)
        if not functions:
            raise MisuseError(f"{self.name} has no public method")
        if len(functions) > lib.FC_METHODS_MAX:
            raise MisuseError(f"{self.name} has {len(functions)} methods, more than {lib.FC_METHODS_MAX}")
        self.methods = [Method(owner, name, functions[name]) for name in sorted(functions)]
        for number, method in enumerate(self.methods):
            method.number = number

    def for_clients(self, *, asynchronous: bool) -> None:
        """Raise MisuseError unless every method is, or none is, `async def`: else its type would be a lie."""
        for method in self.methods:
            if method.asynchronous is not asynchronous:
                door = "flipcall.asyncio.connect()" if asynchronous else "flipcall.connect()"
                kind = "`async def`" if asynchronous else "a plain `def`"
                raise MisuseError(f"{self.name}.{method.name} must be {kind} for a client of {door}")


_contracts: "weakref.WeakKeyDictionary[type[Service], Contract]" = weakref.WeakKeyDictionary()


def contract_of(service: type[Service]) -> Contract:
    """The contract of a service class or of an implementation of it; made once for each.

    Raises MisuseError for anything else, and for signatures that cannot be called over a wire.
    """
    for owner in service.__mro__:
        if Service in owner.__bases__:
            contract = _contracts.get(owner)
            if contract is None:
                contract = _contracts[owner] = Contract(owner)
            return contract
    raise MisuseError(f"{service.__name__} is not a subclass of flipcall.Service")
