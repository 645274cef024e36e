"""What the tests of switches share: peers that can do more, or say stranger things, than this machine."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from flipcall import kernel, switch
from flipcall._core import lib
from flipcall.lowlevel import Endpoint
from tests.support import PATIENCE_S

SWAP_WORKS = kernel.futex_swap().available
needs_swap = pytest.mark.skipif(
    not SWAP_WORKS,
    reason=f"no FUTEX_SWAP in this kernel: {kernel.futex_swap().reason}; make test-swap has one",
)
needs_no_swap = pytest.mark.skipif(SWAP_WORKS, reason="this kernel has FUTEX_SWAP")


@contextmanager
def able(monkeypatch: pytest.MonkeyPatch, *names: str) -> Iterator[None]:
    """Who is made inside believes that exactly these switches work here."""
    table = tuple(
        s._replace(probe=lambda name=s.name: (name in names, "so says the test")) for s in switch.SWITCHES
    )
    with monkeypatch.context() as patch:
        patch.setattr(switch, "SWITCHES", table)
        patch.setattr(switch, "_BY_NAME", {s.name: s for s in table})
        yield


class Thread:
    """A call in a thread of its own; its exception, or None, once it has returned."""

    def __init__(self, call: Any) -> None:
        self._error: BaseException | None = None

        def run() -> None:
            try:
                call()
            except BaseException as error:
                self._error = error

        self._thread = threading.Thread(target=run, name="flipcall-test-switch", daemon=True)
        self._thread.start()

    def error(self) -> BaseException | None:
        """Waits for the end."""
        self._thread.join(3 * PATIENCE_S)
        assert not self._thread.is_alive()
        return self._error


def offer_as(client: Endpoint, offer: object) -> None:
    """Be a client that offers `offer`, whatever that is; the server's accept() answers it."""
    text = json.dumps(offer).encode()
    client.data[: len(text)] = text
    assert lib.fc_connect(client.core()[0], len(text), 0) == lib.FC_ERR_TIMEOUT  # given; nobody has answered


def answer_as(server: Endpoint, answer: object) -> None:
    """Be a server that answers a client's connect() with `answer`, whatever that is."""
    core = server.core()[0]
    while lib.fc_first(core, lib.FC_NO_DEADLINE) == lib.FC_TICK:
        core.turn = lib.FC_TURN_NEW
    text = json.dumps(answer).encode()
    server.data[: len(text)] = text
    assert lib.fc_send(core, len(text)) == lib.FC_OK
