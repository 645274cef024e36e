"""Reflection: a built-in service of every server that describes its services: methods, docstrings, JSON Schema."""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from .errors import CallError
from .schema import service_schema
from .service import Contract, Service
from .status import Status

Contracts = Callable[[], Mapping[str, Contract | None]]


class Described(msgspec.Struct):
    """A method as its contract has it."""

    name: str
    signature: str
    doc: str
    fingerprint: str


class Reflection(Service, name="flipcall.Reflection"):
    """What a server offers. "" stands for the service it was started with, others are its built-in ones."""

    def services(self) -> list[str]:
        """The names that can be asked for, the server's own first."""
        raise NotImplementedError

    def methods(self, service: str = "") -> list[Described]:
        """The methods of a service, in the order of their names.

        Raises CallError: NOT_FOUND for a service that is not there; UNAVAILABLE while nobody knows, because the
        service is made for each client and none has come.
        """
        raise NotImplementedError

    def schema(self, service: str = "") -> dict[str, Any]:
        """The service as JSON Schema (flipcall.schema). Raises as methods() does."""
        raise NotImplementedError


class ReflectionServer(Reflection):
    """The server's side. `contracts` tells them by name, the server's own first; None is one not known yet."""

    def __init__(self, contracts: Contracts) -> None:
        self._contracts = contracts

    def services(self) -> list[str]:
        return list(self._contracts())

    def methods(self, service: str = "") -> list[Described]:
        return [
            Described(m.name, str(m), m.doc or "", m.fingerprint) for m in self._contract(service).methods
        ]

    def schema(self, service: str = "") -> dict[str, Any]:
        return service_schema(self._contract(service))

    def _contract(self, service: str) -> Contract:
        contracts = self._contracts()
        name = service or next(iter(contracts))
        if name not in contracts:
            raise CallError(Status.NOT_FOUND, f"no service {name} here")
        contract = contracts[name]
        if contract is None:
            raise CallError(Status.UNAVAILABLE, "the service is made for each client, and none has come yet")
        return contract
