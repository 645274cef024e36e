"""Calls of different kinds in turn over one channel: each reaches its own method, whatever came before it."""

# ruff: noqa: F403
from __future__ import annotations

from flipcall.conformance.alternating import *
