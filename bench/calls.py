"""One client here, one server process: what most rows of the `call` family are made of."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import partial
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any

from bench.echo import ITEM, Content
from bench.measure import CpuTimes, Effort, Sample, sample_calls, sample_paced
from bench.peer import ServeConfig
from bench.peers import peer_named
from bench.peers.base import Address
from bench.placement import Placement, pinned
from bench.policies import making_cpu
from bench.process import PeerProcess
from bench.rows import Labels

BACK_TO_BACK = "back-to-back"
PACED = "paced-10ms"
PAUSE_US = 10_000
ITEM_ROOM = 4096  # bytes of a slot that an item fits into
# Whose rows have a policy. Its default comes first: its row is the target's.
POLICIES = {"flipcall": ("balanced", "frugal")}

_numbers = count()


class EchoCall:
    """An echo over `labels.transport`, this process to a server process of its own.

    Raises UnavailableError where the peer cannot run.
    """

    def __init__(
        self, labels: Labels, placement: Placement, directory: Path, content: Content = "item"
    ) -> None:
        assert labels.transport is not None
        self.labels = labels
        peer = peer_named(labels.transport)
        self._client_cpu, server_cpu = placement.cpus
        self._sent: Any = ITEM if content == "item" else bytes(labels.size or 0)
        size = labels.size or 0 if content == "bytes" else ITEM_ROOM
        with ExitStack() as stack, pinned(making_cpu(placement)):
            theirs, ours = peer.ends(stack, 1, size)
            address = partial(
                Address,
                transport=labels.transport,
                path=str(directory / f"{next(_numbers)}.sock"),
                content=content,
                size=size,
                policy=labels.policy or "balanced",
            )
            config = ServeConfig(address=address(fds=tuple(theirs)), cpu=making_cpu(placement))
            self.peer = stack.enter_context(PeerProcess(config, pass_fds=theirs))
            self._call = stack.enter_context(peer.connect(address(fds=tuple(ours))))
            if self._call(self._sent) != self._sent:
                raise AssertionError("the echo is not what was sent")
            self.peer.pin(server_cpu)  # now that the channel is made: see making_cpu
            # A server that polls stands still between runs, for it would take the others' CPU.
            self.awake: Callable[[], AbstractContextManager[None]] = nullcontext
            if peer.polls:
                self.peer.suspend()
                self.awake = self.peer.awake
            self._open = stack.pop_all()

    def run(self, effort: Effort) -> Sample:
        """One run under the row's load, with this thread on the placement's CPU."""
        call = partial(self._call, self._sent)
        with self.awake(), pinned(self._client_cpu):
            if self.labels.load == PACED:
                return sample_paced(call, PAUSE_US, effort.paced_calls(PAUSE_US), self.peer.cpu_times)
            return sample_calls(call, effort.seconds, self.peer.cpu_times)

    def call(self) -> None:
        """One call, not measured."""
        self._call(self._sent)

    def cpu_times(self) -> CpuTimes:
        """Of both processes."""
        return self.peer.cpu_times()

    def __enter__(self) -> EchoCall:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._open.close()
