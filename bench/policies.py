"""The library's wait policies by name, as rows and command lines carry them."""

from __future__ import annotations

from bench.placement import Placement, pinned
from flipcall.policy import WaitPolicy, waits


def policy_named(name: str) -> WaitPolicy:
    """The preset `name`: latency, balanced or frugal."""
    return {
        "latency": WaitPolicy.latency,
        "balanced": WaitPolicy.balanced,
        "frugal": WaitPolicy.frugal,
    }[name]()


def switch_of(name: str, placement: Placement) -> str:
    """What a side under preset `name` does while it waits there, in the order it does it: the row's switch.

    The library is asked, because it changes a preset where spinning can only hurt.
    """
    with pinned(making_cpu(placement)):
        how = waits(policy_named(name))
    steps = [step for step, taken in (("spin", how.spin_ns), ("yield", how.yields)) if taken]
    return "+".join([*steps, "futex"])


def making_cpu(placement: Placement) -> int:
    """The CPU to be pinned to while an endpoint is made, -1 for none.

    The library turns spinning off for a process that may use one CPU. That is right when both sides share it,
    and the one-cpu rows show it; with a CPU for each side it would be wrong, so there they are pinned later.
    """
    return placement.cpus[0] if placement is Placement.ONE_CPU else -1
