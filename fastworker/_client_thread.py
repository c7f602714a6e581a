"""The thread behind a ``SyncClient``: a Trio loop in which other threads make calls.

It lives as long as the client is started. Every call is a child of a nursery
and has a cancel scope of its own, so a caller that is interrupted, or whose
task is cancelled, takes back what it asked for.
"""

from __future__ import annotations

import atexit
import queue
import threading
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from contextvars import copy_context
from functools import partial
from typing import Any, Final, Generic, TypeVar, cast

import trio

from fastworker._client import Client
from fastworker._errors import (
    ClientBroken,
    ClientClosed,
    FastWorkerError,
    ForkedClient,
    TaskCancelled,
)
from fastworker._lanes._abc import AttemptKey
from fastworker._lanes._context import current_attempt
from fastworker._process_id import current_pid

T = TypeVar("T")

# How long an interrupted caller waits until its task has been cancelled.
TAKE_BACK_SECONDS: Final = 1.0
# How long the end of the process waits for goodbyes; they take much less.
_EXIT_SECONDS: Final = 5.0


class Calls:
    """Where calls run, as long as there is a nursery; ``why_none`` says why there is none."""

    def __init__(self, why_none: Callable[[], Exception]) -> None:
        self.why_none = why_none
        self.nursery: trio.Nursery | None = None


class ClientThread:
    """One run of a client: connects, serves calls, says goodbye. From any thread.

    Args:
      client: not started. It belongs to this thread until that has ended.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._pid = current_pid()
        self._lock = threading.Lock()
        self._is_stopped = False
        self._token: trio.lowlevel.TrioToken | None = None
        self._start_scope = trio.CancelScope()
        self.stopping: trio.Event  # of the loop
        self.calls = Calls(self.why_closed)
        self._connected = threading.Event()
        self._error: BaseException | None = None
        # A daemon: a client that nobody stops must not hold the process.
        self._thread = threading.Thread(
            target=self._serve, name="fastworker-client", daemon=True
        )

    def start(self) -> None:
        """Start to connect; :meth:`wait_connected` tells how that went."""
        _running.add(self)
        self._thread.start()

    def wait_connected(self) -> None:
        """Wait until calls are taken.

        Raises:
          ClientClosed: it was stopped meanwhile.
          whatever the client raised when it was started.
        """
        self._connected.wait()
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        """Take no more calls, let those that wait raise ClientClosed. Idempotent."""
        with self._lock:
            self._is_stopped = True
            token = self._token
        if token is not None:
            try:
                token.run_sync_soon(self._stop)
            except trio.RunFinishedError:
                pass

    def join(self, timeout: float | None = None) -> None:
        """Wait until the thread has ended; it was stopped before."""
        if current_pid() == self._pid:
            self._thread.join(timeout)

    def call(
        self,
        work: Callable[[], Awaitable[T]],
        calls: Calls | None = None,
        *,
        task_of: Callable[[T], str] | None = None,
    ) -> T:
        """Have the loop await ``work()``, in this thread's context; return what it returns.

        If this is interrupted, by Ctrl-C or by what any other signal handler
        raises, the call is cancelled. Its task is taken back, and that is
        waited for, one second at most.

        Args:
          work: makes what is awaited.
          calls: where it runs; beside all others if not given.
          task_of: of a call that leaves a task behind, the id of that. Should the
            caller be interrupted when it has just been submitted, nobody would
            ever know it.

        Raises:
          TaskCancelled: the task that this thread belongs to was cancelled.
            What it asked for was taken back, as above.
          ClientClosed: the thread was stopped.
          ClientBroken: its loop has failed.
          ForkedClient: this is a fork of the process that has the thread.
          whatever ``work`` raises.
        """
        self.check_process()
        call: Call[T] = Call(work)
        self._connected.wait()
        token = self._token
        if token is None:
            raise self.why_closed()
        attempt = current_attempt.get()
        admit = partial(copy_context().run, self._admit, call, calls or self.calls)
        try:
            with (
                nullcontext()
                if attempt is None
                else attempt.calling_on_cancel(partial(self._stop_call, call, attempt.key))
            ):
                token.run_sync_soon(admit)
                call.wait()
        except trio.RunFinishedError:
            raise self.why_closed() from None
        except BaseException:
            try:
                token.run_sync_soon(call.scope.cancel)
                if not call.has_ended:  # its end may have been taken note of already
                    call.wait(TAKE_BACK_SECONDS)
                if task_of is not None and call.has_value:
                    taken: Call[None] = Call(partial(self._take_back, task_of(call.result())))
                    token.run_sync_soon(self._admit, taken, self.calls)
                    taken.wait()
            except (trio.RunFinishedError, queue.Empty):
                pass
            raise
        return call.result()

    def read(self, read: Callable[[], T]) -> T:
        """Call ``read`` between two steps of the loop, or here when that has ended.

        Raises:
          ForkedClient: this is a fork of the process that has the thread.
        """
        self.check_process()
        call: Call[T] = Call(read)
        token = self._token
        if token is None:
            return read()
        try:
            token.run_sync_soon(call.perform_now)
        except trio.RunFinishedError:
            return read()
        call.wait()
        return call.result()

    def check_process(self) -> None:
        """Raise ForkedClient in a fork of the process that has the thread."""
        if current_pid() != self._pid:
            raise ForkedClient(self._pid, current_pid())

    def _stop_call(self, call: Call[Any], key: AttemptKey) -> None:
        """The task that called was cancelled. From any thread."""
        assert self._token is not None
        error = TaskCancelled("this task was cancelled", task_id=key.task_id)
        try:
            self._token.run_sync_soon(call.stop, error)
        except trio.RunFinishedError:
            pass

    # --- in the thread ---

    def _serve(self) -> None:
        error: BaseException | None = None
        try:
            trio.run(self._main)
        except BaseException as raised:  # noqa: BLE001 - raised again in callers
            error = raised
        self._error = error or _closed()
        self._connected.set()
        _running.discard(self)

    async def _main(self) -> None:
        self.stopping = trio.Event()
        with self._lock:
            self._token = trio.lowlevel.current_trio_token()
            if self._is_stopped:
                return
        with self._start_scope:
            async with self._client:
                await self._take_calls()

    async def _take_calls(self) -> None:
        async with trio.open_nursery() as self.calls.nursery:
            self._connected.set()
            try:
                await self.stopping.wait()
            finally:
                self.calls.nursery = None
            self._client.stop()

    def _stop(self) -> None:
        if self._connected.is_set():
            self.stopping.set()
        else:
            self._start_scope.cancel()

    def _admit(self, call: Call[Any], calls: Calls) -> None:
        if calls.nursery is None:
            call.fail(calls.why_none())
        else:
            calls.nursery.start_soon(self.perform, call, calls)

    async def perform(self, call: Call[Any], calls: Calls) -> None:
        """Await one call; it has its end then, whatever happens."""
        try:
            with call.scope:
                await call.perform()
            if call.scope.cancelled_caught:
                with trio.move_on_after(TAKE_BACK_SECONDS):
                    await self._client._wait_taken_back()
        finally:
            call.fail(calls.why_none())  # unless it has ended

    async def _take_back(self, task_id: str) -> None:
        with trio.move_on_after(TAKE_BACK_SECONDS):
            await self._client._usable_session().cancels.request(task_id).wait()

    def why_closed(self) -> FastWorkerError:
        """What calls raise that come too late."""
        if not isinstance(self._error, Exception) or isinstance(self._error, FastWorkerError):
            return _closed()
        broken = ClientBroken(f"the client's thread failed: {self._error!r}")
        broken.__cause__ = self._error
        return broken


class Call(Generic[T]):
    """What one thread asks of the loop, and the way back."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self.scope = trio.CancelScope()
        self._work = work
        self._value: T | None = None
        self._error: Exception | None = None
        self._stopped_by: Exception | None = None
        self.has_ended = False
        # Waiting for it ends by signals, and it is thread-safe to the last.
        self._ended: queue.SimpleQueue[None] = queue.SimpleQueue()

    def wait(self, timeout: float | None = None) -> None:
        self._ended.get(timeout=timeout)

    def result(self) -> T:
        if self._error is not None:
            try:
                raise self._error
            finally:
                self._error = None  # it holds this frame, and the frame holds us
        return cast(T, self._value)

    @property
    def has_value(self) -> bool:
        """Whether it has ended, and well."""
        return self.has_ended and self._error is None

    # --- in the loop ---

    async def perform(self) -> None:
        try:
            self._value = await self._work()
        except Exception as error:  # noqa: BLE001 - raised again in the caller
            self._error = error
        self._end()

    def perform_now(self) -> None:
        try:
            self._value = self._work()
        except Exception as error:  # noqa: BLE001 - raised again in the caller
            self._error = error
        self._end()

    def stop(self, error: Exception) -> None:
        """Cancel it; the caller gets this error, unless it has its answer."""
        self._stopped_by = error
        self.scope.cancel()

    def fail(self, error: Exception) -> None:
        """Let the caller raise, unless it has its answer."""
        if not self.has_ended:
            self._error = self._stopped_by or error
            self._end()

    def _end(self) -> None:
        self.has_ended = True
        self._ended.put(None)


def _closed() -> ClientClosed:
    return ClientClosed("the client was stopped")


_running: set[ClientThread] = set()


def _stop_all() -> None:
    """Before the interpreter goes: afterwards a thread would find nothing left to run on."""
    threads = [thread for thread in list(_running) if thread._pid == current_pid()]
    for thread in threads:
        thread.stop()
    for thread in threads:
        thread.join(_EXIT_SECONDS)


atexit.register(_stop_all)
