"""How the commands log: as text for people, or as one JSON object a line for machines.

In JSON a record that was made in a task says which: its id, name, attempt and
worker, in whatever thread or loop of a lane it was made. Whatever is logged, a
record stays one line, and that line stays JSON.
"""

from __future__ import annotations

import json
import logging
import math
import re
import sys
import threading
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final, NamedTuple

from fastworker import _instruments
from fastworker._lanes._context import current_attempt

TEXT: Final = "text"
JSON: Final = "json"
TEXT_FORMAT: Final = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"

# Deeper and longer than that is no field of a log record any more.
_MAX_DEPTH: Final = 5
_MAX_ITEMS: Final = 1000
_SURROGATES: Final = re.compile("[\ud800-\udfff]")
# What every record has; all else in it is extra.
_USUAL: Final = frozenset(
    {*vars(logging.LogRecord("", 0, "", 0, "", (), None)), "message", "asctime", "taskName"}
)


class LogSetup(NamedTuple):
    """What this process was told, for the processes that it starts."""

    level: str
    format: str


# None in a program that has its own set-up, with which we do not interfere.
chosen: LogSetup | None = None
# Of the worker that this process is, for records that belong to no task.
worker_id = ""


def set_up(level: str, format: str) -> None:
    """Log to stderr from a level on, unless the program has set that up itself."""
    global chosen
    chosen = LogSetup(level, format)
    # A reader of our stderr that is gone is no reason to stop working.
    logging.raiseExceptions = False
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if format == JSON else logging.Formatter(TEXT_FORMAT))
    logging.basicConfig(level=level, handlers=[handler])
    if format == JSON:
        logging.captureWarnings(True)
        sys.excepthook = _log_exception
        threading.excepthook = _log_thread_exception


def is_json() -> bool:
    """Whether what a command says on stderr has to be JSON."""
    return chosen is not None and chosen.format == JSON


def say(message: str, level: int = logging.INFO, error: BaseException | None = None) -> None:
    """Write a record to stderr whatever the level of the log is: it is for the user."""
    exc_info = None if error is None else (type(error), error, error.__traceback__)
    name = "fastworker.cli"
    record = logging.LogRecord(name, level, __file__, 0, message, None, exc_info)
    line = JsonFormatter().format(record)
    try:
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()
    except (OSError, ValueError):
        pass  # nobody reads it any more


class JsonFormatter(logging.Formatter):
    """Makes one line of JSON of a record."""

    def format(self, record: logging.LogRecord) -> str:
        """Never raises, whatever was logged."""
        cleaned = {
            _text(str(name)): _clean(value, _MAX_DEPTH)
            for name, value in self._fields(record).items()
        }
        # ASCII: a terminal, or whoever reads, may speak another encoding.
        return json.dumps(cleaned, ensure_ascii=True, allow_nan=False)

    def _fields(self, record: logging.LogRecord) -> dict[str, Any]:
        fields: dict[str, Any] = {
            "timestamp": _timestamp(record.created),
            "level": record.levelname,
            "logger": record.name,
            "message": _message(record),
        }
        fields |= _about_task()
        if worker_id:
            fields.setdefault("worker_id", worker_id)
        if record.exc_info and record.exc_info[0] is not None:
            fields["exception"] = self._exception(record)
        elif record.exc_text:
            fields["exception"] = record.exc_text
        if record.stack_info:
            fields["stack"] = record.stack_info
        for name, value in list(vars(record).items()):
            if name not in _USUAL:
                # Ours says where it came from; only ids are better known by who logs.
                is_free = name not in fields or name in _IDS
                fields[name if is_free else f"extra_{name}"] = value
        return fields

    def _exception(self, record: logging.LogRecord) -> str:
        assert record.exc_info
        try:
            return self.formatException(record.exc_info)
        except Exception:  # noqa: BLE001 - __str__ may raise anything
            kind = record.exc_info[0]
            return f"<{getattr(kind, '__name__', 'error')} that cannot be shown>"


_IDS: Final = frozenset({"task_id", "task_name", "attempt", "worker_id"})


def _about_task() -> dict[str, Any]:
    fields: dict[str, Any] = {}
    current = current_attempt.get()
    if current is not None:
        attempt = current.attempt
        fields = {
            "task_id": attempt.key.task_id,
            "task_name": attempt.name,
            "attempt": attempt.number,
            "worker_id": attempt.worker_id,
        }
    if _instruments.current is not None:
        place = _instruments.current.place()
        if place is not None:
            fields["trace_id"], fields["span_id"] = place
    return fields


def _timestamp(created: float) -> str:
    try:
        moment = datetime.fromtimestamp(created, UTC)
    except (OverflowError, OSError, ValueError):
        moment = datetime.now(UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # noqa: BLE001 - __str__ may raise anything
        return f"{_shown(record.msg)} % {_shown(record.args)}"


def _clean(value: Any, depth: int) -> Any:
    """What JSON can say of a value; it is what was logged, so it may be anything."""
    if value is None or value is True or value is False:
        return value
    kind = type(value)
    if kind is str:
        return _text(value)
    if kind is int and value.bit_length() <= 64:
        return value
    if kind is float:
        return value if math.isfinite(value) else repr(value)
    if depth and kind is dict and len(value) <= _MAX_ITEMS:
        items = list(value.items())
        return {_shown(key): _clean(each, depth - 1) for key, each in items}
    if depth and kind in (list, tuple, set, frozenset) and len(value) <= _MAX_ITEMS:
        return [_clean(each, depth - 1) for each in list(value)]
    return _shown(value)


def _shown(value: Any) -> str:
    """A text for anything, even if it refuses."""
    try:
        return _text(str(value))
    except Exception:  # noqa: BLE001 - __str__ may raise anything
        return f"<{type(value).__name__} that cannot be shown>"


def _text(text: str) -> str:
    # Half of a surrogate pair is a character for Python, and for no encoding.
    return _SURROGATES.sub("\ufffd", text)


def _log_exception(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    say(f"{kind.__name__}: {_shown(error)}", logging.CRITICAL, error)


def _log_thread_exception(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is not None and not issubclass(args.exc_type, SystemExit):
        name = args.thread.name if args.thread is not None else "?"
        message = f"thread {name}: {args.exc_type.__name__}: {_shown(args.exc_value)}"
        say(message, logging.ERROR, args.exc_value)
