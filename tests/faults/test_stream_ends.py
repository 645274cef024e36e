"""Streams whose server ends: what it has yielded arrives."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import flipcall
from tests.faults.programs import Site
from tests.support import Child, is_gone, wait_until

COUNT = 50  # fewer than either transport lets a server be ahead


@pytest.mark.parametrize("transport", ["window", "socket"])
@pytest.mark.parametrize("taken", [0, 1, COUNT - 1])
def test_a_server_that_is_killed_after_its_last_item(
    server: Child, connect: Callable[..., Site], taken: int
) -> None:
    """However far behind the client is then, it gets all of them, and is told after the last one."""
    numbers = connect(Site).count_and_die(COUNT)
    got = [next(numbers) for _ in range(taken)]
    if taken:  # the call is made when the first is asked for
        wait_until(lambda: is_gone(server.pid))
    with pytest.raises(flipcall.PeerDiedError):
        got.extend(numbers)  # what it has taken before it raises stays
    assert got == list(range(COUNT))
