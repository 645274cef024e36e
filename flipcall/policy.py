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

import msgspec

from . import cpus
from ._core import lib

# About what waking a sleeper on another CPU costs here (25 µs each way): the ski-rental bound.
BALANCED_SPIN_NS = 50_000
LATENCY_SPIN_NS = 1_000_000


class WaitPolicy(msgspec.Struct, frozen=True):
    """Plain numbers for one side's waits; the presets are starting points.

    spin_ns: the longest spin of one wait, in nanoseconds; 0 never spins.
    adaptive: spin only while spinning has lately been paying.
    yields: sched_yield(2) calls before sleeping, where both sides share the only CPU. (With several, sleeping is
    what lets the scheduler put the sides apart.)

    Spinning is off wherever it can only hurt, whatever the numbers say: on one CPU (by affinity mask or cgroup
    quota), and for more than CPUs - 1 threads of the process at once.
    """

    spin_ns: int = BALANCED_SPIN_NS
    adaptive: bool = True
    yields: int = 2

    def __post_init__(self) -> None:
        if not 0 <= self.spin_ns <= 10**12 or not 0 <= self.yields <= 10**6:
            raise ValueError(f"spin_ns must be in 0..10**12 and yields in 0..10**6: {self}")

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


def waits(policy: WaitPolicy) -> WaitPolicy:
    """What `policy` comes to here and now: no spin where spinning is not allowed, yields only there.

    Also tells the C core how many threads of this process may spin at once. Costs some ten microseconds.
    """
    allowed, _ = cpus.spinning_allowed()
    lib.fc_set_spinner_limit(max(1, len(cpus.allowed()) - 1))
    if allowed:
        return WaitPolicy(spin_ns=policy.spin_ns, adaptive=policy.adaptive, yields=0)
    return WaitPolicy(spin_ns=0, adaptive=False, yields=policy.yields)
