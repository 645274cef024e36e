"""The moment at which a draining server ends an idle channel, and what may come at that moment."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

import flipcall
from flipcall.endpoint import Endpoint
from flipcall.testing import read_word
from tests.faults.programs import Site, SiteServer
from tests.support import PATIENCE_S

COUNT = 100_000
CLIENT_ACTIVE = 0


def test_a_stream_that_is_opened_in_the_meantime(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The channel was found idle; then a stream was opened, and is so far that control is its client's. It is not
    ended before all items have come.
    """
    retire = Endpoint.retire
    taken: list[int] = []
    opened = threading.Event()

    def late(endpoint: Endpoint) -> bool:
        if not taken:
            taken.append(next(numbers))
            while not (endpoint.serving and read_word(endpoint, "conn_state") == CLIENT_ACTIVE):
                taken.append(next(numbers))
        ended = retire(endpoint)
        opened.set()
        return ended

    with (
        flipcall.Server(SiteServer(), path) as server,
        flipcall.connect(Site, path) as site,
        ThreadPoolExecutor() as threads,
    ):
        assert site.add(1, 2) == 3
        numbers = site.count(COUNT)
        monkeypatch.setattr(Endpoint, "retire", late)
        stopped = threads.submit(server.stop, PATIENCE_S)
        assert opened.wait(PATIENCE_S)
        taken += numbers
        assert taken == list(range(COUNT))
        stopped.result(PATIENCE_S)
