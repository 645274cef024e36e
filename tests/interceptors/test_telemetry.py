"""OpenTelemetry and Prometheus see what happened, through their own exporters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

import flipcall
from flipcall import otel
from flipcall.prometheus import ServerCollector
from flipcall.prometheus import client as prometheus_client
from flipcall.stats import Statistics
from tests.interceptors.conftest import Told, ToldServer

Serve = Callable[..., Any]


def test_spans_and_durations(serve: Serve, connect: Callable[..., Any]) -> None:
    """A span a side, one the child of the other, over the wire; a duration a side; failures by the conventions."""
    exporter, reader = InMemorySpanExporter(), InMemoryMetricReader()
    tracers, meters = TracerProvider(), MeterProvider([reader])
    tracers.add_span_processor(SimpleSpanProcessor(exporter))
    serve(ToldServer(), interceptors=[otel.server(tracers, meters)])
    client = connect(Told, interceptors=[otel.client(tracers, meters)])
    assert client.add(1) == 3
    for how, error in (("value", ValueError), ("internal", flipcall.CallError)):
        with pytest.raises(error):
            client.fail(how)

    spans = {(s.kind, s.attributes["rpc.response.status_code"]): s for s in exporter.get_finished_spans()}
    assert len(spans) == 6
    for status, servers_doing in (("OK", False), ("INVALID_ARGUMENT", False), ("INTERNAL", True)):
        inner, outer = spans[SpanKind.SERVER, status], spans[SpanKind.CLIENT, status]
        assert inner.parent.span_id == outer.context.span_id
        assert inner.context.trace_id == outer.context.trace_id
        assert inner.parent.is_remote
        assert inner.name == outer.name == ("Told/add" if status == "OK" else "Told/fail")
        assert inner.attributes["rpc.system.name"] == "flipcall"
        assert ("error.type" in outer.attributes) == (status != "OK") == (not outer.status.is_unset)
        assert ("error.type" in inner.attributes) == servers_doing == bool(inner.events)

    (resource,) = reader.get_metrics_data().resource_metrics
    metrics = {m.name: m for scope in resource.scope_metrics for m in scope.metrics}
    assert set(metrics) == {"rpc.client.call.duration", "rpc.server.call.duration"}
    for metric in metrics.values():
        assert metric.unit == "s"
        points = {p.attributes["rpc.response.status_code"]: p for p in metric.data.data_points}
        assert {status: p.count for status, p in points.items()} == {
            "OK": 1,
            "INVALID_ARGUMENT": 1,
            "INTERNAL": 1,
        }
        assert points["OK"].explicit_bounds[0] == 1e-6


def samples(registry: CollectorRegistry) -> dict[tuple[str, frozenset[str]], float]:
    """What a scraper would read: name and the values of the labels."""
    text = generate_latest(registry).decode()
    return {
        (s.name, frozenset(s.labels.values())): s.value
        for family in text_string_to_metric_families(text)
        for s in family.samples
    }


@pytest.mark.parametrize("where", ["here", "there"])
def test_a_servers_statistics(serve: Serve, connect: Callable[..., Any], where: str) -> None:
    """What the server counts anyway, of a server in this process or of another."""
    registry = CollectorRegistry()
    server = serve(ToldServer())
    ServerCollector(server if where == "here" else connect(Statistics).read, registry)
    client = connect(Told)
    for i in range(5):
        client.add(i)
    with pytest.raises(ValueError, match="no"):
        client.fail("value")
    found = samples(registry)
    assert found["flipcall_server_calls_total", frozenset({"Told", "add"})] == 5
    assert found["flipcall_server_errors_total", frozenset({"Told", "fail"})] == 1
    assert found["flipcall_server_call_seconds_count", frozenset({"Told", "add"})] == 5
    assert found["flipcall_server_call_seconds_bucket", frozenset({"Told", "add", "+Inf"})] == 5
    assert found["flipcall_server_call_seconds_sum", frozenset({"Told", "add"})] > 0
    buckets = [v for (name, labels), v in found.items() if name.endswith("_bucket") and "add" in labels]
    assert buckets == sorted(buckets)
    assert sum(v for (name, _), v in found.items() if name == "flipcall_server_channels") == 1


def test_a_clients_calls(serve: Serve, connect: Callable[..., Any]) -> None:
    """By method and by what came of them."""
    registry = CollectorRegistry()
    serve(ToldServer())
    client = connect(Told, interceptors=[prometheus_client(registry)])
    client.add(1)
    client.add(2)
    with pytest.raises(ValueError, match="no"):
        client.fail("value")
    found = samples(registry)
    assert found["flipcall_client_call_seconds_count", frozenset({"Told", "add", "OK"})] == 2
    assert found["flipcall_client_call_seconds_count", frozenset({"Told", "fail", "INVALID_ARGUMENT"})] == 1
