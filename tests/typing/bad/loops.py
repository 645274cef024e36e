"""Wrong programs for flipcall.asyncio: each marked line is an error."""

from collections.abc import AsyncIterator

import flipcall
import flipcall.asyncio


class Rates(flipcall.Service):
    """A contract for a loop."""

    async def convert(self, amount: float) -> float: ...
    async def total(self, amounts: AsyncIterator[float]) -> float: ...
    def ticks(self, symbol: str) -> AsyncIterator[float]: ...


class Wrong(Rates):
    """An implementation that keeps the contract's word badly."""

    async def convert(self, amount: str) -> float:  # error
        return 1.0


async def main() -> None:
    """Call wrongly."""
    flipcall.asyncio.connect(Rates, "s").convert(1.0)  # error
    rates = await flipcall.asyncio.connect(Rates, "s")
    await rates.convert("a")  # error
    await rates.convert()  # error
    number: float = rates.convert(1.0)  # error
    text: str = await rates.convert(1.0)  # error
    await rates.total([1.0])  # error
    async for tick in rates.ticks("a"):
        text = tick  # error
    for _ in rates.ticks("a"):  # error
        pass
    with flipcall.asyncio.connect(Rates, "s"):  # error
        print(text, number)
    await flipcall.asyncio.connect(int, "s")  # error
    await flipcall.asyncio.connect(Rates, "s", timeout="long")  # error
    flipcall.asyncio.Server(42, "s")  # error
    await rates.nothing()  # error
    flipcall.asyncio.connect(Rates, "s", interceptors=[len])  # error
    flipcall.asyncio.Server(Rates(), "s", interceptors=[lambda call: call])  # error
    flipcall.asyncio.view(rates.convert, 1.0)  # error
    flipcall.view(rates.total, numbers=3)  # error
    await flipcall.asyncio.into(bytearray(9), rates.convert, 1.0)  # error
