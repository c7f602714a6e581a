"""Recognise a coroutine that met the wrong event loop, and say what to do.

The libraries' own words ("no running event loop") name neither the cause nor
the way out, and this is the first error that many users will see.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

_ASYNCIO_HINT: Final = (
    " (this function needs asyncio and was run on Trio: register it with"
    ' @task(backend="asyncio"), or start the worker with --backend asyncio)'
)
_TRIO_HINT: Final = (
    " (this function needs Trio and was run on asyncio: register it with"
    ' @task(backend="trio"), or start the worker with --backend trio)'
)

_ON_TRIO: Final = (
    (RuntimeError, "no running event loop"),
    (RuntimeError, "There is no current event loop"),
    # An asyncio primitive made before: it asks for a loop only when it waits.
    (TypeError, "trio.run received unrecognized yield message"),
    (AttributeError, "'NoneType' object has no attribute 'create_future'"),
)
_ON_ASYNCIO: Final = (
    (RuntimeError, "must be called from async context"),
    (RuntimeError, "Task got bad yield: <class 'trio."),
    (AttributeError, "'RunContext' object has no attribute"),
)

_SIGNS: Final = {"trio": (_ON_TRIO, _ASYNCIO_HINT), "asyncio": (_ON_ASYNCIO, _TRIO_HINT)}


def backend_hint(error: BaseException, backend: str) -> str:
    """Give a hint to put behind the error's message, or the empty string."""
    if backend not in _SIGNS:
        return ""
    signs, hint = _SIGNS[backend]
    for leaf in _leaves(error):
        message = leaf.args[0] if leaf.args else None
        if type(message) is not str:
            continue
        if any(type(leaf) is kind and message.startswith(text) for kind, text in signs):
            return hint
    return ""


def _leaves(error: BaseException) -> Iterator[BaseException]:
    waiting = [error]
    while waiting:
        error = waiting.pop()
        if isinstance(error, BaseExceptionGroup):
            waiting.extend(error.exceptions)
        else:
            yield error
