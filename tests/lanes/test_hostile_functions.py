"""Whatever user code raises or returns, it travels as data and the lane goes on."""

from __future__ import annotations

import functools
import inspect
import pickle
import sys
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from fastworker._errors import TaskCancelled
from fastworker._lanes._abc import OUTCOME_FAILURE, AttemptEnded
from fastworker._models import SerializationFormat
from tests.lanes.lane_world import World, open_world

pytestmark = pytest.mark.trio

PICKLE = SerializationFormat.PICKLE


async def failure_of(world: World, body: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Run ``body``, assert that it fails and that the lane is as good as before."""
    ended = await world.outcome(world.function(body), *args, **options)
    assert ended.kind == OUTCOME_FAILURE
    assert ended.payload == b""
    assert await world.result(world.function(lambda: "still here")) == "still here"
    return ended


class UnshowableError(Exception):
    def __str__(self) -> str:
        raise SystemExit("from __str__")


class LyingError(Exception):
    def __str__(self) -> str:
        return 7  # type: ignore[return-value, unused-ignore]


class TextThatBites(str):
    def __getitem__(self, index: object) -> str:
        raise KeyboardInterrupt

    def encode(self, *args: object) -> bytes:
        raise KeyboardInterrupt


class BitingError(Exception):
    def __str__(self) -> str:
        return TextThatBites("text")


class NeedsArgumentsError(Exception):
    def __init__(self, a: int, b: int) -> None:
        super().__init__(f"{a} and {b}")


ZOO = [
    (SystemExit(3), "SystemExit: 3"),
    (KeyboardInterrupt(), "KeyboardInterrupt"),
    (GeneratorExit(), "GeneratorExit"),
    (BaseException("plain"), "BaseException: plain"),
    (
        BaseExceptionGroup("many", [SystemExit(1), ValueError("x")]),
        "BaseExceptionGroup: many (2 sub-exceptions)",
    ),
    (UnshowableError(), "UnshowableError: <its __str__ raised SystemExit>"),
    (LyingError(), "LyingError: <its __str__ raised TypeError>"),
    (BitingError(), "BitingError: text"),
    (NeedsArgumentsError(1, 2), "NeedsArgumentsError: 1 and 2"),
    (ValueError("two\n  lines\r\nof text"), "ValueError: two lines of text"),
    (ValueError("a \x1b[31mred\x1b[0m\x00 word"), r"ValueError: a \x1b[31mred\x1b[0m\x00 word"),
    (ValueError("lone \ud800 surrogate"), r"ValueError: lone \ud800 surrogate"),
    (ValueError("x" * 3_000_000), "ValueError: " + "x" * 985 + "..."),
    (MemoryError(), "MemoryError"),
    (KeyError("k"), "KeyError: 'k'"),
    (StopIteration("s"), "StopIteration: s"),
]


@pytest.mark.parametrize(("error", "line"), ZOO, ids=[type(each[0]).__name__ for each in ZOO])
async def test_any_exception_becomes_one_line_and_a_traceback(
    world: World, error: BaseException, line: str
) -> None:
    # T4 in docs/faults.md.
    def misbehave() -> None:
        raise error

    ended = await failure_of(world, misbehave)

    if isinstance(error, StopIteration) and world.kind != "thread":
        line = "RuntimeError: coroutine raised StopIteration"
    assert ended.error.startswith(line)
    assert len(ended.error) <= 1000
    assert ended.traceback.encode()


async def test_the_traceback_begins_in_the_users_own_function(world: World) -> None:
    def inner() -> None:
        raise ValueError("deep")

    def outer() -> None:
        inner()

    text = (await failure_of(world, outer)).traceback

    assert "_lanes" not in text
    assert text.index("in outer") < text.index("in inner") < text.index("ValueError: deep")
    assert text.startswith("Traceback (most recent call last):\n")


async def test_notes_causes_and_groups_are_kept(world: World) -> None:
    def fail() -> None:
        error = ValueError("first")
        error.add_note("a note to keep")
        raise ExceptionGroup("both", [error, KeyError("second")]) from OSError("the cause")

    text = (await failure_of(world, fail)).traceback

    for part in ("a note to keep", "first", "second", "the cause", "both"):
        assert part in text


async def test_a_long_traceback_keeps_its_beginning_and_its_end(world: World) -> None:
    # T4 in docs/faults.md.
    def fail() -> None:
        error = ValueError("the message")
        error.add_note("ä" * 200_000)
        error.add_note("the last note")
        raise error

    text = (await failure_of(world, fail)).traceback

    assert len(text.encode()) <= 64 * 1024
    assert "in fail" in text
    assert "bytes left out" in text
    assert text.endswith("the last note\n")


async def test_endless_recursion_ends_only_the_attempt(world: World) -> None:
    def recurse() -> None:
        recurse()

    ended = await failure_of(world, recurse)
    assert ended.error.startswith("RecursionError: maximum recursion depth exceeded")


async def test_sys_exit_ends_only_the_attempt(world: World) -> None:
    # T2 in docs/faults.md.
    ended = await failure_of(world, lambda: sys.exit("bye"))
    assert ended.error == "SystemExit: bye"


def circular() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


async def test_a_generator_that_nobody_reads_is_refused(world: World) -> None:
    ended = await failure_of(world, lambda: (each for each in "abc"))

    assert ended.error == (
        "TypeError: a-name is a generator, whose values nobody reads; "
        "call it with client.stream"
    )


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (object, "object"),
        (circular, "contains itself"),
        (lambda: {1: 2}, "key"),
        (lambda: float("nan"), "nan"),
        (lambda: {"a": [0, lambda: 1]}, "result['a'][1]"),
    ],
    ids=["object", "circular", "int key", "nan", "nested function"],
)
async def test_a_result_that_cannot_travel_fails_and_says_where(
    world: World, make: Callable[[], Any], reason: str
) -> None:
    # T4 in docs/faults.md.
    ended = await failure_of(world, make)

    assert ended.error.startswith("NotEncodable: result")
    assert reason in ended.error
    assert ended.started_wall > 0


async def test_a_result_over_the_limit_fails_with_its_size(world: World) -> None:
    limit = 16 * 1024 * 1024
    ended = await failure_of(world, lambda: "x" * limit)

    assert ended.error == (
        "ResultTooLarge: the result is 16,777,218 bytes encoded, the limit is 16,777,216; "
        "return a path or a key instead of the data"
    )


async def test_a_result_of_just_the_limit_travels(world: World) -> None:
    ended = await world.outcome(world.function(lambda: "x" * (16 * 1024 * 1024 - 2)))

    assert len(ended.payload) == 16 * 1024 * 1024


class ExitsWhenPickled:
    def __reduce__(self) -> Any:
        raise SystemExit("while pickling")


class ExitsWhenUnpickled:
    def __reduce__(self) -> Any:
        return sys.exit, ("while unpickling",)


class FailsWhenPickled:
    def __reduce__(self) -> Any:
        raise ValueError("not this one")


async def test_pickling_that_raises_anything_fails_only_the_attempt(world: World) -> None:
    ended = await failure_of(world, ExitsWhenPickled, format=PICKLE)
    assert ended.error == "SystemExit: while pickling"
    assert "__reduce__" in ended.traceback

    ended = await failure_of(world, FailsWhenPickled, format=PICKLE)
    assert ended.error.startswith("NotEncodable: ")
    assert "not this one" in ended.error
    assert "__reduce__" in ended.traceback


async def test_unpickling_that_raises_anything_fails_only_the_attempt(world: World) -> None:
    called: list[object] = []
    ended = await failure_of(world, called.append, ExitsWhenUnpickled(), format=PICKLE)

    assert ended.error == "SystemExit: while unpickling"
    assert called == []


async def test_bytes_that_are_no_arguments_fail_only_the_attempt(world: World) -> None:
    attempt = world.attempt(world.function(lambda: None))
    broken = msgspec.structs.replace(attempt, payload=b"\xff[")
    world.lane.submit([broken])

    ended = await world.end_of(attempt.key)
    assert ended.kind == OUTCOME_FAILURE
    assert ended.error.startswith("NotDecodable: ")
    assert await world.result(world.function(lambda: 1)) == 1


async def test_a_pickle_is_never_decoded_where_only_json_is_accepted(kind: str) -> None:
    async with open_world(kind) as world:
        ended = await failure_of(world, lambda _: None, ExitsWhenUnpickled(), format=PICKLE)

    assert ended.error == (
        "SerializationRefused: PICKLE arguments refused: this worker accepts JSON only"
    )


async def test_an_unknown_format_is_refused(world: World) -> None:
    attempt = world.attempt(world.function(lambda: None))
    world.lane.submit([msgspec.structs.replace(attempt, format=99)])

    ended = await world.end_of(attempt.key)
    assert ended.error == (
        "SerializationRefused: format 99 arguments refused: this worker accepts JSON and PICKLE"
    )


async def test_pickled_arguments_come_back_as_a_pickled_result(world: World) -> None:
    ended = await world.outcome(world.function(lambda x: x), {1, 2}, format=PICKLE)

    assert ended.format == 2
    assert pickle.loads(ended.payload) == {1, 2}


# --- wrong arguments ------------------------------------------------------------


async def wrong_call(world: World, *args: Any, **kwargs: Any) -> AttemptEnded:
    if world.kind == "thread":

        def add(x: int, y: int) -> int:
            return x + y

        function: Callable[..., Any] = add
    else:

        async def add_async(x: int, y: int) -> int:
            return x + y

        add_async.__name__ = "add"
        function = add_async
    return await world.outcome(function, *args, **kwargs)


@pytest.mark.parametrize(
    ("args", "kwargs", "error"),
    [
        ((1,), {}, "TypeError: add() missing a required argument: 'y'"),
        ((1, 2, 3), {}, "TypeError: add() too many positional arguments"),
        ((1, 2), {"z": 3}, "TypeError: add() got an unexpected keyword argument 'z'"),
        ((1, 2), {"x": 3}, "TypeError: add() multiple values for argument 'x'"),
    ],
)
async def test_wrong_arguments_are_named_without_a_traceback(
    world: World, args: tuple[int, ...], kwargs: dict[str, int], error: str
) -> None:
    # T5 in docs/faults.md.
    ended = await wrong_call(world, *args, **kwargs)

    assert ended.kind == OUTCOME_FAILURE
    assert ended.error == error
    assert ended.traceback == ""


async def test_a_type_error_inside_the_function_stays_its_own(world: World) -> None:
    def add(x: int, y: int) -> int:
        return x + y

    def call_it_wrongly() -> int:
        return add(1)  # type: ignore[call-arg]

    ended = await failure_of(world, call_it_wrongly)

    assert "missing 1 required positional argument: 'y'" in ended.error
    assert "in call_it_wrongly" in ended.traceback


async def test_a_decorator_may_show_another_signature_than_it_has(world: World) -> None:
    def add_to_seven(seven: int, x: int) -> int:
        return seven + x

    @functools.wraps(add_to_seven)
    def inject(*args: int) -> int:
        return add_to_seven(7, *args)

    function: Callable[..., Any] = inject
    if world.kind != "thread":

        @functools.wraps(add_to_seven)
        async def inject_async(*args: int) -> int:
            return add_to_seven(7, *args)

        function = inject_async
    assert await world.result(function, 1) == 8


async def test_wrong_arguments_are_judged_by_the_real_signature_not_the_shown_one(
    world: World,
) -> None:
    def shown(x: int, y: int) -> None:
        pass

    @functools.wraps(shown)
    def one(x: int) -> None:
        raise TypeError("from inside")

    @functools.wraps(shown)
    async def one_async(x: int) -> None:
        raise TypeError("from inside")

    function: Any = one if world.kind == "thread" else one_async
    ended = await world.outcome(function, 1, 2)
    assert ended.error == "TypeError: shown() too many positional arguments"

    # Now it tells a lie that inspect believes: what it raises still counts.
    function.__signature__ = inspect.signature(shown)
    ended = await world.outcome(function, 1)
    assert ended.error == "TypeError: from inside"


# --- what a function must not return ---------------------------------------------


async def test_a_coroutine_that_nobody_awaited_is_a_clear_error(world: World) -> None:
    # Warnings are errors here: "coroutine was never awaited" would be one.
    async def forgotten() -> None:
        pass

    if world.kind == "thread":
        ended = await failure_of(world, forgotten)
    else:
        ended = await failure_of(world, lambda: forgotten())
    assert ended.error == (
        "TypeError: the task function returned an awaitable (coroutine) that nobody awaits; "
        "define the function with 'async def' and await it there"
    )


async def test_raising_task_cancelled_uncancelled_is_a_failure(world: World) -> None:
    # As when a task waits for another one, and that one was cancelled.
    def fail() -> None:
        raise TaskCancelled("the other task was cancelled")

    ended = await failure_of(world, fail)
    assert ended.error.startswith("TaskCancelled: the other task was cancelled")
    assert "nobody cancelled this task" in ended.error
