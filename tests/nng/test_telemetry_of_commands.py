"""``--otel`` and ``--log-format json`` with real processes: what comes out on stderr."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.nng.shell import Plane, Shell, open_shell, wait_until

pytestmark = [pytest.mark.nng, pytest.mark.slow]

TASKS = """
import logging
from fastworker import task

log = logging.getLogger("app")

@task
def in_thread():
    log.info("two\\nlines", extra={"order": 7})

@task(isolation="process")
def in_process():
    log.info("apart")
    from opentelemetry import trace
    with trace.get_tracer("app").start_as_current_span("inside"):
        pass
"""


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    (tmp_path / "mytasks.py").write_text(TASKS)
    with open_shell(tmp_path) as shell:
        shell.environ["OTEL_TRACES_EXPORTER"] = "console"
        shell.environ["OTEL_METRICS_EXPORTER"] = "none"
        yield shell


def objects(text: str) -> list[dict[str, Any]]:
    """Each line as an object: log records have a level, spans a name."""
    return [json.loads(line) for line in text.splitlines()]


def test_all_processes_of_a_control_plane_log_in_json_and_send_their_spans(
    shell: Shell,
) -> None:
    plane = Plane(
        shell, "--task-modules=mytasks", "--store=memory", "--log-format=json", "--otel",
        says='"run_by"',
    )  # fmt: skip
    first = plane.submit("in_thread", "--otel")
    assert first.returncode == 0, first.stderr
    assert plane.submit("in_process").returncode == 0
    wait_until(lambda: "process in_process" in plane.command.stderr, "its span")
    plane.command.process.terminate()
    assert plane.command.wait() == 0

    lines = objects(plane.command.stderr)
    records = {line["message"]: line for line in lines if "level" in line}
    assert records["two\nlines"]["task_name"] == "in_thread"
    assert records["two\nlines"]["order"] == 7
    assert records["apart"]["task_name"] == "in_process"
    assert records["apart"]["worker_id"] == "control-plane-1"
    assert records["apart"]["attempt"] == 1

    spans = {line["name"]: line for line in lines if "kind" in line}
    (sent,) = objects(first.stderr)
    assert sent["name"] == "send in_thread"
    assert spans["process in_thread"]["parent_id"] == sent["context"]["span_id"]
    assert spans["inside"]["parent_id"] == spans["process in_process"]["context"]["span_id"]
    trace_id = spans["inside"]["context"]["trace_id"].removeprefix("0x")
    assert records["apart"]["trace_id"] == trace_id
