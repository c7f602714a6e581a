"""``SyncClient``: the calls of ``Client`` without ``await``, for scripts, Flask and Django.

It is a ``Client`` in a thread with a Trio loop (``_client_thread.py``); here is
what its callers see, and which thread and process may do what.
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from functools import partial
from types import TracebackType
from typing import Any, TypeVar

from fastworker._cancel_outcome import CancelOutcome
from fastworker._client import Client
from fastworker._client_thread import ClientThread
from fastworker._core._client import ClientStatistics
from fastworker._credentials import Auth
from fastworker._errors import ClientClosed, ForkedClient
from fastworker._models import (
    SerializationFormat,
    TaskFunctionInfo,
    TaskPriority,
    TaskResult,
    TaskStatus,
)
from fastworker._process_id import current_pid
from fastworker._registry import Registry, registry
from fastworker._submitter import Submitter
from fastworker._sync_events import SyncEventStream
from fastworker._sync_stream import OpenSyncBlock
from fastworker._sync_submitter import SyncSubmitter
from fastworker._task_events import OneOrMore
from fastworker._task_function import Backend
from fastworker._tls import Tls

T = TypeVar("T")


class SyncClient(SyncSubmitter):
    """Submits tasks and waits for them, in programs that have no event loop.

    Use it as ``with SyncClient() as client``, or with :meth:`start` and
    :meth:`close`. Any thread may use it, and each waits only for its own
    calls. While it is started it has one thread of its own. A started client
    that nobody stops neither holds the end of the program nor says a word.

    Ctrl-C in a call that waits takes its task back, as the cancellation of the
    same call of :class:`Client` does, and waits until it has been cancelled,
    one second at most; then KeyboardInterrupt goes on. The same holds for
    whatever else a signal handler raises. In a ``def`` task, the cancellation of
    that task does it too, and the call raises TaskCancelled.

    It belongs to the process it was started in: in a fork of that, every call
    raises ForkedClient. Servers that fork their workers start it afterwards.

    Args:
      discovery_address, serialization_format, timeout: as for :class:`Client`.
      retries, connect_timeout, auth, tls: as for :class:`Client`.

    Raises:
      ConfigurationError: a value cannot be used.
    """

    def __init__(
        self,
        discovery_address: str | None = None,
        serialization_format: SerializationFormat | str | None = None,
        timeout: float | None = None,
        retries: int | None = None,
        *,
        connect_timeout: float | None = None,
        auth: Auth = None,
        tls: Tls = None,
    ) -> None:
        self._adopt(
            Client(
                discovery_address,
                serialization_format,
                timeout,
                retries,
                connect_timeout=connect_timeout,
                auth=auth,
                tls=tls,
            )
        )

    @classmethod
    def local(
        cls,
        *task_modules: str,
        concurrency: int | None = None,
        backend: Backend | None = None,
        timeout: float | None = None,
        serialization_format: SerializationFormat | str | None = None,
        registry: Registry = registry,
    ) -> SyncClient:
        """Make a client with a control plane of its own, in this process and without ports.

        ``with SyncClient.local("mytasks") as client:``; everything else is as
        for :func:`fastworker.local`.

        Raises:
          ConfigurationError: a module is missing or failed, or a value cannot
            be used. Nothing was started.
        """
        from fastworker._local import local  # only here is a control plane needed

        client = cls.__new__(cls)
        client._adopt(
            local(
                *task_modules,
                concurrency=concurrency,
                backend=backend,
                timeout=timeout,
                serialization_format=serialization_format,
                registry=registry,
            )
        )
        return client

    def _adopt(self, client: Client) -> None:
        self._client = client
        self._lock = threading.Lock()
        self._thread: ClientThread | None = None  # the latest one
        self._is_started = False
        self._pid = 0  # of the process that started it

    def __repr__(self) -> str:
        return repr(self._client).replace("Client", "SyncClient")

    # --- life ---

    def start(self) -> None:
        """Connect to the control plane.

        Does nothing if the client is started already. It may be started again
        after :meth:`stop`.

        Raises:
          ControlPlaneUnreachable: none was found within ``connect_timeout``
            seconds. Nothing is left behind.
          LinkBroken: the control plane refused this client.
          ClientClosed: it was stopped meanwhile.
          ForkedClient: this is a fork of a process that had started a client.
        """
        self._check_process()
        with self._lock:
            thread = self._thread
            if thread is None or not self._is_started:
                if thread is not None:
                    thread.join()  # it may still say goodbye
                self._pid = current_pid()
                thread = self._thread = ClientThread(self._client)
                thread.start()
                self._is_started = True
        try:
            thread.wait_connected()
        except BaseException:
            self._stop(thread)
            thread.join()
            raise

    def stop(self) -> None:
        """Stop the client and return at once; calls that wait raise ClientClosed.

        Outcomes that have arrived stay readable. Idempotent. The goodbye to
        the control plane is said in the background; :meth:`close` waits for it.
        """
        if self._thread is not None:
            self._stop(self._thread)

    def close(self) -> None:
        """Stop the client and wait, about half a second at most, until it has ended.

        With a control plane of its own, that has ended as well.
        """
        self.stop()
        if self._thread is not None:
            self._thread.join()

    def __enter__(self) -> SyncClient:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # --- cancelling and asking ---

    def get_task_result(self, task_id: str) -> TaskResult | None:
        """Ask the control plane for a task, anybody's, in whatever state.

        Returns, Raises: as for :meth:`Client.get_task_result`.
        """
        return self._call(partial(self._client.get_task_result, task_id))

    def cancel(self, task_id: str, grace: float | None = None) -> CancelOutcome:
        """Have a task stopped, anybody's, and wait until it is known what came of it.

        Args, Returns, Raises: as for :meth:`Client.cancel`. Interrupted, it
        waits no longer; the task is being cancelled all the same.
        """
        return self._call(partial(self._client.cancel, task_id, grace))

    def list_task_functions(self) -> list[TaskFunctionInfo]:
        """Ask the control plane for the task functions that its live workers know.

        Returns, Raises: as for :meth:`Client.list_task_functions`.
        """
        return self._call(self._client.list_task_functions)

    def events(
        self,
        *,
        statuses: OneOrMore[TaskStatus | str] = (),
        names: OneOrMore[str | Callable[..., Any]] = (),
        worker: str | None = None,
        task_ids: OneOrMore[str] = (),
        priorities: OneOrMore[TaskPriority | int | str] = (),
        max_buffered: int = 1_000,
        min_interval: float = 0.1,
    ) -> AbstractContextManager[SyncEventStream]:
        """Hear of changes of tasks, anybody's, while they happen.

        ``with client.events() as events: for change in events: ...``.

        Args, Raises: as for :meth:`Client.events`.
        """
        thread = self._usable_thread()
        manager = self._client.events(
            statuses=statuses,
            names=names,
            worker=worker,
            task_ids=task_ids,
            priorities=priorities,
            max_buffered=max_buffered,
            min_interval=min_interval,
        )
        return OpenSyncBlock(thread, manager, SyncEventStream)

    def get_result(self, task_id: str) -> TaskResult | None:
        """Return the outcome of a task of this client, None if it has none here (yet).

        Raises:
          NotDecodable: the value is in a format this client does not accept.
          ForkedClient: this is a fork of the process that started the client.
        """
        return self._read(partial(self._client.get_result, task_id))

    def get_status(self, task_id: str) -> TaskStatus | None:
        """Return the latest status of a task of this client, None for others.

        Raises:
          ForkedClient: this is a fork of the process that started the client.
        """
        return self._read(partial(self._client.get_status, task_id))

    def statistics(self) -> ClientStatistics:
        """Return a snapshot.

        Raises:
          ForkedClient: this is a fork of the process that started the client.
        """
        return self._read(self._client.statistics)

    # --- inside ---

    def _stop(self, thread: ClientThread) -> None:
        # In a fork there is no such thread, and a lock may be held for ever.
        if current_pid() == self._pid:
            with self._lock:
                if thread is self._thread:
                    self._is_started = False
            thread.stop()

    @property
    def _owner(self) -> SyncClient:
        return self

    @property
    def _submitter(self) -> Submitter:
        return self._client

    def _usable_thread(self) -> ClientThread:
        self._check_process()
        thread = self._thread
        if thread is None or not self._is_started:
            raise ClientClosed(
                "the client is not started; use 'with client' or 'client.start()'"
            )
        return thread

    def _call(self, work: Callable[[], Awaitable[T]]) -> T:
        return self._usable_thread().call(work)

    def _read(self, read: Callable[[], T]) -> T:
        self._check_process()
        return read() if self._thread is None else self._thread.read(read)

    def _check_process(self) -> None:
        if self._pid not in (0, current_pid()):
            raise ForkedClient(self._pid, current_pid())
