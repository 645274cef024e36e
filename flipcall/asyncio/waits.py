"""How an endpoint in an event loop waits: it spins, as its policy says, and then leaves the loop to others until
the peer rings (bell.py). It never sleeps in the kernel for one peer: what is for threads that do is not for it."""

from ..errors import MisuseError
from ..policy import FREE, WaitPolicy
from ..switch import FUTEX


def loop_waits(policy: WaitPolicy | None, switch: str | None) -> WaitPolicy:
    """The policy of a loop's endpoints. Raises MisuseError for a switch or a placement that it cannot have.

    A switch hands this CPU to the one peer that the thread sleeps for, and `same-cpu` keeps the thread on that
    peer's CPU; but a loop's thread has many peers, and sleeps for all at once.
    """
    if switch not in (None, FUTEX):
        raise MisuseError(
            f"switch {switch} is for threads that sleep for one peer: an event loop uses {FUTEX}"
        )
    if policy is not None and policy.placement != FREE:
        raise MisuseError(
            f"placement {policy.placement} is for threads with one peer: an event loop has many"
        )
    return policy or WaitPolicy.balanced()
