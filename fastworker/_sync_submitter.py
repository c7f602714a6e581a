"""Everything that submits, for threads without an event loop: as ``_submitter.py``.

A :class:`SyncClient` is one, with no options; ``client.options(...)`` makes others.
"""

from __future__ import annotations

import abc
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from fastworker._call_settings import WhenFull
from fastworker._models import TaskPriority, TaskResult
from fastworker._submitter import Submitter
from fastworker._sync_group import OpenSyncGroup, OpenSyncMap, SyncTaskGroup, SyncValues
from fastworker._sync_handle import SyncTaskHandle
from fastworker._sync_stream import OpenSyncBlock, SyncStream
from fastworker._task_group import OnError

if TYPE_CHECKING:
    from fastworker._sync_client import SyncClient

P = ParamSpec("P")
T = TypeVar("T")


class SyncSubmitter(abc.ABC):
    """See the module's first lines."""

    @property
    @abc.abstractmethod
    def _owner(self) -> SyncClient:
        """The client that the calls go through."""

    @property
    @abc.abstractmethod
    def _submitter(self) -> Submitter:
        """The one of the async client, in whose loop everything happens."""

    def options(
        self,
        *,
        priority: TaskPriority | int | str | None = None,
        timeout: float | None = None,
        grace: float | None = None,
        expires: float | None = None,
        max_retries: int | None = None,
        retry_delay: float | None = None,
        backoff: float | None = None,
        max_delay: float | None = None,
        jitter: float | None = None,
        buffer: int | None = None,
        idempotency_key: str | None = None,
        idempotency_ttl: float | None = None,
        task_id: str | None = None,
        when_full: WhenFull | None = None,
    ) -> SyncClientWithOptions:
        """Make a view of this client whose calls want some things otherwise.

        ``client.options(priority="high", max_retries=3).submit(add, 1, 2)``.

        Args, Raises: as for :meth:`Client.options`.
        """
        view = self._submitter.options(
            priority=priority,
            timeout=timeout,
            grace=grace,
            expires=expires,
            max_retries=max_retries,
            retry_delay=retry_delay,
            backoff=backoff,
            max_delay=max_delay,
            jitter=jitter,
            buffer=buffer,
            idempotency_key=idempotency_key,
            idempotency_ttl=idempotency_ttl,
            task_id=task_id,
            when_full=when_full,
        )
        return SyncClientWithOptions(self._owner, view)

    # --- submitting ---

    @overload
    def delay(
        self,
        task_name: str,
        *args: Any,
        priority: TaskPriority | int | str = TaskPriority.NORMAL,
        **kwargs: Any,
    ) -> str: ...

    @overload
    def delay(self, task_name: Callable[P, Any], *args: P.args, **kwargs: P.kwargs) -> str: ...

    def delay(self, task_name: Any, *args: Any, **kwargs: Any) -> str:
        """Submit a task and return its id as soon as the control plane has it.

        Args, Raises: as for :meth:`Client.delay`. Interrupted, it takes the
        task back.
        """
        submit = partial(self._submitter.delay, task_name, *args, **kwargs)
        return self._owner._usable_thread().call(submit, task_of=str)

    @overload
    def delay_with_callback(
        self,
        task_name: str,
        callback_address: str,
        *args: Any,
        callback_data: dict[str, Any] | None = None,
        priority: TaskPriority | int | str = TaskPriority.NORMAL,
        **kwargs: Any,
    ) -> str: ...

    @overload
    def delay_with_callback(
        self,
        task_name: Callable[P, Any],
        callback_address: str,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> str: ...

    def delay_with_callback(
        self, task_name: Any, callback_address: str, *args: Any, **kwargs: Any
    ) -> str:
        """Submit a task as :meth:`delay` does; its end is told to an address.

        Args, Raises: as for :meth:`Client.delay_with_callback`.
        """
        submit = self._submitter.delay_with_callback
        work = partial(submit, task_name, callback_address, *args, **kwargs)
        return self._owner._usable_thread().call(work, task_of=str)

    def submit_task(
        self,
        task_name: str | Callable[..., Any],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
        priority: TaskPriority | int | str | None = None,
    ) -> TaskResult:
        """Submit a task and wait for its outcome, at most ``timeout`` seconds.

        Returns, Raises: as for :meth:`Client.submit_task`. Interrupted, it
        takes the task back.
        """
        return self._owner._call(
            partial(self._submitter.submit_task, task_name, args, kwargs, priority)
        )

    @overload
    def submit(
        self, task: Callable[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs
    ) -> SyncTaskHandle[T]: ...

    @overload
    def submit(
        self, task: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> SyncTaskHandle[T]: ...

    @overload
    def submit(self, task: str, *args: Any, **kwargs: Any) -> SyncTaskHandle[Any]: ...

    def submit(self, task: Any, *args: Any, **kwargs: Any) -> SyncTaskHandle[Any]:
        """Submit a task and return a handle as soon as the control plane has it.

        All arguments are the task's; priority and the like are
        :meth:`options`. The task is cancelled if this client is gone for 30 s.

        Args, Raises: as for :meth:`Client.submit`. Interrupted, it takes the
        task back.
        """
        thread = self._owner._usable_thread()
        submit = partial(self._submitter._submit, task, args, kwargs)
        return SyncTaskHandle(thread, thread.call(submit, task_of=lambda handle: handle.id))

    # --- many ---

    def open_task_group(
        self,
        *,
        max_in_flight: int = 64,
        on_error: OnError = "cancel",
        first: int | None = None,
    ) -> AbstractContextManager[SyncTaskGroup]:
        """Open a block that ends when none of its tasks runs anywhere any more.

        ``with client.open_task_group() as group: group.submit(add, 1, 2)``. An
        error of the body, Ctrl-C, and the cancellation of the task that has
        opened it cancel all tasks under way. After Ctrl-C that is waited for
        one second at most; else until each has its outcome.

        Args, Raises: as for :meth:`Client.open_task_group`. The first failure
        cannot stop the body; but each call of the group raises TaskCancelled
        then, and the block raises the failures in its place.
        """
        return OpenSyncGroup(
            self._owner._usable_thread(),
            self._submitter,
            max_in_flight=max_in_flight,
            on_error=on_error,
            first=first,
        )

    @overload
    def map(
        self,
        task: Callable[[Any], Coroutine[Any, Any, T]],
        items: Iterable[Any],
        *,
        max_in_flight: int = 64,
        ordered: bool = True,
        on_error: OnError = "cancel",
    ) -> AbstractContextManager[SyncValues[T]]: ...

    @overload
    def map(
        self,
        task: Callable[[Any], T],
        items: Iterable[Any],
        *,
        max_in_flight: int = 64,
        ordered: bool = True,
        on_error: OnError = "cancel",
    ) -> AbstractContextManager[SyncValues[T]]: ...

    @overload
    def map(
        self,
        task: str,
        items: Iterable[Any],
        *,
        max_in_flight: int = 64,
        ordered: bool = True,
        on_error: OnError = "cancel",
    ) -> AbstractContextManager[SyncValues[Any]]: ...

    def map(
        self,
        task: Any,
        items: Iterable[Any],
        *,
        max_in_flight: int = 64,
        ordered: bool = True,
        on_error: OnError = "cancel",
    ) -> AbstractContextManager[SyncValues[Any]]:
        """Run a task for each item, so many at a time, and give their values.

        ``with client.map(score, names) as scores: for score in scores: ...``.
        Items are taken in the thread that reads the values, while it waits for
        one, so they may come from a database cursor or a file of its own, and
        there may be any number of them. Leaving the block early cancels what
        is under way.

        Args, Raises: as for :meth:`Client.map`.
        """
        return OpenSyncMap(
            self._owner._usable_thread(),
            self._submitter,
            task,
            items,
            max_in_flight=max_in_flight,
            ordered=ordered,
            on_error=on_error,
        )

    @overload
    def stream(
        self, task: Callable[P, AsyncIterator[T]], *args: P.args, **kwargs: P.kwargs
    ) -> AbstractContextManager[SyncStream[T]]: ...

    @overload
    def stream(
        self, task: Callable[P, Iterator[T]], *args: P.args, **kwargs: P.kwargs
    ) -> AbstractContextManager[SyncStream[T]]: ...

    @overload
    def stream(
        self, task: str, *args: Any, **kwargs: Any
    ) -> AbstractContextManager[SyncStream[Any]]: ...

    def stream(
        self, task: Any, *args: Any, **kwargs: Any
    ) -> AbstractContextManager[SyncStream[Any]]:
        """Run a generator task and read its values one by one, as it yields them.

        ``with client.stream(count, 3) as values: for value in values: ...``.
        However the block is left, its task is cancelled if it has not ended.

        Args, Raises: as for :meth:`Client.stream`.
        """
        thread = self._owner._usable_thread()
        return OpenSyncBlock(thread, self._submitter.stream(task, *args, **kwargs), SyncStream)


class SyncClientWithOptions(SyncSubmitter):
    """The submitting calls of a client, with options. See :meth:`SyncClient.options`."""

    def __init__(self, client: SyncClient, submitter: Submitter) -> None:
        self._client = client
        self._view = submitter

    def __repr__(self) -> str:
        return repr(self._view).replace("Client", "SyncClient", 1)

    @property
    def _owner(self) -> SyncClient:
        return self._client

    @property
    def _submitter(self) -> Submitter:
        return self._view
