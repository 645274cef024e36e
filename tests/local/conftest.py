"""The conformance suite's fixtures for flipcall.testing.local: served is what was given last, and nothing
listens."""

# ruff: noqa: F403
from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest

import flipcall
from flipcall.conformance.fixtures import *
from flipcall.testing import local
from tests.conformance.conftest import path, shelf, shelf_server, stack

__all__ = ["path", "shelf", "shelf_server", "stack"]

SERVER_OPTIONS = ("tracebacks",)


@pytest.fixture
def kind() -> str:
    """How frames travel: not at all."""
    return "local"


@pytest.fixture
def transport(kind: str) -> str:
    """The same."""
    return kind


@pytest.fixture
def served() -> dict[str, Any]:
    """What serve() was given."""
    return {}


@pytest.fixture
def serve(served: dict[str, Any]) -> Callable[..., Any]:
    """Remember what is to be served."""

    def start(implementation: Any, at: str = "", **options: Any) -> Any:
        served.update(implementation=implementation, options=options)
        return implementation

    return start


@pytest.fixture
def connect(served: dict[str, Any], stack: ExitStack) -> Callable[..., Any]:
    """A client of it, closed at the end of the test."""

    def made(service: type[flipcall.Service], at: str = "", **options: Any) -> Any:
        given = {k: v for k, v in served["options"].items() if k in SERVER_OPTIONS}
        options = {k: v for k, v in options.items() if k not in ("transport", "window_size", "message_max")}
        return stack.enter_context(local(served["implementation"], **given, **options))

    return made
