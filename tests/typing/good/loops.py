"""Right programs for flipcall.asyncio: every line passes, strictly."""

import asyncio
from collections.abc import AsyncIterator

import flipcall
import flipcall.asyncio


class Rates(flipcall.Service):
    """A contract for a loop."""

    async def convert(self, amount: float, *, to: str = "EUR") -> float: ...
    async def total(self, amounts: AsyncIterator[float]) -> float: ...
    def ticks(self, symbol: str) -> AsyncIterator[float]: ...


class RatesServer(Rates):
    """An implementation."""

    async def convert(self, amount: float, *, to: str = "EUR") -> float:
        return amount * len(to)

    async def total(self, amounts: AsyncIterator[float]) -> float:
        return sum([amount async for amount in amounts])

    async def ticks(self, symbol: str) -> AsyncIterator[float]:
        yield float(len(symbol))


async def numbers() -> AsyncIterator[float]:
    """Items to send."""
    yield 1.0


async def made(peer: flipcall.Peer) -> RatesServer:
    """A factory that is a coroutine."""
    return RatesServer()


async def main() -> None:
    """Serve and call."""
    async with (
        flipcall.asyncio.Server(made, "s", max_channels=3),
        flipcall.asyncio.connect(Rates, "s", timeout=None) as rates,
    ):
        one: float = await rates.convert(1.0, to="USD")
        both = await asyncio.gather(rates.convert(one), rates.total(numbers()))
        print(sum(both), await flipcall.with_options(rates, timeout=1.0).convert(2))
        async for tick in rates.ticks("EUR"):
            print(tick + 1)
    own: Rates = await flipcall.asyncio.connect(Rates, "s")
    own.close()
    await flipcall.asyncio.serve(RatesServer(), "s")
