"""A client process as the bench sees it: opened once, measured under one load after another."""

from __future__ import annotations

from types import TracebackType

import msgspec

from bench.loads import Load
from bench.measure import Effort, Sample
from bench.pair import RunRequest
from bench.peer import ClientConfig
from bench.process import PeerProcess
from bench.rows import Labels


class ClientProcess:
    """A child that holds a Pair, and with it the server's process."""

    def __init__(self, config: ClientConfig) -> None:
        self._child = PeerProcess(config)

    def run(self, load: Load, effort: Effort) -> Sample:
        """One run in the child. Raises PeerError."""
        request = RunRequest(load=load.value, effort=effort)
        return msgspec.json.decode(self._child.ask(msgspec.json.encode(request)), type=Sample)

    def __enter__(self) -> ClientProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._child.close()


class UnderLoad:
    """The contender that `client` is under `load`; it stays open for the next one."""

    def __init__(self, labels: Labels, client: ClientProcess, load: Load) -> None:
        self.labels = labels
        self._client = client
        self._load = load

    def run(self, effort: Effort) -> Sample:
        """One run."""
        return self._client.run(self._load, effort)
