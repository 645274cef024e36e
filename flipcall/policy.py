"""How long a wait spins before it sleeps.

What an endpoint does under an adaptive policy, and when it changes (core/adapt.c has the weights and why):

      SPINNING ──── two answers in a row beyond spin_ns, or fewer than half of the spins paid ────► PARKING
        ▲   ▲                                                                                        │   ▲
        │   └──────────── one wait in FC_PROBE (32) spins, and was answered within spin_ns ──────────┘   │
        │                                                                                                │
        └── the peer runs on another CPU ── TOGETHER ◄── the peer runs on this CPU, whatever the state ──┘

SPINNING looks at the word for up to spin_ns, then sleeps. PARKING sleeps at once. TOGETHER sleeps at once too, or
first yields, where the policy says so and yielding has been quick: a side that spins on its peer's CPU keeps the
answer from coming, so this holds for policies that do not adapt as well. The ladder of one wait, and why no wake
is lost on it, are in core/wait.c.
"""

from typing import Literal

import msgspec

from . import cpus
from ._core import lib

# About what waking a sleeper on another CPU costs here (25 µs each way): the ski-rental bound.
BALANCED_SPIN_NS = 50_000
LATENCY_SPIN_NS = 1_000_000

Placement = Literal["free", "same-cpu"]
FREE: Placement = "free"
SAME_CPU: Placement = "same-cpu"


class WaitPolicy(msgspec.Struct, frozen=True):
    """Plain numbers for one side's waits; the presets are starting points.

    spin_ns: the longest spin of one wait, in nanoseconds, beside what copying a large message, as this side
        has just sent or received one, takes the other; 0 never spins.
    adaptive: spin only while spinning has lately been paying.
    yields: sched_yield(2) calls before sleeping, where both sides share the only CPU. (With several, sleeping is
    what lets the scheduler put the sides apart.)

    placement: "free" leaves both sides where the scheduler puts them. "same-cpu", where both sides ask for it,
        restricts their threads to one CPU while they talk: see same_cpu().

    Spinning is off wherever it can only hurt, whatever the numbers say: on one CPU (by affinity mask or cgroup
    quota), and for more than CPUs - 1 threads of the process at once.
    """

    spin_ns: int = BALANCED_SPIN_NS
    adaptive: bool = True
    yields: int = 2
    placement: Placement = FREE

    def __post_init__(self) -> None:
        for name, value, most in ("spin_ns", self.spin_ns, 10**12), ("yields", self.yields, 10**6):
            if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
                raise ValueError(f"{name} must be an int from 0 to {most}, not {value!r}")
        if not isinstance(self.adaptive, bool):
            raise ValueError(f"adaptive must be True or False, not {self.adaptive!r}")
        if self.placement not in (FREE, SAME_CPU):
            raise ValueError(f"placement must be 'free' or 'same-cpu', not {self.placement!r}")

    @classmethod
    def balanced(cls) -> "WaitPolicy":
        """The default: quick while busy, nothing burnt while idle."""
        return cls()

    @classmethod
    def latency(cls) -> "WaitPolicy":
        """Always spins, up to a millisecond a wait: the quickest answers, at the price of CPU time."""
        return cls(spin_ns=LATENCY_SPIN_NS, adaptive=False)

    @classmethod
    def frugal(cls) -> "WaitPolicy":
        """Never spins: every wait sleeps in the kernel at once."""
        return cls(spin_ns=0, adaptive=False)

    @classmethod
    def same_cpu(cls) -> "WaitPolicy":
        """Both sides on the CPU the client is on: where nothing spins, a tenth of the time between two CPUs.

        In force where both sides ask for it (repr(endpoint) says so) and each may run on that CPU. A thread that
        waits is then restricted to it, and gets the CPUs it had back after 0.1 to 0.2 s without a wait, when it
        closes an endpoint, and in a child it forks; unless they were changed meanwhile: then they stay as they
        are. Until then what the thread starts (threads, and processes by subprocess or posix_spawn) inherits
        the one CPU. The sides never run at the same time: no work of theirs overlaps.
        """
        return cls(spin_ns=0, adaptive=False, placement=SAME_CPU)


def waits(policy: WaitPolicy) -> WaitPolicy:
    """What `policy` comes to here and now: no spin where spinning is not allowed, yields only there or where the
    sides are put together.

    Also tells the C core how many threads of this process may spin at once. Costs some ten microseconds.
    """
    lib.fc_unpin()  # what a channel with placement same-cpu has left this thread is not what it may use
    allowed, _ = cpus.spinning_allowed()
    lib.fc_set_spinner_limit(max(1, len(cpus.allowed()) - 1))
    spin_ns, adaptive = (policy.spin_ns, policy.adaptive) if allowed else (0, False)
    yields = 0 if allowed and policy.placement == FREE else policy.yields
    return WaitPolicy(spin_ns=spin_ns, adaptive=adaptive, yields=yields, placement=policy.placement)
