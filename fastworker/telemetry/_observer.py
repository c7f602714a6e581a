"""Makes spans and metrics of what submitting and running tasks report.

Spans are named, and have the attributes, that OpenTelemetry's semantic
conventions give to messaging systems, as far as those fit
(opentelemetry.io/docs/specs/semconv/messaging/messaging-spans): a task is a
message, its function the destination, and its id the message's.

    send NAME      PRODUCER  the submit, in the caller's context
    └ wait NAME    INTERNAL  from the submit to the first attempt
    └ process NAME CONSUMER  each attempt; a later one has a link to the one before
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable
from typing import Final, ParamSpec

from opentelemetry import context as contexts
from opentelemetry import metrics, trace
from opentelemetry.context import Context
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, TracerProvider

from fastworker._instruments import AttemptEnd, AttemptFacts
from fastworker.telemetry._carrier import context_of, link_to, span_to_text, to_context, to_text
from fastworker.telemetry._metrics import Metrics

_logger = logging.getLogger("fastworker.telemetry")

P = ParamSpec("P")
Attributes = dict[str, str | int]

SCOPE: Final = "fastworker"
# As ``_core/_attempts.py`` numbers them.
_OUTCOMES: Final = ("succeeded", "failed", "cancelled", "expired")
_SUCCEEDED, _FAILED, _CANCELLED = 0, 1, 2
# Those for which nobody has asked, and nobody is to be paged.
_FAULTLESS: Final = frozenset({"succeeded", "cancelled", "interrupted"})


def quietly(method: Callable[P, None]) -> Callable[P, None]:
    """Have a method not raise: tasks go on, whatever becomes of their telemetry."""

    @functools.wraps(method)
    def call(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            method(*args, **kwargs)
        except Exception:
            _logger.debug("telemetry failed", exc_info=True)

    return call


class _Sending:
    """A submit that is under way."""

    def __init__(self, observer: Observer, name: str) -> None:
        self.trace = ""
        self._observer = observer
        self._attributes = _common("send", name)
        self._began = time.perf_counter()
        self._span: Span = trace.INVALID_SPAN

    @quietly
    def begin(self, name: str, task_id: str, priority: int, size: int) -> None:
        attributes: Attributes = {
            **self._attributes,
            "messaging.operation.type": "send",
            "messaging.message.id": task_id,
            "messaging.message.body.size": size,
            "fastworker.task.priority": priority,
        }
        around = contexts.get_current()
        self._span = self._observer.tracer.start_span(
            f"send {name}", around, SpanKind.PRODUCER, attributes
        )
        self.trace = to_text(context_of(self._span, around))

    @quietly
    def end(self, error: BaseException | None) -> None:
        if error is not None:
            kind = type(error).__qualname__
            self._attributes["error.type"] = kind
            self._span.set_attribute("error.type", kind)
            if isinstance(error, Exception):
                self._span.record_exception(error)
                self._span.set_status(Status(StatusCode.ERROR, f"{kind}: {error}"))
        self._span.end()
        seconds = time.perf_counter() - self._began
        self._observer.metrics.sent.add(1, self._attributes)
        self._observer.metrics.sending.record(seconds, self._attributes)


class _Running:
    """An attempt that runs."""

    def __init__(self, observer: Observer, facts: AttemptFacts) -> None:
        self.span = ""
        self.why = ""  # what it is called if it ends as cancelled
        self._observer = observer
        self._facts = facts
        self._common = _common("process", facts.name)
        self._context = Context()
        self._span: Span = trace.INVALID_SPAN

    @quietly
    def begin(self, wall: float) -> None:
        facts, observer = self._facts, self._observer
        parent = to_context(facts.trace)
        attributes: Attributes = {
            **self._common,
            "messaging.operation.type": "process",
            "messaging.message.id": facts.key[0],
            "messaging.message.body.size": facts.size,
            "fastworker.task.priority": facts.priority,
            "fastworker.task.attempt": facts.number,
            "fastworker.worker.id": facts.worker_id,
            "fastworker.lane": facts.lane,
        }
        if facts.number == 1 and not facts.earlier:
            waited = self._note_wait(parent, wall)
            if not trace.get_current_span(parent).get_span_context().is_valid:
                # Nobody traces where it was submitted: one trace all the same.
                parent = context_of(waited, parent)
        link = link_to(facts.earlier)
        self._span = observer.tracer.start_span(
            f"process {facts.name}",
            parent,
            SpanKind.CONSUMER,
            attributes,
            links=None if link is None else [link],
            start_time=_nanoseconds(wall),
        )
        self._context = context_of(self._span, parent)
        self.span = span_to_text(self._span.get_span_context())
        observer.metrics.started.add(1, self._common)
        observer.metrics.running.add(1, self._common)

    @property
    def trace(self) -> str:
        # Only the process lane asks.
        try:
            return to_text(self._context)
        except Exception:
            _logger.debug("telemetry failed", exc_info=True)
            return ""

    def _note_wait(self, parent: Context, wall: float) -> Span:
        # Two machines' clocks: never before the submit.
        created = min(self._facts.created or wall, wall)
        name = self._facts.name
        attributes: Attributes = {
            **_common("wait", name),
            "messaging.message.id": self._facts.key[0],
            "fastworker.task.priority": self._facts.priority,
        }
        span = self._observer.tracer.start_span(
            f"wait {name}", parent, attributes=attributes, start_time=_nanoseconds(created)
        )
        span.end(_nanoseconds(wall))
        self._observer.metrics.waiting.record(wall - created, _common("wait", name))
        return span

    @quietly
    def enter(self) -> None:
        contexts.attach(self._context)

    @quietly
    def end(self, end: AttemptEnd) -> None:
        # Whoever takes it out of there ends it, in whatever thread.
        if self._observer.running.pop(self._facts.key, None) is None:
            return
        outcome = _OUTCOMES[end.kind]
        if end.kind == _CANCELLED and self.why:
            outcome = self.why
        self._end(outcome, end.error, end.traceback, end.wall, end.seconds, end.signal)

    @quietly
    def abandon(self) -> None:
        if self._observer.running.pop(self._facts.key, None) is not None:
            error = "abandoned: it did not stop in its grace and may still be running"
            self._end("abandoned", error, "", 0.0, None, 0)

    def _end(
        self,
        outcome: str,
        error: str,
        traceback: str,
        wall: float,
        seconds: float | None,
        signal: int,
    ) -> None:
        span = self._span
        span.set_attribute("fastworker.task.outcome", outcome)
        attributes = {**self._common, "fastworker.task.outcome": outcome}
        if signal:
            span.set_attribute("fastworker.task.signal", signal)
        if outcome not in _FAULTLESS:
            kind = outcome
            if outcome == "failed":
                kind, message = _kind_and_message(error)
                details = {"exception.type": kind, "exception.message": message}
                if traceback:
                    details["exception.stacktrace"] = traceback
                span.add_event("exception", details)
            attributes["error.type"] = kind
            span.set_attribute("error.type", kind)
            said = "it ran longer than it may" if outcome == "timed_out" else error
            span.set_status(Status(StatusCode.ERROR, said))
        span.end(_nanoseconds(wall) if wall else None)
        counted = self._observer.metrics
        counted.running.add(-1, self._common)
        counted.ended.add(1, attributes)
        if seconds is not None:
            counted.processing.record(seconds, attributes)


class Observer:
    """See ``_instruments.Instruments``.

    Args:
      tracer_provider, meter_provider: None for the global ones.
      is_from_environment: whether task processes are to set theirs up alike.
    """

    def __init__(
        self,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        *,
        is_from_environment: bool = False,
    ) -> None:
        self.is_from_environment = is_from_environment
        self.tracer = trace.get_tracer(SCOPE, tracer_provider=tracer_provider)
        self.metrics = Metrics(metrics.get_meter(SCOPE, meter_provider=meter_provider))
        self.running: dict[tuple[str, int, int], _Running] = {}

    def sending(self, name: str, task_id: str, priority: int, size: int) -> _Sending:
        sending = _Sending(self, name)
        sending.begin(name, task_id, priority, size)
        return sending

    def starting(self, facts: AttemptFacts, wall: float) -> _Running:
        running = self.running[facts.key] = _Running(self, facts)
        running.begin(wall)
        return running

    def stopping(self, key: tuple[str, int, int], why: str) -> None:
        running = self.running.get(key)
        if running is not None:
            running.why = why

    def abandoned(self, key: tuple[str, int, int]) -> None:
        running = self.running.get(key)
        if running is not None:
            running.abandon()

    @quietly
    def enter(self, trace: str) -> None:
        contexts.attach(to_context(trace))

    def place(self) -> tuple[str, str] | None:
        span = trace.get_current_span().get_span_context()
        if not span.is_valid:
            return None
        return trace.format_trace_id(span.trace_id), trace.format_span_id(span.span_id)


def _common(operation: str, name: str) -> Attributes:
    return {
        "messaging.system": "fastworker",
        "messaging.operation.name": operation,
        "messaging.destination.name": name,
    }


def _kind_and_message(error: str) -> tuple[str, str]:
    """Take an error line apart: ``ValueError: no luck``."""
    kind, colon, message = error.partition(": ")
    if colon and kind.replace(".", "_").isidentifier():
        return kind, message
    return (error, "") if error.isidentifier() else ("Error", error)


def _nanoseconds(wall: float) -> int:
    return int(wall * 1e9)
