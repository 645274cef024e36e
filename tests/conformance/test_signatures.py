"""Two sides that do not mean the same are told at once, and in words."""

# ruff: noqa: F403
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import flipcall
from flipcall.conformance.signatures import *
from flipcall.conformance.signatures import OLD, contract


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"window_size": 65536 * 2}, flipcall.CallError),
        ({"window_size": 0}, flipcall.MisuseError),
        ({"transport": "pigeon"}, flipcall.MisuseError),
    ],
)
def test_options_that_cannot_be(
    serve: Callable[..., Any], path: str, options: dict[str, Any], error: type[Exception]
) -> None:
    """Each is refused with a reason, and nothing is left open."""
    service = contract("Thing", OLD)
    server = serve(service())
    with pytest.raises(error):
        flipcall.connect(service, path, **options)
    flipcall.connect(service, path).close()
    assert server is not None


def test_a_transport_that_is_not_offered(serve: Callable[..., Any], path: str) -> None:
    """A server may offer one transport only, and says which."""
    service = contract("Thing", OLD)
    serve(service(), transports=("window",))
    with pytest.raises(flipcall.CallError, match=r"socket.*\(window\)"):
        flipcall.connect(service, path, transport="socket")
