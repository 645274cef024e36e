"""Memory stays bounded, however much a stream carries."""

from __future__ import annotations

import resource
from collections.abc import Callable
from typing import Any

import pytest

from flipcall.conformance.streams import Flow, FlowServer

SMALL = 16384  # bytes of window
CHUNK = 1 << 20
ALLOWED = 64 << 20  # bytes that may be added; one that kept what it carries would add gigabytes


def _resident() -> int:
    with open("/proc/self/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize()


@pytest.mark.timeout(120)
@pytest.mark.parametrize("way", ["down", "up"])
def test_ten_gibibytes_through_a_small_window(
    serve: Callable[..., Any], connect: Callable[..., Flow], kind: str, way: str
) -> None:
    """10 GiB each way through a 16 KiB window (1 GiB for the other kinds) leave both sides as they were."""
    total = (10 if kind == "window" else 1) << 30
    serve(FlowServer(), message_max=4 << 20)
    flow = connect(Flow, window_size=SMALL, timeout=100.0)
    carried, peak, before = 0, 0, _resident()
    if way == "down":
        for chunk in flow.chunks(total // CHUNK, CHUNK):
            carried += len(chunk)
            if carried % (256 << 20) == 0:
                peak = max(peak, _resident())
    else:
        chunk = bytes(CHUNK)
        carried = flow.size(chunk for _ in range(total // CHUNK))
        peak = _resident()
    assert carried == total
    assert peak - before < ALLOWED
