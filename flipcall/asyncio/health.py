"""Health of a server in an event loop: flipcall.health, whose watches are tasks."""

import asyncio
from collections.abc import AsyncIterator

from .. import health
from ..health import LOOK_S, State, Watched
from ..service import Service


class Health(Service, name="flipcall.Health"):
    """flipcall.health.Health, for flipcall.asyncio.connect(); the server is of either kind."""

    async def check(self, service: str = "") -> State:
        """See flipcall.health.Health."""
        raise NotImplementedError

    async def services(self) -> dict[str, State]:
        """See flipcall.health.Health."""
        raise NotImplementedError

    def watch(self, service: str = "") -> AsyncIterator[Watched]:
        """See flipcall.health.Health."""
        raise NotImplementedError


class HealthServer(health.HealthServer):
    """See flipcall.health.HealthServer."""

    async def watch(self, service: str = "") -> AsyncIterator[Watched]:  # type: ignore[override]
        """See flipcall.health.Health.watch."""
        loop, changed = asyncio.get_running_loop(), asyncio.Event()

        def tell() -> None:
            try:
                loop.call_soon_threadsafe(changed.set)
            except RuntimeError:
                pass  # the loop is closed, and its watches with it

        state: Watched | None = None
        with self.told(tell):
            while state != "draining":
                changed.clear()
                before, state = state, self.state(service)
                if state != before:
                    yield state
                else:
                    await _set_within(changed, LOOK_S)


async def _set_within(event: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except asyncio.TimeoutError:
        pass
