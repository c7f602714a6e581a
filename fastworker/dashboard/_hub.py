"""Asks the control plane once for all browsers, and wakes them when there is news.

What they are told, and when, is decided in ``_broadcast.py``; this shell keeps the time
and waits. One sampler asks every second, seen or not, so that the charts are there when
somebody comes. Changes of tasks are listened to only while somebody watches them. It
runs under Trio and asyncio.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Final

import anyio

from fastworker._client import Client
from fastworker._client_host import Host, current_loop
from fastworker._core._stored import TaskRow
from fastworker._errors import FastWorkerError
from fastworker._task_events import EventStream
from fastworker._task_views import row_as_json
from fastworker.dashboard._broadcast import MAX_TASKS, UPDATE_SECONDS, Broadcast
from fastworker.dashboard._history import History
from fastworker.dashboard._outbox import Outbox

log = logging.getLogger("fastworker.dashboard")

SAMPLE_SECONDS: Final = 1.0
# After so long without an answer browsers are told.
PATIENCE: Final = 3.0
MAX_BROWSERS: Final = 100


class TooManyBrowsers(Exception):
    """As many live connections are open as there may be."""


class Connection:
    """One browser: what it is to be sent, one after the other.

    Attributes:
      ended: is set when the browser is given up, or the hub ends; ``is_too_slow`` tells
        which.
    """

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._news = anyio.Event()
        self.ended = anyio.Event()

    @property
    def is_too_slow(self) -> bool:
        """Whether too much waited for it."""
        return self._outbox.is_too_slow

    async def next(self) -> str:
        """Wait for the next message, for ever once it has ended.

        Cancellation:
          A checkpoint if there is no message. No message is lost.
        """
        while True:
            message = self._outbox.pop()
            if message is not None:
                return message
            self._news = anyio.Event()
            await self._news.wait()

    def wake(self) -> None:
        """There may be something to do."""
        if self._outbox.is_too_slow:
            self.ended.set()
        elif self._outbox:
            self._news.set()


class Hub:
    """See the module's first lines.

    Args:
      get_client: gives a client that is started; called for every question, so that it
        may be another one than before.
    """

    def __init__(self, get_client: Callable[[], Awaitable[Client]]) -> None:
        self._get_client = get_client
        self.history = History()
        self._broadcast: Broadcast[TaskRow] = Broadcast(self.history, row_as_json)
        self._connections: dict[Connection, Outbox] = {}
        self._is_closed = False
        self._host: Host | None = None
        self._loop: object = None
        self._wakes_sampler = anyio.Event()
        self._wakes_flusher = anyio.Event()
        self._wakes_listener = anyio.Event()

    # --- life ---

    def start(self) -> None:
        """Ask and tell in the background of this event loop, if that is not so already."""
        loop = current_loop()
        if self._host is not None and self._loop is loop:
            return
        self._is_closed = False
        self._loop = loop
        host = self._host = Host(lambda: self._run_guarded(host))
        host.open()

    def start_if_new(self) -> None:
        """As :meth:`start`, but not after a :meth:`close` in this event loop."""
        if not (self._is_closed and self._loop is current_loop()):
            self.start()

    def close(self) -> None:
        """End all connections, and those that come yet; ask no more. Returns at once."""
        self._is_closed = True
        for connection in self._connections:
            connection.ended.set()
        host, self._host = self._host, None
        if host is not None and self._loop is current_loop():
            host.cancel()

    async def aclose(self) -> None:
        """As :meth:`close`, and wait until nothing goes on in the background."""
        host = self._host
        is_here = host is not None and self._loop is current_loop()
        self.close()
        await anyio.lowlevel.checkpoint()
        if host is not None and is_here:
            await host.wait_ended()

    async def _run_guarded(self, host: Host) -> None:
        """Nothing may escape into the event loop; a mistake here ends only the feed."""
        try:
            await self.run()
        except* Exception:
            log.exception("the live feed has ended; the next browser starts it again")
        finally:
            if self._host is host:
                self._host = None

    # --- browsers ---

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """Begin with a browser; the block is its life.

        Raises:
          TooManyBrowsers: there is no room for another.
        """
        if len(self._connections) >= MAX_BROWSERS:
            raise TooManyBrowsers(f"{MAX_BROWSERS} live connections are open")
        outbox = self._broadcast.join(now=anyio.current_time())
        connection = Connection(outbox)
        self._connections[connection] = outbox
        if self._is_closed:
            connection.ended.set()
        # The workers are not known if nobody was there: he need not wait for a second.
        self._wakes_sampler.set()
        self._wakes_flusher.set()
        try:
            yield connection
        finally:
            del self._connections[connection]
            self._broadcast.leave(outbox)
            self._wakes_listener.set()

    def watch(self, connection: Connection, *, tasks: bool) -> None:
        """Say whether a browser is to be told of tasks."""
        self._broadcast.watch(self._connections[connection], tasks=tasks)
        self._wakes_listener.set()

    # --- asking ---

    async def run(self) -> None:
        """Ask and tell until cancelled. A control plane that is away is waited for.

        Cancellation:
          All connections end.
        """
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._sample_for_ever)
                tasks.start_soon(self._flush_for_ever)
                tasks.start_soon(self._listen_for_ever)
        finally:
            for connection in self._connections:
                connection.ended.set()

    async def _sample_for_ever(self) -> None:
        while True:
            next_at = anyio.current_time() + SAMPLE_SECONDS
            self._wakes_sampler = anyio.Event()
            await self._sample()
            self._wakes_flusher.set()
            with anyio.CancelScope(deadline=next_at):
                await self._wakes_sampler.wait()
                if self._broadcast.has_snapshot:
                    await anyio.sleep_until(next_at)

    async def _sample(self) -> None:
        with anyio.move_on_after(PATIENCE) as patience:
            try:
                client = await self._get_client()
                overview = await client._operations.overview()
                series = None
                if self.history.needs_series(overview):
                    series = await client._operations.metrics()
                workers = None
                if self._broadcast.has_browsers:
                    workers = await client._operations.workers()
            except FastWorkerError as error:
                self._broadcast.note_lost(f"the control plane does not answer: {error}")
                return
            point = self.history.add(overview, series, now=anyio.current_time())
            self._broadcast.note_sample(overview, workers, point)
        if patience.cancelled_caught:
            self._broadcast.note_lost("the control plane does not answer")

    async def _flush_for_ever(self) -> None:
        while True:
            self._wakes_flusher = anyio.Event()
            self._broadcast.flush(now=anyio.current_time())
            for connection in list(self._connections):
                connection.wake()
            with anyio.CancelScope(deadline=self._broadcast.due_at):
                await self._wakes_flusher.wait()

    # --- changes of tasks ---

    async def _listen_for_ever(self) -> None:
        while True:
            await self._wait_until_watched(True)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._listen)
                await self._wait_until_watched(False)
                tasks.cancel_scope.cancel()

    async def _wait_until_watched(self, is_watched: bool) -> None:
        while self._broadcast.wants_tasks is not is_watched:
            self._wakes_listener = anyio.Event()
            await self._wakes_listener.wait()

    async def _listen(self) -> None:
        while True:
            try:
                client = await self._get_client()
                async with client.events(
                    max_buffered=MAX_TASKS, min_interval=UPDATE_SECONDS
                ) as events:
                    await self._read(events)
            except FastWorkerError:
                # The sampler tells browsers. The changes until it is back are not known.
                await anyio.sleep(SAMPLE_SECONDS)

    async def _read(self, events: EventStream) -> None:
        dropped = 0
        while True:
            for row in await events._read_rows():
                self._broadcast.note_task(row.task_id, row)
            self._broadcast.note_dropped_tasks(events.dropped - dropped)
            dropped = events.dropped
            self._wakes_flusher.set()
