"""One log record, one line, one JSON object: whatever is logged."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastworker import _logs
from fastworker._logs import JsonFormatter
from fastworker.cli._errors import Exit


@pytest.fixture(autouse=True)
def _no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands that other tests have run in this process were some."""
    monkeypatch.setattr(_logs, "worker_id", "")


def formatted(message: Any = "hello", *args: Any, **fields: Any) -> dict[str, Any]:
    """A record as its line says it; a line that is no strict JSON fails."""
    record = logging.makeLogRecord(
        {"name": "app", "levelname": "INFO", "msg": message, "args": args, "created": 1e9}
        | fields
    )
    line = JsonFormatter().format(record)
    assert len(line.splitlines()) == 1
    assert line.isascii(), "it may go where another encoding is spoken"

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    found = json.loads(line, parse_constant=refuse)
    assert isinstance(found, dict)
    return found


class Hostile:
    def __str__(self) -> str:
        raise RuntimeError("never")

    __repr__ = __str__


def test_a_record_has_its_time_level_logger_and_message() -> None:
    assert formatted("%s and %d", "one", 2) == {
        "timestamp": "2001-09-09T01:46:40.000Z",
        "level": "INFO",
        "logger": "app",
        "message": "one and 2",
    }


def test_extra_fields_stand_beside_them() -> None:
    found = formatted(user=7, tags=["a", {"b": (1.5, None, True)}])
    assert found["user"] == 7
    assert found["tags"] == ["a", {"b": [1.5, None, True]}]


def test_an_extra_field_never_hides_one_of_ours() -> None:
    found = formatted(timestamp="never", logger="mine", task_id="known better")
    assert found["timestamp"] == "2001-09-09T01:46:40.000Z"
    assert found["extra_timestamp"] == "never"
    assert (found["logger"], found["extra_logger"]) == ("app", "mine")
    assert found["task_id"] == "known better"


def test_an_exception_is_a_field_with_its_traceback() -> None:
    try:
        raise ValueError("no\nluck")
    except ValueError:
        found = formatted(exc_info=sys.exc_info())
    assert found["exception"].startswith("Traceback (most recent call last):\n")
    assert found["exception"].endswith("ValueError: no\nluck")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("two\nlines\u2028\r\x00\x1b[31m", "two\nlines\u2028\r\x00\x1b[31m"),
        ("half \ud800 a pair", "half \ufffd a pair"),
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
        (b"\xff", "b'\\xff'"),
        ({1: "a", None: "b"}, {"1": "a", "None": "b"}),
        ({"huge": 10**5000}, {"huge": "<int that cannot be shown>"}),
        (Hostile(), "<Hostile that cannot be shown>"),
        ({"deep": [Hostile()]}, {"deep": ["<Hostile that cannot be shown>"]}),
    ],
)
def test_what_json_cannot_say_is_said_as_well_as_it_can_be(value: Any, shown: Any) -> None:
    assert formatted(field=value)["field"] == shown


def test_what_contains_itself_has_an_end() -> None:
    endless: list[Any] = []
    endless.append(endless)
    formatted(field=endless)
    own: dict[str, Any] = {}
    own["own"] = own
    formatted(field=own)


def test_a_message_that_cannot_be_made_is_shown_by_its_parts() -> None:
    assert formatted("%d tasks", "many")["message"] == "%d tasks % ('many',)"
    assert "cannot be shown" in formatted("%s", Hostile())["message"]
    assert "cannot be shown" in formatted(Hostile())["message"]


def test_an_exception_that_cannot_be_shown_loses_nothing_else() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError("never")

    try:
        raise Mute
    except Mute:
        found = formatted(exc_info=sys.exc_info())
    assert found["message"] == "hello"
    assert "Mute" in found["exception"]


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner),
    max_leaves=20,
)


@given(st.text(st.characters()), values, st.text())
def test_any_record_is_one_line_of_json(message: str, value: Any, name: str) -> None:
    formatted(message, field=value, created=1.0, name=name)
    formatted("%s %r", message, value)


# --- commands -----------------------------------------------------------------


def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    import os

    return subprocess.run(
        [sys.executable, "-m", "fastworker", *arguments],
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=60,
    )


def objects(text: str) -> list[dict[str, Any]]:
    """Each line as an object."""
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.slow
def test_an_error_that_a_command_ends_with_is_an_object_too() -> None:
    done = run("list", "--task-modules", "no_such_module", "--log-format", "json")
    assert done.returncode == Exit.BAD_CONFIGURATION
    (said,) = objects(done.stderr)
    assert said["level"] == "ERROR"
    assert said["logger"] == "fastworker.cli"
    assert "no_such_module" in said["message"]


@pytest.mark.slow
def test_the_format_may_come_from_a_variable_and_the_option_counts_first() -> None:
    arguments = "list", "--task-modules", "no_such_module"
    by_variable = run(*arguments, FASTWORKER_LOG_FORMAT="json")
    assert objects(by_variable.stderr)
    by_option = run(*arguments, "--log-format", "text", FASTWORKER_LOG_FORMAT="json")
    assert by_option.stderr.startswith("fastworker: ")
    wrong = run(*arguments, FASTWORKER_LOG_FORMAT="xml")
    assert wrong.returncode == Exit.BAD_CONFIGURATION
    assert "FASTWORKER_LOG_FORMAT='xml': use 'text' or 'json'" in wrong.stderr


@pytest.mark.slow
def test_what_nobody_has_caught_is_an_object_too() -> None:
    program = (
        "import threading, warnings; from fastworker import _logs; "
        "_logs.set_up('INFO', 'json'); warnings.warn('careful'); "
        "t = threading.Thread(target=lambda: 1 / 0); t.start(); t.join(); "
        "raise ValueError('two\\nlines')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60
    )
    warned, in_thread, last = objects(done.stderr)
    assert "careful" in warned["message"]
    assert "ZeroDivisionError" in in_thread["exception"]
    assert last["message"] == "ValueError: two\nlines"
    assert last["level"] == "CRITICAL"
