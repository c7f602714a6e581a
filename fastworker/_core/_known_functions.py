"""The task functions that subworkers have announced, and how many they may be.

A name stays known when its workers are gone: a task of it then waits for them,
and is not refused. What nobody announces any more goes first when there are
too many, so that no subworker can make the control plane remember more and
more.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Final

from fastworker._core._messages import FunctionInfo

# What living subworkers may announce together, texts and all: a thousand
# subworkers of five hundred functions each, with their signatures.
ANNOUNCED_BYTES: Final = 256 * 1024 * 1024
# How many names are remembered beside those, and what they may weigh.
REMEMBERED: Final = 10_000
REMEMBERED_BYTES: Final = 16 * 1024 * 1024
# Names come from outside, and the wire has a limit for a line of text.
MESSAGE_LENGTH: Final = 2000
# Comparing texts takes time that grows with both, and strangers choose both.
_COMPARED_NAMES: Final = 300
_COMPARED_LENGTH: Final = 80


class KnownFunctions:
    """Every task function that a subworker has announced in this epoch.

    Args:
      announced_bytes: how much the announcements of all living subworkers may
        weigh together.
      remembered, remembered_bytes: how many names of which no worker lives are
        kept, and how much they may weigh.
    """

    def __init__(
        self,
        *,
        announced_bytes: int = ANNOUNCED_BYTES,
        remembered: int = REMEMBERED,
        remembered_bytes: int = REMEMBERED_BYTES,
    ) -> None:
        self._announced_limit = announced_bytes
        self._remembered_limit = remembered
        self._remembered_bytes_limit = remembered_bytes
        self._functions: dict[str, FunctionInfo] = {}
        self._workers: dict[str, int] = {}  # how many living ones announce a name
        self._gone: dict[str, int] = {}  # weights, in the order in which they were left
        self._announced_bytes = 0
        self._gone_bytes = 0

    def __len__(self) -> int:
        return len(self._functions)

    def __contains__(self, name: str) -> bool:
        return name in self._functions

    @property
    def functions(self) -> dict[str, FunctionInfo]:
        """By name, as last announced."""
        return self._functions

    @property
    def live_count(self) -> int:
        """How many of them live subworkers have."""
        return len(self._workers)

    def has_room(self, functions: Iterable[FunctionInfo]) -> bool:
        """Whether a subworker may announce these."""
        weight = sum(map(weight_of, functions))
        return self._announced_bytes + weight <= self._announced_limit

    def announce(self, functions: Iterable[FunctionInfo]) -> None:
        """A subworker that has these has joined. Each name once, please."""
        for function in functions:
            name = function.name
            self._announced_bytes += weight_of(function)
            self._workers[name] = self._workers.get(name, 0) + 1
            self._gone_bytes -= self._gone.pop(name, 0)
            self._functions[name] = function

    def withdraw(self, functions: Iterable[FunctionInfo]) -> None:
        """A subworker that announced these is gone."""
        for function in functions:
            name = function.name
            self._announced_bytes -= weight_of(function)
            self._workers[name] -= 1
            if not self._workers[name]:
                del self._workers[name]
                self._gone[name] = weight_of(self._functions[name])
                self._gone_bytes += self._gone[name]
        while (
            len(self._gone) > self._remembered_limit
            or self._gone_bytes > self._remembered_bytes_limit
        ):
            oldest = next(iter(self._gone))
            self._gone_bytes -= self._gone.pop(oldest)
            del self._functions[oldest]

    def explain_unknown(self, name: str, *, near: bool = True) -> str:
        """What to tell who asked for a name that is not here.

        Args:
          name: what was asked for.
          near: whether to look for similar names, which takes a while.
        """
        if not self._functions:
            return (
                f"unknown task {name!r}: no worker has registered any task; start the "
                f"control plane or a subworker with --task-modules"
            )[:MESSAGE_LENGTH]
        similar = self._similar(name) if near else []
        if similar:
            message = f"unknown task {name!r}; did you mean {' or '.join(map(repr, similar))}?"
            return message[:MESSAGE_LENGTH]
        some = ", ".join(sorted(list(self._functions)[:_COMPARED_NAMES])[:8])
        more = len(self._functions) - 8
        tail = f" and {more} more" if more > 0 else ""
        return f"unknown task {name!r}; the workers know {some}{tail}"[:MESSAGE_LENGTH]

    def check(self) -> None:
        """Assert every invariant."""
        assert self._announced_bytes <= self._announced_limit
        assert self._functions.keys() == self._workers.keys() | self._gone.keys()
        assert not self._workers.keys() & self._gone.keys()
        assert len(self._gone) <= self._remembered_limit
        assert self._gone_bytes == sum(self._gone.values()) <= self._remembered_bytes_limit

    def _similar(self, name: str) -> list[str]:
        if len(name) > _COMPARED_LENGTH or len(self._functions) > _COMPARED_NAMES:
            return []
        short = [known for known in self._functions if len(known) <= _COMPARED_LENGTH]
        return difflib.get_close_matches(name, short, n=3)


def weight_of(function: FunctionInfo) -> int:
    """About how many bytes an announced function holds."""
    texts = function.name, function.lane, function.signature, function.doc, function.on_lost
    return 300 + sum(len(text.encode()) for text in texts)
