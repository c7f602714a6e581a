"""Drives a generator: each value goes out, then it waits while its reader has no room.

What goes wrong with a value (it cannot be encoded, say) is raised at the
``yield`` that gave it, as if sending were a call of the generator's own; and
so is what ends the wait in an event loop. So the generator's own ``with`` and
``finally`` see it, in the task or thread that they belong to.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import closing
from typing import Any, TypeAlias

from fastworker._errors import TaskCancelled
from fastworker._lanes._outflow import Bell, Outflow

_NO_MORE = object()

# Encodes a value and hands it over.
Send: TypeAlias = Callable[[Any], None]


class GeneratorLeft(TaskCancelled):
    """The generator was closed because its task is cancelled."""


def drive(
    generator: Generator[Any, Any, Any],
    send: Send,
    outflow: Outflow,
    is_cancelled: Callable[[], bool],
) -> None:
    """Run a generator to its end, in a thread.

    Raises:
      GeneratorLeft: it was closed at a ``yield``, cancelled; its ``finally`` ran.
      whatever the generator raises.
    """
    # Closed also if the wait is ended by a signal, in a task process.
    with closing(generator):
        value = next(generator, _NO_MORE)
        while value is not _NO_MORE:
            failure: Exception | None = None
            try:
                send(value)
            except Exception as error:  # noqa: BLE001 - raised at the yield
                failure = error
            if failure is None:
                outflow.wait()
            if is_cancelled():
                generator.close()
                raise GeneratorLeft("cancelled while it ran")
            value = next(generator, _NO_MORE) if failure is None else _throw(generator, failure)


def _throw(generator: Generator[Any, Any, Any], error: Exception) -> Any:
    try:
        return generator.throw(error)
    except StopIteration:
        return _NO_MORE


async def drive_async(
    generator: AsyncGenerator[Any, Any],
    send: Send,
    outflow: Outflow,
    is_cancelled: Callable[[], bool],
    make_bell: Callable[[], Bell],
) -> None:
    """Run an async generator to its end, in the task that this is called in.

    A cancellation while the generator waits for its reader is raised at its
    ``yield``. One that yields again all the same is closed.

    Raises:
      GeneratorLeft: it was closed, cancelled; its ``finally`` ran.
      whatever the generator raises, cancellations included.
    """

    async def have_room() -> None:
        while outflow.must_wait(bell := make_bell()):
            await bell.wait()

    was_interrupted = False
    value = await anext(generator, _NO_MORE)
    while value is not _NO_MORE:
        try:
            if was_interrupted:
                await have_room()
            send(value)
            await have_room()
        except Exception as error:  # noqa: BLE001 - raised at the yield
            value = await _athrow(generator, error)
            continue
        except BaseException as error:  # noqa: BLE001 - raised at the yield
            value = await _athrow(generator, error)
            if value is _NO_MORE:
                return
            if is_cancelled() or was_interrupted:
                await generator.aclose()
                raise GeneratorLeft("cancelled while it ran") from None
            was_interrupted = True  # by a scope of its own, and it goes on
            continue
        was_interrupted = False
        value = await anext(generator, _NO_MORE)


async def _athrow(generator: AsyncGenerator[Any, Any], error: BaseException) -> Any:
    try:
        return await generator.athrow(error)
    except StopAsyncIteration:
        return _NO_MORE


async def in_a_loop(generator: Generator[Any, Any, Any]) -> AsyncGenerator[Any, None]:
    """A plain generator as an async one, for a lane that has no thread for it."""
    with closing(generator):
        value = next(generator, _NO_MORE)
        while value is not _NO_MORE:
            try:
                yield value
            except Exception as error:  # noqa: BLE001 - raised at the inner yield
                value = _throw(generator, error)
            else:
                value = next(generator, _NO_MORE)
