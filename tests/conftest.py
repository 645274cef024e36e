"""After every test: nothing is left behind (tests/leaks.py says what is looked at)."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator

import pytest

from tests import switched
from tests.leaks import Holdings

# What a test releases may take a moment to be gone: a thread to end, a child to be reaped. Not a wait that
# every test pays: the loop ends at the first look that finds nothing.
_GRACE_S = 5.0
_LOOK_EVERY_S = 0.01

_MARKER = "leaves_behind(reason): this test may leave descriptors, children, mappings or threads; says why"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", _MARKER)
    switched.configure(config)


@pytest.fixture(autouse=True, scope="module")
def _collections_stay_quick() -> None:
    """What modules before this one have made is not looked at by each collection from here on.

    A whole run keeps a million objects (reports, decoders), and a collection then takes most of a second.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _nothing_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves more behind than it found, unless marked `leaves_behind(reason="...")`."""
    marker = request.node.get_closest_marker("leaves_behind")
    if marker is not None:
        if not marker.kwargs.get("reason"):
            pytest.fail("leaves_behind needs a reason: @pytest.mark.leaves_behind(reason='...')")
        yield
        return
    before = Holdings.now()
    yield
    deadline = time.monotonic() + _GRACE_S
    while left := Holdings.now().beyond(before):
        if time.monotonic() > deadline:
            pytest.fail("the test left behind:\n  " + "\n  ".join(left), pytrace=False)
        gc.collect()  # a cycle may hold the last reference, also of a thread that ends only now: not a leak
        time.sleep(_LOOK_EVERY_S)
