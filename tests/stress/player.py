"""One side of a round of tests.stress.endpoints: what its plan is, how it plays, how it says that it has ended."""

from __future__ import annotations

import os
import random
import socket
import threading
import time
import traceback
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from flipcall import ClosedError, DeadlineExceeded, FlipcallError, PeerDiedError
from flipcall.lowlevel import Endpoint, Liveness, PacketWindow, Side, WaitPolicy
from flipcall.notify import NotifyLink
from flipcall.switch import NOTIFY
from tests.leaks import Holdings

LATEST_S = 0.05  # of a round's life: then its end comes
POLICIES = (
    WaitPolicy.frugal(),
    WaitPolicy.balanced(),
    WaitPolicy(spin_ns=3_000, adaptive=True, yields=2),
    WaitPolicy(spin_ns=200_000, adaptive=False),
)
ENDINGS = ("finish", "shutdown", "retire", "condemn", "kill")


class Plan(NamedTuple):
    """What happens in one round; `actor` is the side that ends it."""

    seed: int
    ending: str
    actor: Side
    after: int
    deadlines: bool
    pauses: bool
    meddle: bool
    policies: tuple[WaitPolicy, WaitPolicy]


class Outcome(msgspec.Struct):
    """How a side has ended, told over a pipe."""

    error: str
    given: int
    taken: int
    timeouts: int
    rescues: int
    leaks: list[str]


class WrongError(Exception):
    """The library did what it must not do."""


def draw(seed: int, number: int) -> Plan:
    """The plan of one round."""
    dice = random.Random(f"{seed}/{number}")
    ending = dice.choice(ENDINGS)
    return Plan(
        seed=dice.getrandbits(64),
        ending=ending,
        actor=Side.SERVER if ending == "retire" else dice.choice((Side.CLIENT, Side.SERVER)),
        after=dice.choice((0, dice.randrange(100), dice.randrange(3000))),
        deadlines=dice.random() < 0.4,
        pauses=dice.random() < 0.5,
        meddle=dice.random() < 0.3,
        policies=(dice.choice(POLICIES), dice.choice(POLICIES)),
    )


# ---- one side, in its own process ------------------------------------------------------------------------------


class Player:
    """One side: plays until the plan ends it, checks what it receives."""

    def __init__(self, plan: Plan, endpoint: Endpoint) -> None:
        self.plan = plan
        self.endpoint = endpoint
        self.dice = random.Random(f"{plan.seed}/{endpoint.side}")
        self.taken = 0
        self.given = 0
        self.timeouts = 0
        self.over = threading.Event()

    def payload(self, side: Side, number: int, last: bool) -> bytes:
        """What `side` sends as its datagram of that number."""
        salt = (self.plan.seed + number * 7919 + side) & 0xFFFF
        filler = bytes((salt + i) & 0xFF for i in range(salt % 40 if salt % 50 else 3000))
        return number.to_bytes(8, "little") + bytes([last]) + filler

    def deadline(self) -> int | None:
        if not self.plan.deadlines or self.dice.random() < 0.8:
            return None
        return time.monotonic_ns() + self.dice.randrange(-1000, 200_000)

    def pause(self) -> None:
        if self.plan.pauses and self.dice.random() < 0.05:
            time.sleep(self.dice.random() * 0.002)

    def settle(self, wait: Callable[[int | None], int]) -> int:
        """Wait over every deadline."""
        try:
            return wait(self.deadline())
        except DeadlineExceeded:
            pass
        while True:
            self.timeouts += 1
            try:
                return self.endpoint.recv(deadline_ns=self.deadline())
            except DeadlineExceeded:
                pass

    def send(self, number: int, last: bool) -> int:
        """Send that datagram; the length of what came for it."""
        data = self.payload(self.endpoint.side, number, last)
        self.pause()
        self.endpoint.data[: len(data)] = data
        return self.settle(lambda deadline: self.endpoint.send_recv(len(data), deadline_ns=deadline))

    def receive(self, n: int, number: int) -> bool:
        """Check the datagram that came; whether it is the last."""
        got = bytes(self.endpoint.data[:n])
        last = got[8:9] == b"\x01"
        other = Side.SERVER if self.endpoint.side is Side.CLIENT else Side.CLIENT
        if got != self.payload(other, number, last):
            raise WrongError(f"the {self.endpoint.side.name} received {got[:20]!r}… as datagram {number}")
        self.taken += 1
        return last

    def client(self) -> None:
        self.endpoint.connect()
        number, last, start = 0, False, time.monotonic()
        while not last:
            late = time.monotonic() - start > LATEST_S
            last = self.plan.ending == "finish" and (number >= self.plan.after or late)
            self.receive(self.send(number, last), number)
            number += 1

    def server(self) -> None:
        self.endpoint.accept()
        n = self.settle(lambda deadline: self.endpoint.recv(deadline_ns=deadline))
        number = 0
        while not self.receive(n, number):
            n = self.send(number, False)
            number += 1
        data = self.payload(Side.SERVER, number, True)
        self.endpoint.data[: len(data)] = data
        self.endpoint.send_last(len(data))

    def end(self) -> None:
        """In another thread: end the connection when its time has come."""
        start = time.monotonic()
        while self.taken < self.plan.after and time.monotonic() - start < LATEST_S:
            time.sleep(0.0001)
        if self.plan.ending == "shutdown":
            self.endpoint.shutdown()
        elif self.plan.ending == "condemn":
            self.endpoint.condemn()
        else:
            while not self.endpoint.retire():
                time.sleep(0)


def link(switch: str, side: Side, life: socket.socket) -> NotifyLink | None:
    """This side's part of the notify switch, sent over `life`. Raises OSError when the peer is gone already."""
    if switch != NOTIFY:
        return None
    if side is Side.CLIENT:
        made = NotifyLink.make()
        try:
            socket.send_fds(life, [made.identity], made.descriptors())
            made.sent()
        except BaseException:
            made.close()
            raise
        return made
    identity, descriptors, _, _ = socket.recv_fds(life, 64, 2)
    if not identity:
        raise ConnectionResetError
    return NotifyLink.adopt(descriptors, identity)


def play(
    plan: Plan, side: Side, window: PacketWindow, life: socket.socket, peer: int, switch: str
) -> Outcome:
    """Be `side` until the round is over. life: its other end only the peer has; peer: its process, or 0."""
    try:
        notify = link(switch, side, life)
        liveness = Liveness(pid=peer or None, socket=life)
    except OSError:
        return Outcome("PeerDiedError", 0, 0, 0, 0, [])  # the peer was killed before this side could begin
    before = Holdings.now()
    attached = PacketWindow.attach(os.dup(window.fd), window.length)
    error = ""
    policy = plan.policies[side]
    with Endpoint(attached, side, peer=liveness, policy=policy, switch=switch, notify=notify) as endpoint:
        player = Player(plan, endpoint)
        ender = threading.Thread(target=player.end)
        ends = side is plan.actor and plan.ending in ("shutdown", "retire", "condemn")
        if ends:
            ender.start()
        try:
            (player.client if side is Side.CLIENT else player.server)()
        except (ClosedError, PeerDiedError) as e:
            error = type(e).__name__
        except (FlipcallError, WrongError):
            error = traceback.format_exc()
        if ends:
            ender.join()
        stats = endpoint.stats
        if endpoint.switch not in (switch, "futex"):
            error = f"the switch in use is {endpoint.switch}"
    del endpoint, player.endpoint, ender
    return Outcome(
        error, stats.flips, player.taken, player.timeouts, stats.rescues, Holdings.now().beyond(before)
    )
