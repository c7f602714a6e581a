"""``--otel`` as users have it: OTLP to a collector, which may not be there."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from fastworker.telemetry._sdk import SHUTDOWN_SECONDS
from tests.ports import free_port

pytestmark = pytest.mark.slow

PROGRAM = """
import sys, trio
from fastworker import local, task, telemetry

@task
def add(x, y): return x + y

async def main():
    async with local() as client:
        assert (await client.submit_task("add", (1, 2))).result == 3

telemetry.instrument_from_environment()
telemetry.instrument_from_environment()  # is there already
trio.run(main)
print("done", flush=True)
"""


class Collector:
    """Takes whatever is sent."""

    def __init__(self) -> None:
        self.received: dict[str, list[bytes]] = {}
        received = self.received

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                received.setdefault(self.path, []).append(body)
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", free_port()), Handler)
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    thread = threading.Thread(target=collector.server.serve_forever)
    thread.start()
    try:
        yield collector
    finally:
        collector.server.shutdown()
        collector.server.server_close()
        thread.join()


def start(endpoint: str, **variables: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        env=os.environ | {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint} | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_collector_gets_spans_and_metrics_at_the_latest_at_the_end(
    collector: Collector,
) -> None:
    with start(collector.endpoint) as process:
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 0, stderr
    assert stderr == ""
    traces = [ExportTraceServiceRequest.FromString(b) for b in collector.received["/v1/traces"]]
    resources = [resource for trace in traces for resource in trace.resource_spans]
    names = {
        span.name
        for resource in resources
        for scope in resource.scope_spans
        for span in scope.spans
    }
    assert names == {"send add", "wait add", "process add"}
    service = {a.key: a.value.string_value for a in resources[0].resource.attributes}
    assert service["service.name"] == "fastworker"
    bodies = collector.received["/v1/metrics"]
    metrics = [ExportMetricsServiceRequest.FromString(body) for body in bodies]
    found = {
        metric.name
        for request in metrics
        for resource in request.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }
    assert "messaging.process.duration" in found
    assert "fastworker.task.ended" in found


def test_the_name_of_the_service_is_what_the_variable_says(collector: Collector) -> None:
    with start(
        collector.endpoint, OTEL_SERVICE_NAME="shop", OTEL_METRICS_EXPORTER="none"
    ) as process:
        process.communicate(timeout=60)
    (body, *_) = collector.received["/v1/traces"]
    (resource, *_) = ExportTraceServiceRequest.FromString(body).resource_spans
    service = {a.key: a.value.string_value for a in resource.resource.attributes}
    assert service["service.name"] == "shop"
    assert "/v1/metrics" not in collector.received


def test_a_collector_that_is_away_keeps_no_process_from_its_end() -> None:
    with start(f"http://127.0.0.1:{free_port()}") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "done\n"
        told = time.monotonic()
        process.communicate(timeout=60)
    assert process.returncode == 0
    # Its exporters would go on for ten seconds each; the rest is for a slow machine.
    assert time.monotonic() - told < SHUTDOWN_SECONDS + 6
