"""Service: the base class of contracts, and what a contract is.

The *contract* is the class that derives from Service directly; its public methods are what can be called. An
implementation subclasses it; what it adds beyond the contract cannot be called from outside.
"""

import dis
import inspect
import weakref
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, ClassVar, TypeVar

from ._core import lib
from .errors import MisuseError
from .method import Method

S = TypeVar("S", bound="Service")

_HOOKS = ("close", "on_disconnect")  # of every service, and no methods of a contract


class Service:
    """Derive from it, annotate public methods, and both sides have their contract.

    `class Geo(Service, name="geo")` gives the contract another name than the class's: both sides must agree on it.
    On a client made by flipcall.connect(), close() and `with` end the connection; on an implementation they do
    nothing. A method whose body in the contract is only `...`, `pass`, a docstring or `raise NotImplementedError`
    is declared there: where the implementation leaves it out, its calls get CallError (UNIMPLEMENTED).

    Raises MisuseError where the contract is defined for public names that no client could call: close and
    on_disconnect, static and class methods, properties.
    """

    _contract_name: ClassVar[str]

    def __init_subclass__(cls, name: str | None = None, **options: Any) -> None:
        super().__init_subclass__(**options)
        if Service in cls.__bases__:
            cls._contract_name = name or cls.__name__
            _check_members(cls)

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


def _public(owner: type[Service]) -> Iterator[tuple[str, Any]]:
    return ((name, member) for name, member in vars(owner).items() if not name.startswith("_"))


def _only_declares(function: Callable[..., Any]) -> bool:
    """Whether a body is nothing but `...`, `pass`, a docstring or `raise NotImplementedError`, and so is no
    implementation: told by the instructions, for what they say the body does.
    """
    return _instructions(function) in _DECLARATIONS


def _instructions(function: Callable[..., Any]) -> list[tuple[str, Any]]:
    return [(i.opname, i.argval) for i in dis.get_instructions(function)]


def _declarations() -> list[Callable[..., Any]]:
    def empty() -> None: ...

    async def empty_in_a_loop() -> None: ...

    def refusing() -> None:
        raise NotImplementedError

    async def refusing_in_a_loop() -> None:
        raise NotImplementedError

    return [empty, empty_in_a_loop, refusing, refusing_in_a_loop]


_DECLARATIONS = [_instructions(function) for function in _declarations()]


def _check_members(owner: type[Service]) -> None:
    """Raises MisuseError for what looks like a method of a contract and cannot be called by a client."""
    for name, member in _public(owner):
        where = f"{owner.__name__}.{name}"
        if name == "close":
            raise MisuseError(
                f"{where}: the name is the client's own, and ends the connection: choose another"
            )
        # Constants and classes are at home in a contract; what binds to an object, like a method, is not.
        if hasattr(type(member), "__get__") and not inspect.isfunction(member):
            kind = type(member).__name__
            raise MisuseError(
                f"{where} is a {kind}, which no client can call: make it a method, or name it _{name}"
            )
        if name == "on_disconnect" and len(inspect.signature(member).parameters) != 1:
            raise MisuseError(f"{where}: the name is that of a hook, which takes nothing: choose another")


class Contract:
    """The methods of a service, in the order of their names; a method's number is its place.

    declared: the functions of those that the contract itself does not implement.
    """

    def __init__(self, owner: type[Service]) -> None:
        self.owner = owner
        self.name = owner._contract_name
        functions = {n: f for n, f in _public(owner) if inspect.isfunction(f) and n not in _HOOKS}
        if not functions:
            raise MisuseError(f"{self.name} has no public method")
        if len(functions) > lib.FC_METHODS_MAX:
            raise MisuseError(f"{self.name} has {len(functions)} methods, more than {lib.FC_METHODS_MAX}")
        self.methods = [Method(owner, name, functions[name]) for name in sorted(functions)]
        for number, method in enumerate(self.methods):
            method.number = number
        self.declared = {n: f for n, f in functions.items() if _only_declares(f)}

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
    if not isinstance(service, type):
        raise MisuseError(
            f"a service is named by its class, a subclass of flipcall.Service, not by {service!r}"
        )
    for owner in service.__mro__:
        if Service in owner.__bases__:
            contract = _contracts.get(owner)
            if contract is None:
                contract = _contracts[owner] = Contract(owner)
            return contract
    raise MisuseError(f"{service.__name__} is not a subclass of flipcall.Service")
