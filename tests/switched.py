"""Run tests with a switch of one's choice: FLIPCALL_TEST_SWITCH=name (`make test-swap` does, in its guest).

The tests need not know. Both sides of every connection of this process prefer that switch; a peer that offers
none, as gVisor's {} does, still gets the futex. How many connections used which is told at the end, and a run in
which none used the one asked for fails, as does a machine that does not have it: a silent futex would pass all.
"""

from __future__ import annotations

import os
from collections import Counter
from typing import Any

import pytest

from flipcall import admission, dialer, endpoint, greeting
from flipcall.errors import UnsupportedError
from flipcall.lowlevel import Endpoint, State
from flipcall.switch import offered

VARIABLE = "FLIPCALL_TEST_SWITCH"


class Switched:
    """The plugin: what was asked for, and what was used."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.used: Counter[str] = Counter()
        self.swaps = 0

    def prefer(self) -> None:
        """Make every side that is not asked for one switch offer or take this one first."""

        def preferring(asked: str | None) -> list[str]:
            names = offered(asked)
            return sorted(names, key=lambda name: name != self.name)  # stable: the others keep their order

        for module in (admission, dialer, greeting):
            vars(module)["offered"] = preferring
        close = Endpoint.close

        def counting_close(side: Endpoint) -> None:
            if side.state is not State.CLOSED and side.stats.flips:
                self.used[side.switch] += 1
                self.swaps += side.stats.swaps
            close(side)

        vars(endpoint)["Endpoint"].close = counting_close

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Say what was used."""
        used = ", ".join(f"{name} {count}" for name, count in self.used.most_common()) or "none"
        terminalreporter.write_line(
            f"switches, sides that flipped in this process: {used}; swaps: {self.swaps}"
        )

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Fail a run in which everything went another way."""
        if self.used and not self.used[self.name] and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED


def configure(config: pytest.Config) -> None:
    """Register the plugin if the environment asks for a switch. UsageError for one that does not work here."""
    name = os.environ.get(VARIABLE)
    if not name:
        return
    try:
        offered(name)
    except (UnsupportedError, ValueError) as error:
        raise pytest.UsageError(f"{VARIABLE}: {error}") from error
    plugin = Switched(name)
    plugin.prefer()
    config.pluginmanager.register(plugin, "flipcall-switched")
