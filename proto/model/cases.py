"""What `check` runs: every switch, which must hold, and every known fault, which must be found.

A case is one model file, the -D flags that choose its variant, and what the checker must say about it.
"""

from __future__ import annotations

from dataclasses import dataclass

HOLDS = "holds"
LOST = "lost wake"
STUCK = "stuck"
TWO = "two active"
LENGTH = "wrong length"
WORD = "answer dropped"
ITEM = "item lost"


@dataclass(frozen=True)
class Case:
    """One run of spin."""

    name: str
    switch: str
    flags: tuple[str, ...] = ()
    expect: tuple[str, ...] = (HOLDS,)
    """The verdicts that are right: HOLDS alone, or the ways in which a fault may show itself."""
    ltl: str | None = None
    """The temporal property to check, under weak fairness; None for the safety properties."""
    deep: bool = False
    """Only with --deep: larger, and nothing a smaller case does not already show."""


CALM = ("SPURIOUS=0", "EXPIRIES=0")
"""No spurious wakeups and no deadlines: what is left is flips, shutdown and death."""


SOLO = ("FLIPS=1", "NO_WATCH")
"""One call a channel, and nothing that heals what is broken."""


def _holds() -> list[Case]:
    cases = [Case("all", switch, deep=switch == "notify") for switch in ("futex", "swap", "notify")]
    # notify sleeps in more ways, so its events come one kind at a time; together with --deep.
    cases += [
        Case("all but deadlines", "notify", ("EXPIRIES=0",)),
        Case("deadlines", "notify", ("SPURIOUS=0", "NO_DEATH")),
    ]
    cases.append(Case("all but deadlines", "same_cpu", ("EXPIRIES=0",)))  # futex, placed; see same_cpu.pml
    few = {"notify": CALM}
    cases += [
        Case("fc_retire", switch, ("RETIRE", *few.get(switch, ("EXPIRIES=0",))))
        for switch in ("futex", "swap", "notify")
    ]
    # Store buffers multiply the states; deadlines add nothing to what they can reorder.
    cases += [
        Case("TSO, seq_cst accesses", switch, ("TSO", *few.get(switch, ("EXPIRIES=0",))))
        for switch in ("futex", "swap", "notify")
    ]
    for switch, fewer in (("futex", ()), ("swap", ("EXPIRIES=0",))):
        cases += [
            Case("server is {}", switch, ("EXT_SERVER=0", *fewer)),
            Case("client is {}", switch, ("EXT_CLIENT=0", *fewer)),
            Case("both are {}", switch, ("EXT_CLIENT=0", "EXT_SERVER=0", *fewer)),
        ]
    # Several channels on one listener; the third, and second calls, are for --deep.
    cases += [
        Case("a leader replaced while away", "listener", ("FLIPS=1", "TAKEOVERS=0", "NO_WATCH")),
        Case("an idle leader replaced", "listener", ("FLIPS=1", "TAKEOVERS=1", "NO_WATCH")),
        Case("a channel leaves", "listener", ("FLIPS=1", "TAKEOVERS=0", "LEAVES")),
        Case("two calls each", "listener", ("FLIPS=2", "TAKEOVERS=0"), deep=True),
        Case("three channels", "listener", ("FLIPS=1", "TAKEOVERS=0", "N=3"), deep=True),
    ]
    # Sides in an event loop: both, or one of them.
    cases += [
        Case("both in loops", "doorbell", ("EXPIRIES=0",)),
        Case("both in loops, deadlines", "doorbell", ("SPURIOUS=0", "NO_DEATH")),
        Case("the server in a loop", "doorbell", ("LOOP_CLIENT=0", *CALM)),
        Case("the client in a loop", "doorbell", ("LOOP_SERVER=0", *CALM)),
        Case("fc_retire", "doorbell", ("RETIRE", *CALM)),
        Case("TSO, seq_cst accesses", "doorbell", ("TSO", *CALM)),
        Case("all", "doorbell", deep=True),
    ]
    # Items published within a turn, by how the consumer sleeps.
    cases += [
        Case("by futex", "items"),
        Case("by flip", "items", ("BY_FLIP",)),
        Case("in a loop", "items", ("IN_LOOP",)),
        Case("TSO, seq_cst store", "items", ("TSO",)),
        Case("a larger window", "items", ("CAP=3", "N=8")),
    ]
    for switch in ("futex", "swap", "notify", "doorbell"):
        cases += [
            Case("always unblocked", switch, ("LIVE", *CALM), ltl="unblocked"),
            Case("always woken", switch, ("LIVE", *CALM), ltl="woken"),
            Case("always unblocked, all events", switch, ("LIVE",), ltl="unblocked", deep=True),
            Case("always woken, all events", switch, ("LIVE",), ltl="woken", deep=True),
            Case("TSO, all events", switch, ("TSO",), deep=True),
            Case("both shut down", switch, ("BOTH_STOP",), deep=True),
            Case("two of each event", switch, ("SPURIOUS=2", "EXPIRIES=2"), deep=True),
        ]
    # Not faults, though they look like ones; each says why.
    # The kernel's own look at the word, under its lock, makes the waiter's order redundant with FUTEX_WAIT: these
    # two hold here and fail with notify, whose sleeps do not look.
    cases += [
        Case("look, then set", "futex", ("FAULT_LOOK_THEN_SET", "EXPIRIES=0")),
        Case("TSO, waiter not seq_cst", "futex", ("TSO", "WEAK_PARK", "EXPIRIES=0")),
        Case("look, then set", "items", ("FAULT_ITEMS_LOOK_THEN_SET",)),
        # An honest peer and its own side never sleep at once, so one is all; INT_MAX is against dishonest ones.
        Case("shutdown wakes one waiter", "futex", ("FAULT_SHUTDOWN_WAKES_ONE", "BOTH_STOP", *CALM)),
        # What the answer to a stray trap swallows, that trap's client rings for: one of the two is enough.
        Case("server's swap without a second look", "notify", ("FAULT_NOTIFY_BLIND_SWAP", *CALM)),
        # The filter does not reach every thread: those wake by the bell and sleep by futex.
        Case("threads without the filter", "notify", ("UNCOVERED", *CALM)),
        # The poke makes good what a taker does that stays in RECV, and even one that nobody has asked.
        Case("a taker that stays in RECV", "notify", ("TAKER_STAYS", "EXPIRIES=0", "NO_DEATH")),
        Case("a taker that stays, deadlines", "notify", ("TAKER_STAYS", "NO_DEATH"), deep=True),
        Case("a taker that nobody has asked", "notify", ("FAULT_NOTIFY_TAKER_LEFT", "NO_DEATH", *CALM)),
    ]
    return cases


def _faults() -> list[Case]:
    def fault(name: str, switch: str, *flags: str, expect: tuple[str, ...] = (LOST,)) -> Case:
        return Case(name, switch, flags, expect)

    return [
        fault("one shared sleeper flag", "futex", "FAULT_SHARED_FLAG"),
        fault("one shared sleeper flag", "swap", "FAULT_SHARED_FLAG"),
        fault("one shared sleeper flag", "notify", "FAULT_SHARED_FLAG", expect=(LOST, STUCK)),
        fault("look, then set", "notify", "FAULT_LOOK_THEN_SET"),
        fault("a sleep that does not compare", "futex", "FAULT_NO_COMPARE"),
        # Or a give still in the buffer is overwritten by the peer's end, and the giver reads its own datagram.
        *(
            fault("TSO, giver not seq_cst", switch, "TSO", "WEAK_GIVE", *CALM, expect=(LOST, LENGTH))
            for switch in ("futex", "swap", "notify")
        ),
        fault("TSO, waiter not seq_cst", "notify", "TSO", "WEAK_PARK", *CALM),
        fault("woken, so it must be my turn", "futex", "FAULT_NO_LOOP", "ONLY_TWO", expect=(TWO,)),
        fault("woken, so it must be my turn", "notify", "FAULT_NO_LOOP", "ONLY_TWO", expect=(TWO,)),
        fault("trusts the bit of a {} peer", "futex", "FAULT_TRUST_ANYONE", "EXT_SERVER=0"),
        fault("sets its bit only once connected", "futex", "FAULT_LATE_BITS"),
        fault("gives by a store, not a CAS", "futex", "FAULT_STORE_GIVE", expect=(LOST, STUCK, WORD)),
        fault("shutdown wakes, then stores", "futex", "FAULT_WAKE_BEFORE_STORE"),
        fault("no slice: death unnoticed", "futex", "FAULT_NO_SLICE", expect=(STUCK,)),
        fault("takes control back at its deadline", "futex", "FAULT_TAKE_BACK", "ONLY_TWO", expect=(TWO,)),
        fault("data_len after giving", "futex", "FAULT_LEN_AFTER_GIVE", expect=(LENGTH,)),
        fault("deadline forgets the deferred wake", "swap", "FAULT_DROP_OWED"),
        fault("a late trap is not answered", "notify", "FAULT_NOTIFY_NO_LATE_ANSWER", expect=(LOST, STUCK)),
        fault("no watch, and the server is away", "notify", "FAULT_NOTIFY_NO_WATCH", expect=(LOST, STUCK)),
        # The lost wake of November 2026: the thread that had measured took a channel's first notification.
        fault(
            "a taker left over, and no poke",
            "notify",
            "FAULT_NOTIFY_TAKER_LEFT",
            "FAULT_NOTIFY_NO_POKE",
            "NO_DEATH",
            *CALM,
            expect=(LOST, STUCK),
        ),
        fault(
            "no poke after a deadline",
            "notify",
            "FAULT_NOTIFY_NO_POKE",
            "SPURIOUS=0",
            "NO_DEATH",
            expect=(LOST, STUCK),
        ),
        fault(
            "no poke after an empty RECV", "notify", "FAULT_NOTIFY_EMPTY_HANDED", "TAKER_STAYS", "EXPIRIES=0"
        ),
        fault("no hang-up of the bell", "notify", "FAULT_NOTIFY_NO_HANG_UP", expect=(LOST, STUCK)),
        fault("a voided swap does not ring", "notify", "FAULT_NOTIFY_VOID"),
        fault(
            "neither a second look nor a ring",
            "notify",
            "FAULT_NOTIFY_BLIND_SWAP",
            "FAULT_NOTIFY_VOID",
            *CALM,
        ),
        fault("sleeps by futex, says it is trapped", "notify", "FAULT_NOTIFY_BIT_KEPT"),
        fault("no trap, and the owed wake forgotten", "notify", "UNCOVERED", "FAULT_NOTIFY_FORGETS", *CALM),
        fault("the leader leaves, and no watch", "listener", "LEAVES", "NO_WATCH", "FLIPS=1", "TAKEOVERS=0"),
        fault("two receive what is there for one", "listener", "FAULT_BLIND_RECV", *SOLO),
        fault("another channel's trap not answered", "listener", "FAULT_FOREIGN_KEPT", *SOLO),
        fault("sleeps by futex, says on the listener", "listener", "FAULT_BIT_KEPT", *SOLO),
        fault("a late trap is not answered", "listener", "FAULT_NO_LATE_ANSWER", *SOLO),
        fault("look, then set", "doorbell", "FAULT_LOOK_THEN_SET", *CALM),
        fault("looks, then reads the socket", "doorbell", "FAULT_BELL_LOOK_THEN_READ"),
        fault("an end that does not ring", "doorbell", "FAULT_BELL_SILENT_END"),
        fault("wakes by futex, and does not ring", "doorbell", "FAULT_BELL_NOT_RUNG"),
        fault("TSO, giver not seq_cst", "doorbell", "TSO", "WEAK_GIVE", *CALM, expect=(LOST, LENGTH)),
        fault("looks at the bit, then publishes", "items", "FAULT_ITEMS_LOOK_FIRST"),
        fault("TSO, store not seq_cst", "items", "TSO", "WEAK_PUBLISH"),
        fault("sleeps on conn_state alone", "items", "FAULT_ITEMS_ONE_WORD"),
        fault("by flip, and does not", "items", "BY_FLIP", "FAULT_ITEMS_NO_FLIP"),
        fault("look, then set, in a loop", "items", "IN_LOOP", "FAULT_ITEMS_LOOK_THEN_SET"),
        fault("an end that wakes nobody", "items", "FAULT_ITEMS_SILENT_END"),
        fault("a full window begun anew", "items", "FAULT_ITEMS_START_ANEW", expect=(ITEM,)),
        fault("control taken, the rest left", "items", "FAULT_ITEMS_REST_LEFT", expect=(ITEM,)),
        fault("the word before the bytes", "items", "FAULT_ITEMS_WORD_FIRST", expect=(ITEM,)),
        fault("death noticed, no last look", "items", "FAULT_ITEMS_NO_LAST_LOOK", expect=(ITEM,)),
        # The end says whose turn it was, so that an answer followed by the end is not taken for the end.
        fault("an end that does not say whose turn", "futex", "FAULT_END_PLAIN", expect=(WORD,)),
        fault("whose turn it was, ignored", "futex", "FAULT_END_IGNORED", expect=(WORD,)),
        fault("ends by a store, not a CAS", "futex", "FAULT_END_STORE", expect=(LENGTH, TWO, WORD)),
        fault("fc_retire that does not say whose turn", "futex", "RETIRE", "FAULT_END_PLAIN", expect=(WORD,)),
        # Not a lost wake: the peer answers and dies between park()'s look and fc_peer_gone().
        fault("death noticed, no last look", "futex", "FAULT_NO_LAST_LOOK", expect=(WORD,)),
        Case(
            "death unnoticed, as a liveness fault",
            "futex",
            ("LIVE", "FAULT_NO_SLICE", *CALM),
            (STUCK,),
            "unblocked",
        ),
        Case(
            "shared flag, as a liveness fault",
            "futex",
            ("LIVE", "FAULT_SHARED_FLAG", *CALM),
            (STUCK,),
            "woken",
        ),
    ]


CASES: tuple[Case, ...] = (*_holds(), *_faults())
