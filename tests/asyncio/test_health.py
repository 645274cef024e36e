"""Health, asked from a loop. What it tells is in tests/builtin, of every kind."""

from __future__ import annotations

import flipcall
import flipcall.asyncio
from flipcall.asyncio.health import Health
from tests.asyncio.conftest import LoopPost, Run, until


def test_from_a_loop(run: Run, path: str) -> None:
    """check() and services() are awaited, watch() is iterated over, and closed when it is left."""

    async def main() -> None:
        async with (
            flipcall.asyncio.Server(LoopPost(), path) as server,
            flipcall.asyncio.connect(Health, path) as health,
        ):
            assert await health.check("Post") == (await health.services())["Post"] == "serving"
            seen = []
            async with flipcall.with_options(health, timeout=None).watch("Post") as states:  # type: ignore[attr-defined]
                async for state in states:
                    seen.append(state)
                    if state == "not serving":
                        break
                    server.health.set("Post", False)
            assert seen == ["serving", "not serving"]
            await until(lambda: not server.health._watches)

    run(main)
