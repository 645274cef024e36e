"""What goes out comes back: every type msgspec can carry, there and back again."""

# ruff: noqa: F403
from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flipcall.conformance.services import Echo
from flipcall.conformance.types import *

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=JSON)
def test_echo_of_anything(echo: Echo, value: Any) -> None:
    """Whatever can be said in plain data is the same on the other side."""
    assert echo.anything(value) == value
