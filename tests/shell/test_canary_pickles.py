"""X5: a pickle that would create a file, in every field of every message.

The network puts it there, with every format id, in both directions, between
peers that are set to JSON: the file must never appear, and when it stops,
everybody works on.
"""

from __future__ import annotations

import ast
import os
import pickle
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
import trio
from trio.testing import MockClock

import fastworker
from fastworker import LinkError, NotDecodable, TaskError, TaskStatus
from fastworker._core import _messages as messages
from fastworker._core import _task_questions as questions
from fastworker._core._bundle import join, split
from fastworker._core._codec import (
    REQUEST_BODIES,
    AnyBody,
    decode_body,
    decode_frame,
    digest,
    encode,
)
from fastworker._core._event_messages import EventsReply
from fastworker._core._messages import Kind, Reply, Request
from fastworker._core._metrics import MetricsReply
from fastworker._core._overview import DrainReply, Overview, WorkersReply
from fastworker._core._stored import TasksPage
from fastworker._serialization import FORMAT_IDS
from tests.shell.callback_listener import HERE, listening
from tests.shell.world import World, open_world

REPLY_BODIES: dict[Kind, Any] = {
    Kind.SUBMIT: messages.SubmitReply,
    Kind.POLL: messages.PollReply,
    Kind.CANCEL: messages.TaskEvents,
    Kind.QUERY: messages.TaskEvents,
    Kind.WATCH: messages.TaskEvents,
    Kind.REPORT: messages.Nothing,
    Kind.LEASE: messages.LeaseReply,
    Kind.BYE: messages.Nothing,
    Kind.FUNCTIONS: messages.FunctionsReply,
    Kind.CALLBACKS: messages.CallbacksReply,
    Kind.CREDIT: messages.Nothing,
    Kind.TASKS: TasksPage,
    Kind.TASK: questions.TaskDetail,
    Kind.TASK_ACTION: questions.TasksDone,
    Kind.OVERVIEW: Overview,
    Kind.WORKERS: WorkersReply,
    Kind.METRICS: MetricsReply,
    Kind.DRAIN: DrainReply,
    Kind.EVENTS: EventsReply,
}
FORMATS = [0, *FORMAT_IDS.values(), 3]


def struct_types() -> Iterator[type[msgspec.Struct]]:
    for value in {**vars(messages), **vars(questions)}.values():
        if isinstance(value, type) and issubclass(value, msgspec.Struct):
            yield value


def fields_of_bytes() -> list[str]:
    """Every field that takes bytes of any length, as ``Struct.field``."""
    found: list[str] = []
    for struct in struct_types():
        for field in msgspec.structs.fields(struct):
            info = msgspec.inspect.type_info(field.type)
            if isinstance(info, msgspec.inspect.BytesType) and info.min_length is None:
                found.append(f"{struct.__name__}.{field.name}")
    return found


class Canary:
    """Unpickled, it creates the file."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self._file),)


class Poisoner:
    """Puts bytes into one field of everything that passes, while it is on.

    Args:
      field: as ``Struct.field``.
      format: what the struct's format id becomes, if it has one.
    """

    def __init__(self, world: World, field: str, format: int, canary: bytes) -> None:
        self._struct, _, self._field = field.partition(".")
        self._format = format
        self._canary = canary
        self._kinds: dict[tuple[bytes, int, int], Kind] = {}
        self.is_on = False
        self.count = 0
        transmit = world.network._transmit

        def poison(way: Any, route: Any, message: bytes) -> None:
            if not message.startswith(b"{"):  # what a callback says
                poisoned = join([self._frame(frame) for frame in split(message)])
                message = poisoned if self.is_on else message
            transmit(way, route, message)

        world.network._transmit = poison  # type: ignore[method-assign, assignment]

    def _frame(self, data: bytes) -> bytes:
        frame: Any = self._poison(decode_frame(data))
        if isinstance(frame, Request | Reply):
            request = frame.session, frame.slot, frame.sequence
            if isinstance(frame, Request):
                self._kinds[request] = frame.kind
            bodies = REQUEST_BODIES if isinstance(frame, Request) else REPLY_BODIES
            body = frame.body
            if body != self._canary:
                kind = bodies[self._kinds[request]]
                body = encode(self._poison(decode_body(kind, body)))
            frame = msgspec.structs.replace(frame, body=body)
            if isinstance(frame, Request):
                frame = msgspec.structs.replace(frame, digest=digest(frame.kind, body))
        return encode(frame)

    def _poison(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._poison(each) for each in value]
        if not isinstance(value, msgspec.Struct):
            return value
        changes = {name: self._poison(getattr(value, name)) for name in value.__struct_fields__}
        if type(value).__name__ == self._struct:
            self.count += self.is_on
            changes[self._field] = self._canary
            if "format" in changes:
                changes["format"] = self._format
        return type(value)(**changes)


def test_the_fields_that_carry_payloads_are_these() -> None:
    # One that is added is tried below as well; this says that they are found.
    assert fields_of_bytes() == [
        "Request.body",
        "Reply.body",
        "Callback.data",
        "TaskSpec.payload",
        "TaskEvent.payload",
        "StreamValue.payload",
        "EndedAttempt.payload",
        "YieldedValue.payload",
        "Assignment.payload",
        "TaskDetail.payload",
    ]
    bodies = {*REQUEST_BODIES.values(), *REPLY_BODIES.values()}
    assert bodies == set(get_args(AnyBody))


@pytest.mark.trio
@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("field", fields_of_bytes())
async def test_no_peer_that_is_set_to_json_unpickles_what_it_is_sent(
    autojump_clock: MockClock, tmp_path: Path, field: str, format: int
) -> None:
    # X5 in docs/faults.md.
    file = tmp_path / "canary"
    async with open_world(workers=0) as world, listening(world.network):
        poisoner = Poisoner(world, field, format, pickle.dumps(Canary(file)))
        await world.start_worker()
        poisoner.is_on = True
        with trio.move_on_after(5):
            async with world.client(timeout=2, connect_timeout=2) as client:
                task_id = "never-sent"
                # The right ways to learn of it, beside a FAILURE.
                with suppress(NotDecodable, LinkError):
                    task_id = await client.delay_with_callback("echo", HERE, 1)
                with suppress(NotDecodable, LinkError):
                    result = await client.submit_task("add", (1, 2))
                    assert result.result in (None, 3)
                with suppress(NotDecodable, LinkError):
                    await client.get_task_result(task_id)
                with suppress(NotDecodable, LinkError, TaskError):
                    await client._operations.describe_task(task_id)
                with suppress(NotDecodable, LinkError, TaskError):
                    async with client.stream("count", "x", 1) as values:
                        assert [each async for each in values] == [0]
        assert poisoner.count > 0
        assert not file.exists()
        poisoner.is_on = False
        await trio.sleep(60)
        async with world.client() as client:
            assert (await client.submit_task("add", (1, 2))).result == 3
    assert not file.exists()


@pytest.mark.trio
async def test_the_canary_sings_where_pickle_was_chosen(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    file = tmp_path / "canary"
    async with open_world(workers=0) as world:
        await world.start_worker(serialization_format="pickle")
        async with world.client(serialization_format="pickle") as client:
            result = await client.submit_task("echo", (Canary(file),))
        assert result.status is TaskStatus.SUCCESS
    assert file.exists()


def test_only_lanes_and_clients_decode_payloads() -> None:
    # X5 in docs/faults.md.
    """The control plane never does: what it is made of cannot even name the functions."""
    package = Path(fastworker.__file__).parent
    importers = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom)
        and node.module == "fastworker._serialization"
        and {"decode_arguments", "decode_result"} & {alias.name for alias in node.names}
    }
    assert importers == {"_lanes/_execution.py", "_outcomes.py"}
    loaders = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute)
        and node.attr in ("loads", "Unpickler")
        and isinstance(node.value, ast.Name)
        and node.value.id == "pickle"
    }
    assert loaders == {"_serialization.py"}
