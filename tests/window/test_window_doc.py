"""proto/window.md and the code say the same."""

import re
from pathlib import Path

import pytest

from flipcall import errors, named
from flipcall._core import lib

DOC = (Path(__file__).parents[2] / "proto/window.md").read_text()


@pytest.mark.parametrize("constant", sorted(set(re.findall(r"\bFC_[A-Z_]*[A-Z]\b", DOC)) - {"FC_CAPITALS"}))
def test_constants_exist(constant: str) -> None:
    """Every number the document names is one of flipcall.h."""
    assert hasattr(lib, constant)


@pytest.mark.parametrize("error", sorted(set(re.findall(r"`(Window\w+Error)`", DOC))))
def test_errors_exist(error: str) -> None:
    """Every error the document names can be caught."""
    assert issubclass(getattr(errors, error), errors.WindowError)


def test_state_values() -> None:
    """The values in the table of words."""
    for constant, value in re.findall(r"`(FC_\w+)` (\d)", DOC):
        assert getattr(lib, constant) == int(value)


def test_control_page_is_as_drawn() -> None:
    """The drawn rows begin where the structs put them."""
    drawn = {int(n): text.strip() for n, text in re.findall(r"^ ?(\d+) │ ([^│]*)", DOC, re.M)}
    assert named._HEADER.size == 40
    assert drawn[40] == "zero"
    assert drawn[named._PEER_AT].startswith("pid of the other side")
    assert drawn[named._PEER_AT + 8].startswith("its start time")
