"""OpenTelemetry: spans and durations of calls, by its semantic conventions for RPC. Needs flipcall[otel].

    connect(Geo, path, interceptors=[otel.client()])
    Server(GeoServer(), path, interceptors=[otel.server()])

The trace goes along in the call's metadata (traceparent, or what the propagator that is set writes): a server's
span is a child of its caller's. Spans are named Service/method; durations are the histograms
rpc.client.call.duration and rpc.server.call.duration, in seconds, with bounds that begin at a microsecond. Of a
streaming method both end with its iterator; closing that early is no failure.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from opentelemetry import metrics, propagate, trace
from opentelemetry.metrics import Histogram, MeterProvider
from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer, TracerProvider

from .failure import status_of
from .interceptor import ClientCall, Observer, ServerCall
from .status import Status

SYSTEM = "flipcall"
BOUNDS = [s * 10.0**e for e in range(-6, 1) for s in (1, 2.5, 5)] + [10.0]

# A server's span has failed when it is the server's doing, as the conventions say for gRPC.
_SERVERS_DOING = {
    Status.UNKNOWN,
    Status.DEADLINE_EXCEEDED,
    Status.UNIMPLEMENTED,
    Status.INTERNAL,
    Status.UNAVAILABLE,
    Status.DATA_LOSS,
}


def client(
    tracer_provider: TracerProvider | None = None, meter_provider: MeterProvider | None = None
) -> Observer:
    """An interceptor of clients of either kind; the global providers by default. Put it after Retry to see each
    attempt.
    """
    tracer, duration = _instruments(tracer_provider, meter_provider, "client", "outgoing")

    @contextmanager
    def traced(call: ClientCall) -> Iterator[None]:
        attributes = _attributes(call)
        with tracer.start_as_current_span(
            attributes["rpc.method"],
            kind=SpanKind.CLIENT,
            attributes=attributes,
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            propagate.inject(call.metadata)
            with _observed(span, duration, attributes, lambda status: True):
                yield

    return Observer(traced)


def server(
    tracer_provider: TracerProvider | None = None, meter_provider: MeterProvider | None = None
) -> Observer:
    """An interceptor of servers of either kind; the global providers by default."""
    tracer, duration = _instruments(tracer_provider, meter_provider, "server", "inbound")

    @contextmanager
    def traced(call: ServerCall) -> Iterator[None]:
        attributes = _attributes(call)
        with (
            tracer.start_as_current_span(
                attributes["rpc.method"],
                context=propagate.extract(call.metadata),
                kind=SpanKind.SERVER,
                attributes=attributes,
                record_exception=False,
                set_status_on_exception=False,
            ) as span,
            _observed(span, duration, attributes, lambda status: status in _SERVERS_DOING),
        ):
            yield

    return Observer(traced)


def _instruments(
    tracer_provider: TracerProvider | None, meter_provider: MeterProvider | None, side: str, which: str
) -> tuple[Tracer, Histogram]:
    meter = metrics.get_meter("flipcall", meter_provider=meter_provider)
    duration = meter.create_histogram(
        f"rpc.{side}.call.duration",
        unit="s",
        description=f"Measures the duration of an {which} Remote Procedure Call (RPC).",
        explicit_bucket_boundaries_advisory=BOUNDS,
    )
    return trace.get_tracer("flipcall", tracer_provider=tracer_provider), duration


def _attributes(call: ClientCall | ServerCall) -> dict[str, str]:
    return {"rpc.system.name": SYSTEM, "rpc.method": f"{call.service}/{call.method}"}


@contextmanager
def _observed(
    span: Span, duration: Histogram, attributes: dict[str, str], failed: Callable[[Status], bool]
) -> Iterator[None]:
    """What comes of a call, told to the span and counted."""
    outcome = {"rpc.response.status_code": Status.OK.name}
    started = time.perf_counter()
    try:
        yield
    except BaseException as e:
        status = status_of(e)
        outcome["rpc.response.status_code"] = status.name
        if failed(status):
            outcome["error.type"] = status.name
            span.record_exception(e)
            span.set_status(StatusCode.ERROR, str(e))
        raise
    finally:
        span.set_attributes(outcome)
        duration.record(time.perf_counter() - started, {**attributes, **outcome})
