"""Bulk bytes: what a parameter or result annotated bytes, bytearray or memoryview does."""

# ruff: noqa: F403
from __future__ import annotations

from flipcall.conformance.bulk import *
