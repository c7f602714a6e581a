"""``@task``: names to functions. Sync, no I/O, and nothing of it runs a task.

One registry serves a process; tests make their own. A name belongs to one
piece of source: importing that again replaces it, another function under the
same name is a mistake that is told at import.
"""

from __future__ import annotations

import difflib
import types
from collections.abc import Callable, Collection
from typing import Any, TypeVar, overload

from fastworker._errors import RegistrationError, UnknownTask
from fastworker._models import DEFAULT_GRACE
from fastworker._task_function import (
    Backend,
    LaneKind,
    OnLost,
    TaskFunction,
    TaskOptions,
    describe,
)
from fastworker._task_options import Isolation, RetryOn

__all__ = [
    "Backend",
    "LaneKind",
    "OnLost",
    "Registry",
    "TaskFunction",
    "TaskOptions",
    "near_matches",
    "registry",
    "task",
]

F = TypeVar("F", bound=Callable[..., Any])


class Registry:
    """Task functions by name."""

    def __init__(self) -> None:
        self._functions: dict[str, TaskFunction] = {}
        # Also of functions that were replaced: a client may still hold one.
        self._names: dict[tuple[int, int], tuple[str, Callable[..., Any]]] = {}

    def __len__(self) -> int:
        return len(self._functions)

    def __contains__(self, name: object) -> bool:
        return name in self._functions

    def register(
        self,
        function: Callable[..., Any],
        *,
        name: str | None = None,
        options: TaskOptions | None = None,
    ) -> TaskFunction:
        """Make a function known under its own or another name.

        Raises:
          RegistrationError: it cannot be a task, or its name is taken by
              another function. The registry is unchanged.
        """
        new = describe(function, name=name, options=options or TaskOptions())
        old = self._functions.get(new.name)
        if old is not None and not new.is_again(old):
            raise RegistrationError(
                f"two functions are named {new.name!r}: {old.place} and {new.place}; "
                f"give one of them another name with @task(name=...)"
            )
        self._functions[new.name] = new
        self._names[_identity(function)] = new.name, function
        return new

    def get(self, name: str) -> TaskFunction | None:
        """Look a name up; None if there is no such task function."""
        return self._functions.get(name)

    def find(self, name: str) -> TaskFunction:
        """Look a name up.

        Raises:
          UnknownTask: there is no such task function. The message has names
              that look like it.
        """
        found = self._functions.get(name)
        if found is not None:
            return found
        near = near_matches(name, self._functions)
        if near:
            hint = f"did you mean {' or '.join(map(repr, near))}?"
        elif self._functions:
            hint = f"{len(self._functions)} other task functions are registered"
        else:
            hint = "no task function is registered; import the module that has them"
        raise UnknownTask(f"unknown task {name!r}; {hint}", task_name=name)

    def names(self) -> list[str]:
        """All names, sorted."""
        return sorted(self._functions)

    def functions(self) -> list[TaskFunction]:
        """All task functions, sorted by name."""
        return [self._functions[name] for name in self.names()]

    def name_of(self, function: Callable[..., Any]) -> str:
        """Give the name under which a function was registered, last if twice.

        Raises:
          UnknownTask: it was never registered here.
        """
        found = self._names.get(_identity(function))
        if found is None:
            shown = getattr(function, "__qualname__", None) or repr(function)
            raise UnknownTask(
                f"{shown} is not registered as a task; decorate it with @task, "
                f"or submit it by the name that a worker knows"
            )
        return found[0]


def near_matches(name: str, names: Collection[str]) -> list[str]:
    """Give up to three names that may have been meant, the nearest first."""
    return difflib.get_close_matches(name, names, n=3)


def _identity(function: Callable[..., Any]) -> tuple[int, int]:
    # Each access makes a new bound method; its object and its function stay.
    if isinstance(function, types.MethodType):
        return id(function.__func__), id(function.__self__)
    return id(function), 0


registry = Registry()


@overload
def task(function: F, /) -> F: ...
@overload
def task(
    *,
    name: str | None = None,
    backend: Backend | None = None,
    on_lost: OnLost = "retry",
    timeout: float | None = None,
    grace: float = DEFAULT_GRACE,
    max_retries: int = 0,
    retry_delay: float = 1.0,
    backoff: float = 2.0,
    max_delay: float = 60.0,
    jitter: float = 0.1,
    retry_on: RetryOn = Exception,
    isolation: Isolation | None = None,
    memory: int | str | None = None,
    recycle_after: int | None = None,
) -> Callable[[F], F]: ...
def task(
    function: F | None = None,
    /,
    *,
    name: str | None = None,
    backend: Backend | None = None,
    on_lost: OnLost = "retry",
    timeout: float | None = None,
    grace: float = DEFAULT_GRACE,
    max_retries: int = 0,
    retry_delay: float = 1.0,
    backoff: float = 2.0,
    max_delay: float = 60.0,
    jitter: float = 0.1,
    retry_on: RetryOn = Exception,
    isolation: Isolation | None = None,
    memory: int | str | None = None,
    recycle_after: int | None = None,
) -> F | Callable[[F], F]:
    """Register a function as a task that workers can run.

    The function itself is returned, unchanged: call it, test it and inspect
    it as before. A ``def`` runs in a thread, an ``async def`` on Trio or
    asyncio; a wrapper made with ``functools.wraps`` counts as what it wraps.

    Args:
      name: What clients call it by; by default the function's own name.
      backend: For an ``async def``: the event loop it needs, ``"trio"`` or
          ``"asyncio"``. By default the worker's own default, Trio.
      on_lost: ``"retry"`` runs it again after its worker was lost; ``"fail"``
          never does, so that it runs at most once.
      timeout: How many seconds one attempt may run. Then it is asked to stop,
          and the attempt has failed.
      grace: How many seconds an attempt gets to end once it is asked to stop.
          Then a process is killed; anything else is given up: it may run on,
          and what it returns is dropped.
      max_retries: How often it runs again after an attempt that failed.
      retry_delay: Seconds before the first retry; each further one waits
          ``backoff`` times as long, at most ``max_delay`` seconds. A random
          part of up to ``jitter`` (0 to 1) of that is left out.
      retry_on: Which errors are worth a retry: an exception class, a tuple of
          them, or a function that is given the exception. An attempt that ran
          longer than its timeout is a :class:`TaskTimedOut`, which is a
          ``TimeoutError``; about that a function is asked once, when its worker
          starts.
      isolation: ``"process"`` runs each attempt in a process of its own kind,
          which a cancel can kill, and whose crash hurts no other task.
      memory: With ``isolation="process"``: how much memory that process may
          use, in bytes or as ``"512MiB"``.
      recycle_after: With ``isolation="process"``: a new process after so many
          attempts.

    Raises:
      RegistrationError: it cannot be a task, or another function has its name.
    """
    options = TaskOptions(
        backend=backend,
        on_lost=on_lost,
        timeout=timeout,
        grace=grace,
        max_retries=max_retries,
        retry_delay=retry_delay,
        backoff=backoff,
        max_delay=max_delay,
        jitter=jitter,
        retry_on=retry_on,
        isolation=isolation,
        memory=memory,
        recycle_after=recycle_after,
    )

    def register(function: F) -> F:
        registry.register(function, name=name, options=options)
        return function

    return register if function is None else register(function)
