"""Deadlines: the caller gets away on time, the handler is told, and the late answer is nobody's."""

# ruff: noqa: F403
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import flipcall
from flipcall.conformance.deadlines import *
from flipcall.conformance.deadlines import SHORT, Handler, Jobs
from flipcall.conformance.services import Desk, DeskServer


def test_the_deadline_of_a_handler_that_calls_on(
    jobs: Jobs, desk: Desk, serve: Callable[..., Any], connect: Callable[..., Any], tmp_path: Any
) -> None:
    """A handler may be the client of another server; answers and deadlines find their way back."""
    further = DeskServer()
    serve(further, at=str(tmp_path / "further"))
    inner = connect(Desk, at=str(tmp_path / "further"))
    late = Handler(further.jobs)
    jobs["add"] = lambda: inner.add(5)
    jobs["late"] = lambda: flipcall.with_options(inner, timeout=SHORT).run("wait")
    try:
        assert desk.run("add") == 15
        with pytest.raises(flipcall.DeadlineExceeded):
            desk.run("late")
        assert desk.run("add") == 15
    finally:
        late.go.set()
