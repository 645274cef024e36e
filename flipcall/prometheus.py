"""Prometheus: what calls cost, for its scraper. Needs flipcall[prometheus].

A server counts its calls anyway, in the C core: ServerCollector only reads that, and costs a call nothing.

    server = flipcall.Server(GeoServer(), path)
    ServerCollector(server)                     # registered, until unregistered
    connect(Geo, path, interceptors=[client()])

flipcall_server_calls_total, _errors_total, _bytes_in_total, _bytes_out_total and the histogram _call_seconds
have labels service and method, flipcall_server_channels has service and doing. The client's histogram
flipcall_client_call_seconds has service, method and code.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

from prometheus_client import Histogram
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import REGISTRY, Collector, CollectorRegistry

from .failure import status_of
from .interceptor import ClientCall, Observer
from .meter import BUCKETS, Counts, bucket_start_ns
from .stats import ServerStats
from .status import Status

BOUNDS = [s * 10.0**e for e in range(-6, 1) for s in (1, 2.5, 5)] + [10.0]
_WIDE = range(5, BUCKETS, 4)  # every fourth bucket of a meter: powers of two, from 512 ns on


@runtime_checkable
class Counted(Protocol):
    """A server of either kind."""

    def statistics(self) -> ServerStats:
        """What it has counted."""
        ...


class ServerCollector(Collector):
    """The statistics of a server in this process, or of any that `read` tells of: Statistics(...).read."""

    def __init__(
        self, server: Counted | Callable[[], ServerStats], registry: CollectorRegistry | None = REGISTRY
    ) -> None:
        """registry: where to register; None for nowhere."""
        self._read = server.statistics if isinstance(server, Counted) else server
        if registry is not None:
            registry.register(self)

    def collect(self) -> Iterable[Metric]:
        stats = self._read()
        labels = ["service", "method"]
        counters = {
            name: CounterMetricFamily(f"flipcall_server_{name}", about, labels=labels)
            for name, about in (
                ("calls", "Calls answered."),
                ("errors", "Calls answered with a status other than OK."),
                ("bytes_in", "Bytes of requests, headers included."),
                ("bytes_out", "Bytes of answers, headers included."),
            )
        }
        times = HistogramMetricFamily(
            "flipcall_server_call_seconds", "From a request's coming to its answer's going.", labels=labels
        )
        for method in stats.methods:
            values = [stats.service, method.name]
            for name, family in counters.items():
                family.add_metric(values, getattr(method.counts, name))
            times.add_metric(values, _buckets(method.counts), method.counts.total_ns / 1e9)
        channels = GaugeMetricFamily(
            "flipcall_server_channels", "Channels there are.", labels=["service", "doing"]
        )
        for doing in ("serving", "spinning", "parked"):
            channels.add_metric([stats.service, doing], sum(c.doing == doing for c in stats.channels))
        return [*counters.values(), times, channels]

    def describe(self) -> Iterable[Metric]:
        return []  # what there is only collect() knows


def _buckets(counts: Counts) -> list[tuple[str, float]]:
    """Cumulative counts by upper bound, seconds."""
    found = [(repr(bucket_start_ns(wide) / 1e9), float(sum(counts.buckets[:wide]))) for wide in _WIDE]
    return [*found, ("+Inf", float(counts.calls))]


def client(registry: CollectorRegistry | None = REGISTRY) -> Observer:
    """An interceptor of clients of either kind. One a registry: a second one would have the same name."""
    seconds = Histogram(
        "flipcall_client_call_seconds",
        "From a call to its result.",
        ["service", "method", "code"],
        buckets=BOUNDS,
        registry=registry,
    )

    @contextmanager
    def timed(call: ClientCall) -> Iterator[None]:
        code, started = Status.OK, time.perf_counter()
        try:
            yield
        except BaseException as e:
            code = status_of(e)
            raise
        finally:
            took = time.perf_counter() - started
            seconds.labels(call.service, call.method, code.name).observe(took)

    return Observer(timed)
