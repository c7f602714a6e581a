"""Handles, options, task groups and maps of ``SyncClient``, and tasks that submit tasks."""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import trio

import fastworker
from fastworker import (
    Cancelled,
    ClientClosed,
    Completed,
    NeverStarted,
    NotEncodable,
    SyncClient,
    SyncTaskHandle,
    TaskCancelled,
    TaskExpired,
    TaskFailed,
    TaskNotFound,
    TaskStatus,
)
from fastworker._client_block import Block
from fastworker._registry import Registry
from tests.facade.plane import count_threads

pytestmark = pytest.mark.nng


@contextmanager
def failing() -> Iterator[list[Exception]]:
    """What the block's ExceptionGroup has in it."""
    errors: list[Exception] = []
    try:
        yield errors
    except ExceptionGroup as group:
        errors += group.exceptions


def until(condition: Callable[[], object], within: float = 10) -> None:
    end = time.monotonic() + within
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


class World:
    """A client with a control plane of its own, which runs one ``def`` task at a time."""

    def __init__(self) -> None:
        self.registry = Registry()
        for function in (
            self.add,
            self.double,
            self.fail,
            self.hold,
            self.sleep,
            self.say,
            self.flaky,
            self.count,
            self.parent,
            self.parent_of_many,
        ):
            self.registry.register(function, name=function.__name__)
        self.client = SyncClient.local(registry=self.registry, concurrency=1, timeout=20)
        self.gate = threading.Event()
        self.slept: list[str] = []  # what has become of each sleep()
        self.sleeping = 0
        self.attempts = 0
        self.parent_ended: list[str] = []

    def add(self, a: int, b: int) -> int:
        return a + b

    def double(self, x: int) -> int:
        return 2 * x

    def fail(self, text: str = "as it should") -> None:
        raise LookupError(text)

    def hold(self, _: object = None) -> str:
        while not self.gate.wait(0.01):
            fastworker.check_cancelled()
        return "opened"

    async def sleep(self, _: object = None) -> None:
        self.sleeping += 1
        try:
            await trio.sleep_forever()
        finally:
            self.slept.append("cancelled")

    def say(self) -> None:
        fastworker.progress(0.5, "half")
        self.hold()

    async def count(self, end: int) -> AsyncIterator[int]:
        try:
            for number in range(end):
                yield number
            if not end:
                await trio.sleep_forever()
            raise LookupError("the end")
        finally:
            self.slept.append("cancelled")

    def flaky(self) -> int:
        self.attempts += 1
        if self.attempts < 3:
            raise LookupError("not yet")
        return self.attempts

    def parent(self, child: str, *args: int) -> object:
        try:
            return self.client.submit(child, *args).result()
        except TaskCancelled:
            self.parent_ended.append("cancelled")
            raise

    def parent_of_many(self, child: str) -> list[object]:
        try:
            with self.client.map(child, range(5), max_in_flight=2) as values:
                return list(values)
        except TaskCancelled:
            self.parent_ended.append("cancelled")
            raise


@pytest.fixture
def world() -> Iterator[World]:
    before = count_threads()
    world = World()
    with world.client:
        yield world
        world.gate.set()
    until(lambda: count_threads() == before)


# --- handles and options ---


def test_a_handle_gives_the_value_and_says_how_the_task_is(world: World) -> None:
    handle = world.client.submit(world.add, 1, b=2)
    assert isinstance(handle, SyncTaskHandle)
    assert handle.result() == 3
    assert handle.result(0) == 3
    assert handle.wait(0).result == 3
    assert handle.name == "add"
    assert handle.is_done
    assert handle.status() is TaskStatus.SUCCESS
    assert isinstance(handle.outcome, Completed)
    assert handle.outcome.value == 3
    assert handle.cancel() == handle.outcome
    assert repr(handle) == f"<SyncTaskHandle {handle.id} of 'add'>"
    with pytest.raises(TaskFailed, match="LookupError: as it should"):
        world.client.submit("fail").result()


def test_a_wait_that_is_over_leaves_the_task_alone(world: World) -> None:
    handle = world.client.submit("hold")
    for wait in (handle.wait, handle.result):
        with pytest.raises(TimeoutError, match="it goes on"):
            wait(0.01)
        with pytest.raises(TimeoutError):
            wait(-1)
    assert not handle.is_done
    assert handle.outcome is None
    world.gate.set()
    assert handle.result() == "opened"


def test_progress_is_seen_while_the_task_runs(world: World) -> None:
    handle = world.client.submit("say")
    assert handle.progress() is None or handle.progress() == (0.5, "half")
    until(lambda: handle.progress() == (0.5, "half"))
    assert handle.status() is TaskStatus.STARTED


def test_cancelling_tells_the_truth(world: World) -> None:
    running = world.client.submit("hold")
    until(lambda: running.status() is TaskStatus.STARTED)
    queued = world.client.submit("add", 1, 2)
    assert queued.cancel() == NeverStarted()
    assert isinstance(world.client.cancel(running.id), Cancelled)
    with pytest.raises(TaskCancelled):
        running.result()
    assert isinstance(running.outcome, Cancelled)
    with pytest.raises(TaskNotFound):
        world.client.cancel("no such id")


def test_options_are_those_of_the_client(world: World) -> None:
    retrying = world.client.options(max_retries=3, retry_delay=0)
    assert retrying.submit("flaky").result() == 3
    assert repr(retrying).startswith("<<local SyncClient: open> with CallSettings(")
    blocker = world.client.submit("hold")
    until(lambda: blocker.status() is TaskStatus.STARTED)
    late = world.client.options(expires=0.05).submit("add", 1, 2)
    with pytest.raises(TaskExpired):
        late.result()
    low = world.client.options(priority="low")
    assert low.options(timeout=5).delay("add", 1, 2)
    world.gate.set()
    assert low.submit_task("add", (1, 2)).result == 3
    keyed = world.client.options(idempotency_key="k", idempotency_ttl=60, when_full="wait")
    assert keyed.delay("add", 1, 2) == keyed.submit_task("add", (1, 2)).task_id
    assert world.client.options(task_id="mine").delay("add", 1, 2) == "mine"
    with pytest.raises(ValueError, match="timeout=0"):
        world.client.options(timeout=0)


def test_a_handle_outlives_its_client_as_far_as_it_knows(world: World) -> None:
    done, running = world.client.submit("add", 1, 2), world.client.submit("sleep")
    assert done.result() == 3
    waiting = world.client.submit("sleep")
    caught: list[Exception] = []

    def wait() -> None:
        with pytest.raises(ClientClosed) as raised:
            waiting.result()
        caught.append(raised.value)

    thread = threading.Thread(target=wait)
    thread.start()
    until(lambda: world.sleeping == 2)
    world.client.close()
    thread.join(5)
    assert len(caught) == 1
    assert done.result() == 3
    assert done.status() is TaskStatus.SUCCESS
    assert not running.is_done
    with pytest.raises(ClientClosed):
        running.result()
    with pytest.raises(ClientClosed):
        running.cancel()


# --- groups ---


def test_a_group_ends_with_its_last_task(world: World) -> None:
    with world.client.open_task_group(max_in_flight=2) as group:
        handles = [group.submit(world.double, number) for number in range(6)]
        seen = [handle.result() for handle in group.as_completed()]
        late = group.submit("add", 1, 2)
    assert sorted(seen) == [0, 2, 4, 6, 8, 10]
    assert late.is_done
    assert group.handles == [*handles, late]
    assert group.failures == []
    assert group.in_flight == 0
    with pytest.raises(TaskCancelled):
        group.submit("add", 1, 2)


def test_the_first_failure_cancels_the_others_and_the_calls_of_the_body(world: World) -> None:
    heard: list[type[Exception]] = []
    with (
        failing() as errors,
        world.client.open_task_group() as group,
    ):
        group.submit("sleep")
        until(lambda: world.sleeping)
        group.submit("fail")
        try:
            for _ in group.as_completed():
                pass
        except TaskCancelled as error:
            heard.append(type(error))
            raise
    assert [str(error) for error in errors] == ["LookupError: as it should"]
    assert heard == [TaskCancelled]
    assert world.slept == ["cancelled"]


def test_a_failure_reaches_a_body_that_waits_for_another_member(world: World) -> None:
    with (
        failing() as errors,
        world.client.open_task_group() as group,
    ):
        sleeping = group.submit("sleep")
        group.submit("fail")
        sleeping.result()
    assert isinstance(errors[0], TaskFailed)


def test_a_body_that_hears_nothing_has_its_error_beside_the_failures(world: World) -> None:
    with (
        failing() as errors,
        world.client.open_task_group() as group,
    ):
        failed = group.submit("fail")
        until(lambda: failed.is_done)
        raise ZeroDivisionError
    kinds = [type(error) for error in errors]
    assert kinds == [ZeroDivisionError, TaskFailed]


def test_an_error_of_the_body_cancels_all(world: World) -> None:
    with (
        failing() as errors,
        world.client.open_task_group() as group,
    ):
        group.submit("sleep")
        until(lambda: world.sleeping)
        raise ZeroDivisionError
    assert [type(error) for error in errors] == [ZeroDivisionError]
    assert world.slept == ["cancelled"]


def test_a_collecting_group_goes_on(world: World) -> None:
    with world.client.open_task_group(on_error="collect") as group:
        failed, done = group.submit("fail"), group.submit("add", 1, 2)
    assert [str(error) for error in group.failures] == ["LookupError: as it should"]
    assert (failed.status(), done.status()) == (TaskStatus.FAILURE, TaskStatus.SUCCESS)


def test_the_first_success_or_a_word_ends_a_group(world: World) -> None:
    with world.client.open_task_group(first=1) as group:
        group.submit("sleep")
        group.submit("add", 1, 2)
        for _ in group.as_completed():
            pass
    assert isinstance(group.handles[0].outcome, Cancelled | NeverStarted)
    with world.client.open_task_group() as group:
        sleeping = group.submit("sleep")
        group.cancel()
        with pytest.raises(TaskCancelled):
            group.submit("add", 1, 2)
    assert isinstance(sleeping.outcome, Cancelled | NeverStarted)


def test_a_group_that_cannot_be_says_so_and_one_of_a_closed_client_ends(world: World) -> None:
    with (
        pytest.raises(ValueError, match="max_in_flight=0"),
        world.client.open_task_group(max_in_flight=0),
    ):
        pass
    with (
        failing() as errors,
        world.client.open_task_group() as group,
    ):
        with pytest.raises(NotEncodable):
            group.submit("add", object())
        world.client.close()
        group.submit("add", 1, 2)
    assert [type(error) for error in errors] == [ClientClosed]
    with pytest.raises(ClientClosed):
        world.client.open_task_group()


def test_closing_the_client_ends_a_group_whose_body_waits_for_nothing(world: World) -> None:
    with (
        failing() as errors,
        world.client.open_task_group() as group,
    ):
        group.submit("sleep")
        world.client.close()
    assert [type(error) for error in errors] == [ClientClosed]


def test_several_threads_submit_to_one_group(world: World) -> None:
    with world.client.open_task_group(max_in_flight=3) as group:
        threads = [
            threading.Thread(target=lambda: [group.submit("double", 1) for _ in range(10)])
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
    assert [handle.result() for handle in group.handles] == [2] * 40


def test_a_generator_that_is_closed_with_its_group_open_cancels_that(world: World) -> None:
    def generate() -> Iterator[int]:
        with world.client.open_task_group() as group:
            group.submit("sleep")
            until(lambda: world.sleeping)
            yield 1

    generator = generate()
    next(generator)
    generator.close()  # type: ignore[attr-defined]
    assert world.slept == ["cancelled"]


# --- maps ---


@pytest.mark.parametrize("ordered", [True, False])
def test_a_map_gives_the_value_of_each_item(world: World, ordered: bool) -> None:
    taken_in: set[str] = set()

    def items() -> Iterator[int]:
        for number in range(50):
            taken_in.add(threading.current_thread().name)
            yield number

    with world.client.map(world.double, items(), max_in_flight=4, ordered=ordered) as values:
        got = list(values)
    assert (got if ordered else sorted(got)) == [2 * number for number in range(50)]
    assert taken_in == {threading.current_thread().name}


def test_a_map_that_is_left_early_cancels_what_is_under_way(world: World) -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(1000):
            taken.append(number)
            yield number

    with world.client.map("double", items(), max_in_flight=3) as values:
        assert next(values) == 0
    assert len(taken) <= 4
    with world.client.map("sleep", [1, 2], max_in_flight=3):
        pass
    with pytest.raises(TypeError):
        world.client.map("sleep", 3)  # type: ignore[call-overload]


def test_a_map_takes_no_more_items_than_may_be_in_flight() -> None:
    registry = Registry()
    taken: list[int] = []
    read = 0

    @registry.register
    def first_is_last(number: int) -> int:
        if number == 0:
            time.sleep(0.2)  # meanwhile the values of the others wait to be read
        return number

    def items() -> Iterator[int]:
        for number in range(1000):
            taken.append(number)
            assert len(taken) - read <= 3
            yield number
            time.sleep(0.02)  # those that were submitted end meanwhile

    with (
        SyncClient.local(registry=registry, concurrency=3) as client,
        client.map("first_is_last", items(), max_in_flight=3) as values,
    ):
        for number in range(10):
            read += 1  # its place is free before it is here
            assert next(values) == number


@pytest.mark.parametrize("ordered", [True, False])
def test_many_values_take_few_calls_into_the_loop(
    world: World, ordered: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0
    call = Block.call

    def count(block: Block[Any], work: Any) -> Any:
        nonlocal calls
        calls += 1
        return call(block, work)

    monkeypatch.setattr(Block, "call", count)
    with world.client.map("double", range(300), max_in_flight=300, ordered=ordered) as values:
        # While the first is read, the others end.
        got = [next(values)]
        time.sleep(0.5)
        got += values
    assert sorted(got) == [2 * number for number in range(300)]
    assert calls < 150


def test_items_before_an_error_of_their_iterable_are_submitted(world: World) -> None:
    def items() -> Iterator[int]:
        yield from range(3)
        raise KeyError("no more")

    ran: list[object] = []
    with (
        pytest.raises(ExceptionGroup) as caught,
        world.client.map("double", items(), max_in_flight=9) as values,
    ):
        ran.append(next(values))
    assert [repr(error) for error in caught.value.exceptions] == ["KeyError('no more')"]


def test_a_failure_ends_a_map_or_is_raised_where_its_value_would_be(world: World) -> None:
    with (
        failing() as errors,
        world.client.map("fail", ["a", "b", "c"], max_in_flight=1) as values,
    ):
        list(values)
    assert [str(error) for error in errors] == ["LookupError: a"]
    raised = []
    with world.client.map("fail", "ab", on_error="collect") as values:
        while True:
            try:
                next(values)
            except TaskFailed as error:
                raised.append(str(error))
            except StopIteration:
                break
    assert raised == ["LookupError: a", "LookupError: b"]


# --- streams ---


def test_a_stream_gives_its_values_and_then_its_error(world: World) -> None:
    with world.client.options(buffer=2).stream("count", 5) as values:
        assert values.name == "count"
        for expected in range(5):
            assert next(values) == expected
        with pytest.raises(TaskFailed, match="LookupError: the end"):
            next(values)
        assert list(values) == []


def test_a_stream_that_is_left_ends_its_task_and_lets_errors_pass(world: World) -> None:
    with world.client.options(buffer=1).stream("count", 1000) as values:
        assert next(values) == 0
    assert world.slept == ["cancelled"]
    with pytest.raises(ZeroDivisionError), world.client.stream("count", 0):
        raise ZeroDivisionError

    def read() -> None:
        with world.client.stream("count", 0) as values:
            next(values)

    closing = threading.Timer(0.1, world.client.close)
    closing.start()
    with pytest.raises(ClientClosed):
        read()
    closing.join()


# --- tasks that submit tasks ---


def test_a_task_that_waits_for_its_child_lends_it_the_only_slot(world: World) -> None:
    assert world.client.submit("parent", "add", 1, 2).result(10) == 3
    assert world.client.submit("parent", "parent", "add").wait(10).status is TaskStatus.FAILURE
    assert world.client.submit("parent_of_many", "double").result(10) == [0, 2, 4, 6, 8]


@pytest.mark.parametrize("parent", ["parent", "parent_of_many"])
@pytest.mark.parametrize("child", ["sleep", "hold"])
def test_cancelling_the_parent_cancels_the_child_and_frees_its_thread(
    world: World, parent: str, child: str
) -> None:
    handle = world.client.submit(parent, child)
    until(lambda: handle.status() is TaskStatus.STARTED)
    if child == "sleep":
        until(lambda: world.sleeping)
    else:
        time.sleep(0.05)  # in whatever state the child is
    started_at = time.monotonic()
    assert isinstance(handle.cancel(), Cancelled)
    assert time.monotonic() - started_at < 1
    assert world.parent_ended == ["cancelled"]
    assert set(world.slept) <= {"cancelled"}
    assert len(world.slept) == world.sleeping
    # The only slot is free again.
    assert world.client.submit("add", 1, 2).result(5) == 3
