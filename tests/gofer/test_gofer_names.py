"""Names: what is refused, and what round-trips."""

from __future__ import annotations

import errno
import os
import tempfile

import pytest
from gofer_support import fails
from hypothesis import given
from hypothesis import strategies as st

from gofer import names

legal = st.binary(min_size=1, max_size=255).filter(
    lambda name: b"/" not in name and b"\0" not in name and name not in (b".", b"..")
)


@pytest.mark.parametrize(
    "name",
    [b"", b".", b"..", b"/", b"/etc", b"a/b", b"a/", b"../x", b"a\0b", b"\0", b"..\0", b"x" * 255 + b"/"],
)
def test_check_refuses_what_is_not_one_entry(name: bytes) -> None:
    """Empty, `.`, `..`, anything with `/` or NUL is EINVAL, whatever else is in it."""
    with fails(errno.EINVAL if len(name) <= 255 else errno.ENAMETOOLONG):
        names.check(name)


def test_check_refuses_too_long() -> None:
    """255 bytes are a name; 256 are ENAMETOOLONG."""
    names.check(b"x" * 255)
    with fails(errno.ENAMETOOLONG):
        names.check(b"x" * 256)


@pytest.mark.parametrize("name", [b"...", b"..a", b".hidden", b" ", b"\xff", b"-rf", b"\n", b"~", b"*"])
def test_check_allows_odd_names(name: bytes) -> None:
    """Odd is not illegal."""
    names.check(name)


@given(st.binary(max_size=300))
def test_check_agrees_with_the_definition(name: bytes) -> None:
    """Accepted exactly when it is a legal directory entry's name."""
    good = 0 < len(name) <= 255 and b"/" not in name and b"\0" not in name and name not in (b".", b"..")
    try:
        names.check(name)
    except OSError:
        assert not good
    else:
        assert good


@given(st.binary(max_size=300))
def test_text_round_trips_any_bytes(name: bytes) -> None:
    """decode then encode gives the same bytes, UTF-8 or not."""
    assert names.encode(names.decode(name)) == name


@given(st.binary(max_size=300))
def test_shown_names_are_printable_and_distinct(name: bytes) -> None:
    """What is shown has no control character, and encodes."""
    shown = names.show(name)
    assert shown.isprintable()
    shown.encode("utf-8")


def test_show_disarms_escape_sequences() -> None:
    """A name cannot drive the terminal."""
    assert names.show(b"\x1b[2Jcaf\xe9\\") == "\\x1b[2Jcaf\\xe9\\\\"


@given(legal)
def test_what_check_accepts_the_kernel_keeps(name: bytes) -> None:
    """Every accepted name makes a file of that name in that directory, and no other."""
    with tempfile.TemporaryDirectory() as top:
        directory = os.open(top, os.O_RDONLY)
        try:
            os.close(os.open(name, os.O_CREAT | os.O_EXCL, dir_fd=directory))
            assert os.listdir(os.fsencode(top)) == [name]
        finally:
            os.close(directory)
