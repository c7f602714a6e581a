"""The place in a trace as a text that travels with a task, and back.

It is what the program's propagators write into HTTP headers (W3C traceparent,
tracestate and baggage, unless OTEL_PROPAGATORS says otherwise), a line each.
From the wire it may be anything: what does not parse is no trace.
"""

from __future__ import annotations

import re
from typing import Final

from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, SpanContext, TraceFlags

# ``MAX_TRACE_CHARACTERS`` of the wire, which this layer does not know.
MAX_CHARACTERS: Final = 1024
# What says where it belongs; the rest is left out if all is too long.
_FIRST: Final = ("traceparent", "tracestate")
_SPAN: Final = re.compile("00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")


def to_text(context: Context | None = None) -> str:
    """Write a context down, by default the current one; bounded, and ASCII."""
    headers: dict[str, str] = {}
    propagate.inject(headers, context)
    text = ""
    # A large baggage is left out; never the place in the trace for its sake.
    for name in sorted(headers, key=_rank):
        line = f"{name}:{headers[name]}\n"
        if line.isascii() and line.count("\n") == 1 and len(text + line) <= MAX_CHARACTERS:
            text += line
    return text


def to_context(text: str) -> Context:
    """Read a context; what is not there, or makes no sense, is empty in it."""
    headers: dict[str, str] = {}
    if text.isascii():
        for line in text[:MAX_CHARACTERS].splitlines():
            name, _, value = line.partition(":")
            headers.setdefault(name.lower(), value)
    return propagate.extract(headers, Context())


def span_to_text(span: SpanContext) -> str:
    """Name a span, as W3C's traceparent does."""
    if not span.is_valid:
        return ""
    return f"00-{span.trace_id:032x}-{span.span_id:016x}-{span.trace_flags:02x}"


def link_to(text: str) -> Link | None:
    """Give a link to a span that was named so; None if that is no name of one."""
    found = _SPAN.fullmatch(text)
    if found is None:
        return None
    trace_id, span_id, flags = (int(part, 16) for part in found.groups())
    span = SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(flags))
    return Link(span) if span.is_valid else None


def context_of(span: trace.Span, beside: Context) -> Context:
    """The context of what happens in a span, with what else is in another one."""
    return trace.set_span_in_context(span, beside)


def _rank(name: str) -> tuple[int, str]:
    return (_FIRST.index(name) if name in _FIRST else len(_FIRST), name)
