"""The library's wait policies and switches by name, as rows and command lines carry them."""

from __future__ import annotations

from collections.abc import Callable

from bench.placement import Placement, UnavailableError, pinned
from flipcall.policy import WaitPolicy, waits
from flipcall.switch import SWITCHES

FUTEX = "futex"
PRESETS = ("latency", "balanced", "frugal", "same_cpu")


def policy_named(name: str) -> WaitPolicy:
    """The preset `name`, one of PRESETS. Raises UnavailableError for one that this library has not."""
    if name not in PRESETS:
        raise ValueError(f"no preset is called {name!r}: there are {', '.join(PRESETS)}")
    preset: Callable[[], WaitPolicy] | None = getattr(WaitPolicy, name, None)
    if preset is None:
        raise UnavailableError(f"this build of flipcall has no WaitPolicy.{name}()")
    return preset()


def require_switch(name: str) -> None:
    """Raises UnavailableError, with the probe's reason, unless switch `name` can work here."""
    for switch in SWITCHES:
        if switch.name == name:
            works, reason = switch.probe()
            if not works:
                raise UnavailableError(reason)
            return
    raise UnavailableError(f"this build of flipcall has no switch {name}")


def switch_of(name: str, placement: Placement, switch: str = FUTEX) -> str:
    """What a side under preset `name` does while it waits there, in the order it does it: the row's switch.

    The library is asked, because it changes a preset where spinning can only hurt.
    """
    try:
        with pinned(making_cpu(placement)):
            how = waits(policy_named(name))
    except UnavailableError:
        return switch
    steps = [step for step, taken in (("spin", how.spin_ns), ("yield", how.yields)) if taken]
    return "+".join([*steps, switch])


def making_cpu(placement: Placement) -> int:
    """The CPU to be pinned to while an endpoint is made, -1 for none.

    The library turns spinning off for a process that may use one CPU. That is right when both sides share it,
    and the one-cpu rows show it; with a CPU for each side it would be wrong, so there they are pinned later.
    """
    return placement.cpus[0] if placement is Placement.ONE_CPU else -1
