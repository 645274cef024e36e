"""Random connections between Python endpoints in two processes, driven to random ends: stress.c's Python half.

    python -m tests.stress.endpoints [--switch NAME] [--seconds N] [--seed S] [--round R] [--cpus N] [--busy N]

Each round forks a client and a server. Its plan is drawn from the seed and the round: policies, deadlines, pauses,
and how it ends (the client is done; shutdown(), retire() or condemn() by another thread; SIGKILL). This
process stops sides, signals them, kills them, and judges: every datagram once, in order, whole; each side ends
with the error its end calls for; everything a side gave before it ended the connection was received; nothing
hangs; each side is left with the descriptors and mappings it began with. Exit: 0, 1 with the seed, 77 for a switch
that cannot work here.
"""

from __future__ import annotations

import argparse
import os
import random
import select
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from flipcall import ClosedError, DeadlineExceeded, FlipcallError, PeerDiedError
from flipcall.lowlevel import Endpoint, Liveness, MemfdAllocator, PacketWindow, Side, WaitPolicy
from flipcall.switch import NOTIFY, offered
from tests.leaks import Holdings
from tests.stress.crowd import SKIP, Busy, choose_cpus

PATIENCE_S = 20.0  # for one round, which takes milliseconds
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


def play(
    plan: Plan, side: Side, window: PacketWindow, life: socket.socket, peer: int, switch: str
) -> Outcome:
    """Be `side` until the round is over."""
    before = Holdings.now()
    attached = PacketWindow.attach(os.dup(window.fd), window.length)
    error = ""
    try:
        liveness = Liveness(pid=peer or None, socket=life)
    except ProcessLookupError:  # killed before it was watched
        attached.close()
        return Outcome("PeerDiedError", 0, 0, 0, 0, [])
    policy = plan.policies[side]
    with Endpoint(attached, side, peer=liveness, policy=policy, switch=switch) as endpoint:
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


# ---- the supervisor --------------------------------------------------------------------------------------------


def start(
    plan: Plan, side: Side, window: PacketWindow, lives: list[socket.socket], peer: int, switch: str
) -> tuple[int, int]:
    """Fork one side; its process and the pipe that will say how it ended."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writer)
        return pid, reader
    try:
        os.close(reader)
        lives[1 - side].close()
        outcome = play(plan, side, window, lives[side], peer, switch)
        os.write(writer, msgspec.json.encode(outcome))
    except BaseException:
        os.write(writer, msgspec.json.encode(Outcome(traceback.format_exc(), 0, 0, 0, 0, [])))
    finally:
        os._exit(0)


def run_round(plan: Plan, switch: str) -> list[Outcome | None]:
    """Play one round; how the sides ended, client first; None for one that was killed before it could say."""
    dice = random.Random(f"{plan.seed}/supervisor")
    lives = list(socket.socketpair())
    pids, pipes = [0, 0], [-1, -1]
    with MemfdAllocator().allocate(8192) as window:
        try:
            first = dice.randrange(2)
            for side in (first, 1 - first):
                pids[side], pipes[side] = start(plan, Side(side), window, lives, pids[first], switch)
            for life in lives:
                life.close()
            return _supervise(plan, pids, pipes, dice)
        finally:
            for pid, pipe in zip(pids, pipes, strict=True):
                if pid:
                    os.kill(pid, signal.SIGKILL)
                    os.waitpid(pid, 0)
                    os.close(pipe)


def _supervise(plan: Plan, pids: list[int], pipes: list[int], dice: random.Random) -> list[Outcome | None]:
    told: dict[int, bytes] = {}
    begun = time.monotonic()
    kill_at = begun + dice.random() * LATEST_S if plan.ending == "kill" else None
    while len(told) < 2:
        waiting = [pipe for pipe in pipes if pipe not in told]
        for pipe in select.select(waiting, [], [], 0.001)[0]:
            told[pipe] = os.read(pipe, 1 << 16)
        now = time.monotonic()
        if kill_at is not None and now > kill_at:
            os.kill(pids[plan.actor], signal.SIGKILL)
            kill_at = None
        elif plan.meddle and len(told) < 2:
            pid = dice.choice([pid for pid, pipe in zip(pids, pipes, strict=True) if pipe not in told])
            os.kill(pid, dice.choice((signal.SIGUSR1, signal.SIGUSR1, signal.SIGSTOP)))
            time.sleep(dice.random() * 0.002)
            os.kill(pid, signal.SIGCONT)
        if now - begun > PATIENCE_S:
            raise WrongError(f"it hangs: {[side for side in Side if pipes[side] not in told]} plays on")
    return [msgspec.json.decode(told[pipe], type=Outcome) if told[pipe] else None for pipe in pipes]


def judge(plan: Plan, outcomes: list[Outcome | None]) -> None:
    """Raise WrongError unless the round ended as its plan says."""
    actor, other = plan.actor, 1 - plan.actor
    expected = dict.fromkeys(Side, "ClosedError")
    if plan.ending == "finish":
        expected = dict.fromkeys(Side, "")
    elif plan.ending == "condemn":
        expected[actor] = "PeerDiedError"
    elif plan.ending == "kill":
        expected[Side(other)] = "PeerDiedError"
    for side in Side:
        outcome = outcomes[side]
        if outcome is None:
            if plan.ending == "kill" and side is actor:
                continue
            raise WrongError(f"the {side.name} ended without a word")
        if outcome.error == "ClosedError" and plan.ending == "condemn" and outcome.given == 0:
            continue  # condemned before it began to connect: a verb begun then finds the endpoint over
        if outcome.error != expected[side]:
            raise WrongError(
                f"the {side.name} ended with {outcome.error or 'nothing'}, not {expected[side]!r}"
            )
        if outcome.leaks:
            raise WrongError(f"the {side.name} left behind: {outcome.leaks}")
    ended, left = outcomes[actor], outcomes[other]
    if plan.ending in ("finish", "shutdown", "retire") and ended and left and left.taken:
        answered = 1  # the datagrams that connect are given, and not counted as taken
        if ended.given - answered != left.taken:
            raise WrongError(f"the {actor.name} gave {ended.given - answered}, {left.taken} were received")


def main() -> int:
    parser = argparse.ArgumentParser(description="Random connections between Python endpoints.")
    parser.add_argument("--switch", default="futex")
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--seed", type=int, default=time.monotonic_ns())
    parser.add_argument("--round", type=int, help="only this one, again and again")
    parser.add_argument("--cpus", type=int, default=0)
    parser.add_argument("--busy", type=int, default=0)
    options = parser.parse_args()
    if options.switch == NOTIFY:
        print(
            "stress: skipped: notify wants a NotifyLink a side and a process a client; tests/notify has its own"
        )
        return SKIP
    try:
        offered(options.switch)
    except (FlipcallError, ValueError) as e:
        print(f"stress: skipped: {e}")
        return SKIP
    cpus = choose_cpus(options.cpus)
    print(
        f"stress: Python endpoints, {options.switch}, {cpus} CPUs, {options.busy} busy, --seed {options.seed}",
        flush=True,
    )
    signal.signal(signal.SIGUSR1, lambda *_: None)
    before = Holdings.now()
    number, flips, rescues, timeouts = options.round or 0, 0, 0, 0
    rounds = 0
    end = time.monotonic() + options.seconds
    with Busy(options.busy):
        while time.monotonic() < end:
            plan = draw(options.seed, number)
            try:
                outcomes = run_round(plan, options.switch)
                judge(plan, outcomes)
            except WrongError as e:
                print(
                    f"stress: FAILED: --seed {options.seed} --round {number}: {e}\n  {plan}", file=sys.stderr
                )
                return 1
            flips += sum(o.given for o in outcomes if o)
            rescues += sum(o.rescues for o in outcomes if o)
            timeouts += sum(o.timeouts for o in outcomes if o)
            rounds += 1
            number += options.round is None
    if left := Holdings.now().beyond(before):
        print(f"stress: FAILED: --seed {options.seed}: left behind: {left}", file=sys.stderr)
        return 1
    print(
        f"stress: ok: {rounds} rounds, {flips} flips, {timeouts} deadlines, {rescues} slices ended by an answer"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
