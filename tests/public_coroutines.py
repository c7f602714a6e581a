"""Every public thing that a caller can be cancelled in, and which of them a module tests.

So that none can be forgotten: a sweep says by :class:`Sweep` what its tests
cover, and a new public coroutine without a test fails it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Set
from typing import Any, TypeVar

import fastworker
from fastworker._task_group import _Ended
from fastworker._task_map import Values

F = TypeVar("F", bound=Callable[..., Any])

# What is public without being a name of the package.
GIVEN = (_Ended, Values)
SPECIAL = ("__aenter__", "__aexit__", "__anext__")


def public_coroutines() -> set[str]:
    """Their qualified names: coroutines, async generators, async blocks and iterators."""
    public = [getattr(fastworker, name) for name in fastworker.__all__]
    classes = [each for each in public if inspect.isclass(each)]
    functions = [each for each in public if inspect.isfunction(each)]
    return {
        function.__qualname__
        for function in [*functions, *_methods([*classes, *GIVEN])]
        if _can_be_cancelled(function)
    }


def _methods(classes: list[type]) -> Iterator[Any]:
    for cls in classes:
        for name, member in inspect.getmembers(cls, inspect.isfunction):
            if not name.startswith("_") or name in SPECIAL:
                yield member


def _can_be_cancelled(function: Any) -> bool:
    returned = str(inspect.signature(function).return_annotation)
    return (
        inspect.iscoroutinefunction(function)
        or inspect.isasyncgenfunction(function)
        or "AsyncContextManager" in returned
    )


class Sweep:
    """Which of them the tests of one module cover."""

    def __init__(self) -> None:
        self._covered: set[str] = set()

    def covers(self, *names: str) -> Callable[[F], F]:
        """Mark a test as one of them."""

        def mark(test: F) -> F:
            self._covered.update(names)
            return test

        return mark

    def check(self, *, without: Set[str] = frozenset()) -> None:
        """Assert that none is missing, and none is covered that is not there."""
        assert self._covered == public_coroutines() - without
