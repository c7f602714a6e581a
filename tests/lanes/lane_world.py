"""A lane, a link loop and a referee: what the lane tests are written against.

The same test runs on all lanes, so functions and gates are made here in the
form that the lane needs. The referee reads every event and fails the test as
soon as the contract is broken, whatever the test itself asks.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import os
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Any

import trio

from fastworker._lanes import make_lane
from fastworker._lanes._abc import (
    Attempt,
    AttemptEnded,
    AttemptKey,
    AttemptPaused,
    AttemptProgressed,
    AttemptStarted,
    AttemptYielded,
    InProcess,
    Lane,
    LaneEvent,
)
from fastworker._lanes._context import check_cancelled, waiting_for_others
from fastworker._lanes._inline import InlineLane
from fastworker._lanes._sink import TrioSink
from fastworker._models import SerializationFormat
from fastworker._registry import registry
from fastworker._serialization import FORMAT_IDS, decode_result, encode_arguments
from tests.lanes.process_tasks import process_hold

KINDS = ("thread", "trio", "asyncio", "inline")
# Nothing waits this long unless it is broken.
GUARD = 5.0
# Nor this long when interpreters have to be started.
PROCESS_GUARD = 30.0
JSON = frozenset({SerializationFormat.JSON})
BOTH = frozenset(SerializationFormat)


class Gate:
    """Holds functions up, in whatever thread or loop they run, until it opens."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_open = False
        self._openers: list[Callable[[], object]] = []

    def open(self) -> None:
        with self._lock:
            self._is_open = True
            openers, self._openers = self._openers, []
        for opener in openers:
            with suppress(RuntimeError):  # a loop that has ended by now
                opener()

    def wait_in_thread(self) -> None:
        event = threading.Event()
        if self._must_wait(event.set):
            assert event.wait(GUARD), "the gate was never opened"

    async def wait_in_trio(self) -> None:
        event = trio.Event()
        token = trio.lowlevel.current_trio_token()
        if self._must_wait(lambda: token.run_sync_soon(event.set)):
            await event.wait()

    async def wait_in_asyncio(self) -> None:
        event = asyncio.Event()
        loop = asyncio.get_running_loop()
        if self._must_wait(lambda: loop.call_soon_threadsafe(event.set)):
            await event.wait()

    def _must_wait(self, opener: Callable[[], object]) -> bool:
        with self._lock:
            if not self._is_open:
                self._openers.append(opener)
            return not self._is_open


class ProcessGate(Gate):
    """A gate for functions in other processes: they wait on a socket of it."""

    _numbers = itertools.count()

    def __init__(self) -> None:
        super().__init__()
        self.address = f"fastworker-gate-{os.getpid()}-{next(self._numbers)}"
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind("\0" + self.address)
        self._socket.listen(100)

    def open(self) -> None:
        self._socket.close()  # and with it all connections, as none was accepted


class World:
    """The link loop's side of one lane, with a referee over all events."""

    def __init__(self, kind: str, lane: Lane, sink: TrioSink) -> None:
        self.kind = kind
        self.lane = lane
        self.sink = sink
        self.submitted: list[AttemptKey] = []
        self.taken_back: list[AttemptKey] = []
        self.started: list[AttemptKey] = []
        self.ended: dict[AttemptKey, AttemptEnded] = {}
        self.progressed: list[AttemptProgressed] = []
        self.paused: list[AttemptPaused] = []
        self.yielded: dict[AttemptKey, list[Any]] = {}
        self.waiting: set[AttemptKey] = set()  # have lent their slots
        self.lent: set[AttemptKey] = set()  # have ever done so
        self._gates: list[Gate] = []
        self._guard = PROCESS_GUARD if kind == "process" else GUARD

    # --- functions in the form of the lane -----------------------------------

    def gate(self) -> Gate:
        """Make a gate that is open at the latest when the test has ended."""
        gate = ProcessGate() if self.kind == "process" else Gate()
        self._gates.append(gate)
        return gate

    def open_gates(self) -> None:
        for gate in self._gates:
            gate.open()

    def function(self, body: Callable[..., Any]) -> Callable[..., Any]:
        """Make a task function of the lane's kind out of a plain one.

        Other processes have to import it, so there it must be one already.
        """
        if self.kind in ("thread", "process"):
            return body

        async def function(*args: Any, **kwargs: Any) -> Any:
            return body(*args, **kwargs)

        return function

    def holding(self, gate: Gate, body: Callable[[], Any] = lambda: None) -> Callable[..., Any]:
        """Make a task function that waits, lets itself be cancelled, then calls."""
        if isinstance(gate, ProcessGate):
            return functools.partial(process_hold, gate.address)
        if self.kind == "thread":

            def hold() -> Any:
                gate.wait_in_thread()
                check_cancelled()
                return body()

            return hold

        async def hold_async() -> Any:
            if self.kind == "asyncio":
                await gate.wait_in_asyncio()
            else:
                await gate.wait_in_trio()
            return body()

        return hold_async

    def lending(
        self,
        child: Gate,
        then: Gate | None = None,
        ask: Callable[[], object] = lambda: None,
        body: Callable[[], Any] = lambda: None,
    ) -> Callable[..., Any]:
        """Make a task function that lends its slot while it waits for ``child``.

        ``ask`` is called before; ``then`` is a gate to wait for in its own slot.
        """
        if self.kind == "thread":

            def lend() -> Any:
                with waiting_for_others():
                    ask()
                    child.wait_in_thread()
                if then is not None:
                    then.wait_in_thread()
                return body()

            return lend

        async def lend_async() -> Any:
            is_asyncio = self.kind == "asyncio"
            with waiting_for_others():
                ask()
                await (child.wait_in_asyncio() if is_asyncio else child.wait_in_trio())
            if then is not None:
                await (then.wait_in_asyncio() if is_asyncio else then.wait_in_trio())
            return body()

        return lend_async

    # --- what the link loop does ---------------------------------------------

    def attempt(
        self,
        function: Callable[..., Any],
        *args: Any,
        format: SerializationFormat = SerializationFormat.JSON,
        **kwargs: Any,
    ) -> Attempt:
        key = AttemptKey(f"task-{len(self.submitted):04}", 1, 1)
        self.submitted.append(key)
        if self.kind != "process":
            payload = encode_arguments(args, kwargs, format)
            return Attempt(key, "a-name", function, payload, FORMAT_IDS[format])
        if isinstance(function, functools.partial):
            function, args = function.func, (*function.args, *args)
        payload = encode_arguments(args, kwargs, format)
        known = registry.find(registry.name_of(function))
        process = InProcess(
            known.module,
            known.loop_for("trio") or "",
            known.options.memory_bytes,
            known.options.recycle_after,
        )
        return Attempt(key, known.name, function, payload, FORMAT_IDS[format], process=process)

    def submit(self, function: Callable[..., Any], *args: Any, **options: Any) -> AttemptKey:
        attempt = self.attempt(function, *args, **options)
        self.lane.submit([attempt])
        return attempt.key

    def submit_many(self, functions: Iterable[Callable[..., Any]]) -> list[AttemptKey]:
        attempts = [self.attempt(function) for function in functions]
        self.lane.submit(attempts)
        return [attempt.key for attempt in attempts]

    def take_back(self) -> list[AttemptKey]:
        keys = self.lane.take_back()
        self.taken_back += keys
        return keys

    async def receive_until(self, is_enough: Callable[[], bool]) -> None:
        with trio.fail_after(self._guard):
            while not is_enough():
                self._judge(await self.sink.receive())

    async def result(self, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """Run one attempt and return its decoded value."""
        ended = await self.outcome(function, *args, **options)
        assert ended.kind == 0, ended
        return decode_result(ended.payload, SerializationFormat.JSON)

    async def outcome(
        self, function: Callable[..., Any], *args: Any, **options: Any
    ) -> AttemptEnded:
        return await self.end_of(self.submit(function, *args, **options))

    async def end_of(self, key: AttemptKey) -> AttemptEnded:
        await self.receive_until(lambda: key in self.ended)
        return self.ended[key]

    async def start_of(self, key: AttemptKey) -> None:
        await self.receive_until(lambda: key in self.started)

    async def pause_of(self, key: AttemptKey) -> None:
        await self.receive_until(lambda: key in self.waiting)

    async def resumption_of(self, key: AttemptKey) -> None:
        await self.receive_until(lambda: key in self.lent and key not in self.waiting)

    def look(self) -> None:
        """Take the events that are there, if any."""
        self._judge(self.sink.receive_nowait())

    def values(self, key: AttemptKey) -> list[Any]:
        """What its generator has yielded so far."""
        return self.yielded.get(key, [])

    async def all_accounted_for(self) -> None:
        total = len(self.submitted)
        await self.receive_until(lambda: len(self.ended) + len(self.taken_back) == total)
        assert sorted([*self.ended, *self.taken_back]) == sorted(self.submitted)

    async def finish(self) -> None:
        """Close the lane, wait for its threads, and hear the last events."""
        self.lane.close()
        self.open_gates()
        if self.kind == "inline":
            await self.receive_until(lambda: self.lane.join(0))
        else:
            assert await trio.to_thread.run_sync(self.lane.join, self._guard), "threads live on"
        self._judge(self.sink.receive_nowait())
        assert set(self.started) <= set(self.ended), "started, but never ended"

    # --- the referee -----------------------------------------------------------

    def _judge(self, events: list[LaneEvent]) -> None:
        for event in events:
            key = event.key
            assert key in self.submitted, f"{key} was never submitted"
            assert key not in self.taken_back, f"{key} was taken back, and posted {event}"
            assert key not in self.ended, f"{key} posted something after its end"
            if isinstance(event, AttemptStarted):
                assert key not in self.started, f"{key} started twice"
                self.started.append(key)
                # What has waited ran beside the one that its slot was lent to.
                running = set(self.started) - set(self.ended) - self.lent
                count = len(running)
                assert count <= self.lane.slots, f"{count} run at the same time"
            elif isinstance(event, AttemptProgressed):
                assert key in self.started
                self.progressed.append(event)
            elif isinstance(event, AttemptPaused):
                assert key in self.started
                assert event.is_waiting is (key not in self.waiting), "waits twice"
                self.lent.add(key)
                self.waiting ^= {key}
                self.paused.append(event)
            elif isinstance(event, AttemptYielded):
                assert key in self.started
                values = self.yielded.setdefault(key, [])
                assert event.index == len(values)
                assert event.format == 1
                values.append(decode_result(event.payload, SerializationFormat.JSON))
            else:
                assert isinstance(event, AttemptEnded)
                assert (key in self.started) == (event.started_wall > 0)
                assert event.wall >= event.started_wall
                assert event.seconds >= 0
                assert "\n" not in event.error
                assert len(event.error) <= 1000
                assert len(event.traceback.encode()) <= 64 * 1024
                self.ended[key] = event


@asynccontextmanager
async def open_world(
    kind: str,
    *,
    slots: int = 1,
    accepted_formats: frozenset[SerializationFormat] = JSON,
    start: bool = True,
) -> AsyncIterator[World]:
    sink = TrioSink()
    async with trio.open_nursery() as nursery:
        lane: Lane
        if kind == "inline":
            lane = InlineLane(nursery, slots, sink, accepted_formats)
        else:
            lane = make_lane(kind, slots, sink, accepted_formats)
        world = World(kind, lane, sink)
        if start:
            lane.start()
        try:
            yield world
        finally:
            with trio.CancelScope(shield=True):
                await world.finish()
