"""Task functions for the process lane, which imports them in another process."""

from __future__ import annotations

import logging
import os
import signal

import trio
from opentelemetry import baggage, trace

from fastworker import task
from fastworker._logs import JsonFormatter


def here() -> list[str]:
    """The ids of the trace and of the span that this code is in, and the tenant."""
    span = trace.get_current_span().get_span_context()
    return [
        trace.format_trace_id(span.trace_id),
        trace.format_span_id(span.span_id),
        str(baggage.get_baggage("tenant")),
    ]


def a_line() -> str:
    """A log record of this code, as a line."""
    return JsonFormatter().format(logging.makeLogRecord({"msg": "hello"}))


@task(isolation="process")
def process_here() -> list[str]:
    return here()


@task(isolation="process")
async def process_here_in_trio() -> list[str]:
    return await trio.to_thread.run_sync(here)


@task(isolation="process")
def process_line() -> str:
    return a_line()


@task(isolation="process")
def process_kill_oneself() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


@task(isolation="process")
def process_mishap() -> None:
    raise ValueError("no luck")
