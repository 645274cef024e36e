"""docs/reference.md says what the docstrings say."""

from __future__ import annotations

import sys

import pytest

from tests import reference


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="Python 3.11's way of writing signatures")
def test_it_is_up_to_date() -> None:
    """`make reference` writes it anew."""
    assert reference.TARGET.read_text(encoding="utf-8") == reference.text()


def test_every_name_of_a_door_is_documented() -> None:
    """With its parameters, and what it raises, in its own docstring."""
    text = reference.text()
    for door, names in reference.DOORS.items():
        module = __import__(door, fromlist=["x"])
        for name in names or module.__all__:
            assert f"### {name}" in text or f"### class {name}" in text, f"{door}.{name}"
