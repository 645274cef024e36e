"""The library's wait policies by name, as rows and command lines carry them."""

from __future__ import annotations

from flipcall.policy import WaitPolicy


def policy_named(name: str) -> WaitPolicy:
    """The preset `name`: latency, balanced or frugal."""
    return {
        "latency": WaitPolicy.latency,
        "balanced": WaitPolicy.balanced,
        "frugal": WaitPolicy.frugal,
    }[name]()


def switch_of(name: str) -> str:
    """What a side under preset `name` does while it waits, in the order it does it."""
    return {"latency": "spin", "balanced": "spin+futex", "frugal": "futex"}[name]
