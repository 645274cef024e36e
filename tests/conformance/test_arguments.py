"""Arguments bind as in a call of the function itself: positions, keywords, defaults."""

# ruff: noqa: F403
from __future__ import annotations

from flipcall.conformance.arguments import *
