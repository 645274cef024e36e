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
import time
import traceback

import msgspec

from flipcall import FlipcallError
from flipcall.lowlevel import MemfdAllocator, PacketWindow, Side
from flipcall.switch import offered
from tests.leaks import Holdings
from tests.stress.crowd import SKIP, Busy, choose_cpus
from tests.stress.player import LATEST_S, Outcome, Plan, WrongError, draw, play

PATIENCE_S = 20.0  # for one round, which takes milliseconds

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
    if rescues > 3 + flips // 100:  # an answer may fall on the end of a slice, but seldom
        print(f"stress: FAILED: --seed {options.seed}: {rescues} wakes of {flips} were lost", file=sys.stderr)
        return 1
    print(
        f"stress: ok: {rounds} rounds, {flips} flips, {timeouts} deadlines, {rescues} slices ended by an answer"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
