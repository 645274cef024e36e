"""Surveys: what one worker asks all the others, by way of the dispatcher (the words are handover.py's).

asks                            dispatcher                          each other worker
Ask n            ──────────►    begin()     Ask id  ──────────►
                                told()              ◄──────────     Told id, some bytes ... Told id, none
Told n, bytes ...  ◄──────────  (an answer is passed on when it is whole)
Done n           ◄──────────    when every other one has answered, or is gone
"""

from collections.abc import Callable
from typing import Protocol

Sink = Callable[[bytes | None], None]  # takes whole answers, then None


class Asked(Protocol):
    """A worker, as far as it is asked."""

    def ask(self, number: int) -> bool:
        """Put question `number` to it; whether it was heard."""
        ...


class _Survey:
    def __init__(self, asker: object, sink: Sink) -> None:
        self.asker = asker
        self.sink = sink
        self.answers: dict[Asked, bytearray] = {}  # of those that have not finished


class Surveys:
    """Those under way. One thread at a time: the crew's lock is around it."""

    def __init__(self) -> None:
        self._next = 1
        self._open: dict[int, _Survey] = {}

    def begin(self, asker: object, others: list[Asked], sink: Sink) -> None:
        """Ask the others. asker: whose end ends the survey."""
        number, self._next = self._next, self._next % (2**32 - 1) + 1
        survey = self._open[number] = _Survey(asker, sink)
        for other in others:
            if other.ask(number):
                survey.answers[other] = bytearray()
        self._look(number)

    def told(self, worker: Asked, number: int, data: bytes) -> None:
        """A part of an answer; none is its end."""
        survey = self._open.get(number)
        if survey is None or worker not in survey.answers:
            return
        if data:
            survey.answers[worker] += data
        else:
            survey.sink(bytes(survey.answers.pop(worker)))
            self._look(number)

    def gone(self, worker: Asked) -> None:
        """It answers no more, nor does it listen."""
        for number, survey in list(self._open.items()):
            survey.answers.pop(worker, None)
            if survey.asker is worker:
                del self._open[number]
            else:
                self._look(number)

    def _look(self, number: int) -> None:
        survey = self._open[number]
        if not survey.answers:
            del self._open[number]
            survey.sink(None)
