"""Right programs for flipcall.asyncio: every line passes, strictly."""

import asyncio
import io
from collections.abc import AsyncIterator

import flipcall
import flipcall.asyncio
from flipcall.asyncio.interceptor import ClientInterceptor, ClientProceed, ServerProceed
from flipcall.calllog import log_calls
from flipcall.interceptor import ClientCall, ServerCall
from flipcall.metadata import forward
from flipcall.retry import Retry


class Rates(flipcall.Service):
    """A contract for a loop."""

    async def convert(self, amount: float, *, to: str = "EUR") -> float: ...
    async def total(self, amounts: AsyncIterator[float]) -> float: ...
    def ticks(self, symbol: str) -> AsyncIterator[float]: ...
    async def chart(self, symbol: str) -> bytes: ...
    async def load(self, data: bytes) -> int: ...


class RatesServer(Rates):
    """An implementation."""

    async def chart(self, symbol: str) -> bytes:
        return symbol.encode()

    async def load(self, data: bytes) -> int:
        return len(data)

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


async def sign(call: ClientCall, proceed: ClientProceed) -> object:
    """A client's interceptor."""
    call.metadata["user"] = call.method
    return await proceed(call)


async def check(call: ServerCall, proceed: ServerProceed) -> object:
    """A server's."""
    if call.metadata.get("user") is None:
        raise flipcall.CallError(flipcall.Status.UNAUTHENTICATED, call.service)
    return await proceed(call)


async def watched() -> None:
    """Interceptors."""
    interceptors: list[ClientInterceptor] = [sign, log_calls(), Retry({"convert"}), forward("user")]
    async with (
        flipcall.asyncio.Server(RatesServer(), "s", interceptors=[check, log_calls()]) as server,
        flipcall.asyncio.connect(Rates, "s", interceptors=interceptors) as rates,
    ):
        server.health.set("Rates", False)
        print(await rates.convert(1.0), server.statistics().uptime_s)


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
        async with flipcall.asyncio.view(rates.chart, "EUR") as seen:
            print(await rates.load(flipcall.filled(3, io.BytesIO(seen).readinto)))
            print(seen.nbytes + await flipcall.asyncio.into(bytearray(9), rates.chart, symbol="EUR"))
    own: Rates = await flipcall.asyncio.connect(Rates, "s")
    own.close()
    await flipcall.asyncio.serve(RatesServer(), "s")
