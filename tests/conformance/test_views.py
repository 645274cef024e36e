"""view() and into(): what is seen, for how long, and that nothing seen outlives its memory."""

# ruff: noqa: F403
from __future__ import annotations

import gc
from pathlib import Path

import pytest

import flipcall
from flipcall.conformance.services import Bulk
from flipcall.conformance.views import *
from tests import loops
from tests.support import wait_until


@pytest.fixture(autouse=True)
def _those_of_the_loop(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if "loop client" in kind:
        monkeypatch.setattr(flipcall, "view", loops.view)
        monkeypatch.setattr(flipcall, "into", loops.into)


def test_the_mapping_goes_with_the_last_part(one: Bulk, transport: str) -> None:
    """What escaped keeps a window mapped, and no longer."""
    if transport != "window":
        pytest.skip("only a window is mapped")

    def mappings() -> int:
        return Path("/proc/self/maps").read_text().count("memfd:flipcall")

    kept = []
    before = mappings()
    with pytest.raises(flipcall.MisuseError), flipcall.view(one.same, b"abc") as seen:
        kept.append(seen[1:])
    del seen
    gc.collect()
    wait_until(lambda: mappings() == before - 1)  # the server's is gone, the client's stays
    kept.clear()
    wait_until(lambda: mappings() == before - 2)
