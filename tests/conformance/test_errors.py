"""Whatever a handler raises, the caller gets an answer, and the channel goes on."""

# ruff: noqa: F403
from __future__ import annotations

from flipcall.conformance.errors import *
