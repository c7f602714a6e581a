"""Options with several values, typed values, and results as JSON: all pure."""

from __future__ import annotations

import json
import math
from collections import OrderedDict
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import IntEnum, StrEnum
from pathlib import PurePosixPath
from typing import Any
from uuid import UUID

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastworker.cli import main
from fastworker.cli._output import to_json
from fastworker.cli._submit import submit
from fastworker.cli._telemetry import OTEL_KEY
from fastworker.cli._values import gather_values, parse_value

SEVERAL = frozenset({"--args", "--task-modules"})
TAKES_VALUE = {
    "--args": True,
    "--task-modules": True,
    "--task-name": True,
    "--non-blocking": False,
    "--help": False,
}


def gather(*arguments: str) -> list[str]:
    return gather_values(arguments, several=SEVERAL, takes_value=TAKES_VALUE)


@pytest.mark.parametrize(
    ("typed", "gathered"),
    [
        ("--args 5 3", "--args=5 --args=3"),
        ("--args -5 3", "--args=-5 --args=3"),
        ("--args -5 -h", "--args=-5 --args=-h"),
        ("--args 5 --task-name add", "--args=5 --task-name add"),
        ("--args 5 --task-name=add 6", "--args=5 --task-name=add 6"),
        ("--args 5 --non-blocking", "--args=5 --non-blocking"),
        ("--args=5 3", "--args=5 --args=3"),
        ("--args", ""),
        ("--args --non-blocking", "--non-blocking"),
        ("--args -- --non-blocking --", "--args=--non-blocking --args=--"),
        ("--args 1 -- --task-name", "--args=1 --args=--task-name"),
        ("--args --- -1", "--args=--- --args=-1"),
        ("--args a=b --args=c=d", "--args=a=b --args=c=d"),
        ("--task-modules a b --args 1", "--task-modules=a --task-modules=b --args=1"),
        ("--task-modules a --task-modules b", "--task-modules=a --task-modules=b"),
        # What an option takes is its own, whatever it looks like.
        ("--task-name --args 5", "--task-name --args 5"),
        ("--task-name", "--task-name"),
        ("5 -- --args 3", "5 -- --args 3"),
        ("--unknown 5 --args 3", "--unknown 5 --args=3"),
    ],
)
def test_values_are_gathered_up_to_the_next_option(typed: str, gathered: str) -> None:
    assert gather(*typed.split()) == gathered.split()


def test_a_mistyped_option_among_values_is_not_taken_for_a_value() -> None:
    with pytest.raises(click.UsageError) as caught:
        gather("--args", "5", "--non-blokcing")
    assert "--non-blokcing" in caught.value.message
    assert "Did you mean --non-blocking?" in caught.value.message
    assert "--args -- --non-blokcing" in caught.value.message


def test_the_other_half_of_a_switch_ends_values_too() -> None:
    line = ["--task-name", "add", "--args", "1", "2", "--no-otel", "--non-blocking"]
    parent = main.make_context("fastworker", ["submit"])
    with submit.make_context("submit", line, parent=parent) as context:
        assert context.params["arguments"] == ("1", "2")
        assert context.params["non_blocking"]
        assert context.meta[OTEL_KEY] is False


texts = st.text(st.characters(codec="utf-8"))


@given(st.lists(texts))
def test_any_values_come_through_after_a_double_dash(values: list[str]) -> None:
    assert gather("--args", "--", *values) == [f"--args={value}" for value in values]


@given(st.lists(texts.filter(lambda text: not text.startswith("--"))), st.lists(texts))
def test_values_keep_their_number_and_order(first: list[str], second: list[str]) -> None:
    gathered = gather("--args", *first, "--non-blocking", "--args", "--", *second)
    expected = [f"--args={value}" for value in first]
    assert gathered == [*expected, "--non-blocking", *(f"--args={value}" for value in second)]


@given(st.lists(st.sampled_from(["--args", "--task-name", "--", "-5", "x", "", "--args=1"])))
def test_gathering_never_loses_or_makes_up_a_word(typed: list[str]) -> None:
    def words(arguments: list[str]) -> list[str]:
        parts = [part for text in arguments for part in text.split("=")]
        return sorted(part for part in parts if part not in ("--args", "--"))

    assert words(gather(*typed)) == words(typed)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5),
        ("-5", -5),
        ("1.5", 1.5),
        ("true", True),
        ("True", "True"),
        ("null", None),
        ('{"a": 1}', {"a": 1}),
        ("[1, 2]", [1, 2]),
        ('"5"', "5"),
        ("text", "text"),
        ("", ""),
        ("2024-02-29", "2024-02-29"),
        ("NaN", "NaN"),
        ("-Infinity", "-Infinity"),
        ("[NaN]", "[NaN]"),
        ("{'a': 1}", "{'a': 1}"),
        ("05", "05"),
    ],
)
def test_a_value_is_json_or_else_the_text_itself(text: str, value: Any) -> None:
    parsed = parse_value(text)
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize("text", ["[" * 100_000, "9" * 10_000], ids=["deep", "long"])
def test_what_python_cannot_read_as_json_is_text(text: str) -> None:
    assert parse_value(text) == text


@given(st.text())
def test_every_text_is_some_value(text: str) -> None:
    value = parse_value(text)
    if isinstance(value, str):
        assert value == text or json.loads(text) == value
    else:
        assert json.loads(text) == value


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner)
    ),
)


@given(json_values)
def test_what_json_has_is_printed_as_it_is(value: Any) -> None:
    line = to_json(value)
    assert json.loads(line) == value
    assert "\n" not in line


class Colour(StrEnum):
    RED = "red"


class Size(IntEnum):
    BIG = 3


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ((1, 2), [1, 2]),
        ({3, 1, 2}, [1, 2, 3]),
        (frozenset({"b", "a", 1}), [1, "a", "b"]),
        (b"\x00\xff", "AP8="),
        (datetime(2024, 2, 29, 12, tzinfo=UTC), "2024-02-29T12:00:00+00:00"),
        (date(2024, 2, 29), "2024-02-29"),
        (time(12, 30), "12:30:00"),
        (timedelta(minutes=1.5), 90.0),
        (Decimal("1.10"), "1.10"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (PurePosixPath("/a"), "/a"),
        (math.inf, "inf"),
        (Colour.RED, "red"),
        (Size.BIG, 3),
        ({1: "a", None: "b"}, {"1": "a", "null": "b"}),
        (OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
        ({(1, 2): "x"}, {"[1, 2]": "x"}),
        ("\ud800", "\\ud800"),
        (1j, "1j"),
    ],
)
def test_other_values_are_printed_in_a_form_that_is_read_easily(value: Any, shown: Any) -> None:
    assert json.loads(to_json(value)) == shown


def test_an_integer_of_many_digits_is_printed_in_hexadecimal() -> None:
    assert to_json(2**20_000) == f'"{2**20_000:#x}"'


def test_a_value_that_contains_itself_is_named_and_not_followed() -> None:
    loop: list[Any] = []
    loop.append(loop)
    assert "contains itself" in to_json(loop)
