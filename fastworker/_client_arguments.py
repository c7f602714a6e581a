"""A call as its caller wrote it: which function is meant, and with what arguments.

What cannot be called is refused here, before anything is sent.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastworker._core._messages import MAX_ITEM_BYTES, is_name
from fastworker._errors import PayloadTooLarge, UnknownTask
from fastworker._models import SerializationFormat
from fastworker._registry import Registry
from fastworker._serialization import encode_arguments


def name_of(registry: Registry, task: str | Callable[..., Any], *, is_stream: bool) -> str:
    """The name of a task function, as far as it can be called like this.

    Args:
      registry: names the functions.
      task: a function, or a name already.
      is_stream: whether its values are to be read one by one.

    Raises:
      UnknownTask: no function can have such a name.
      TypeError: it is to be called the other way.
    """
    if isinstance(task, str):
        name = task
    else:
        name = registry.name_of(task)
        _check_stream(registry, name, is_stream)
    if not is_name(name):
        message = (
            f"unknown task {name[:80]!r}: a name has 1 to 256 characters, all of them Unicode"
        )
        raise UnknownTask(message, task_name=name)
    return name


def _check_stream(registry: Registry, name: str, is_stream: bool) -> None:
    """Refuse a function that is called the wrong way, as far as that can be known."""
    known = registry.get(name)
    if known is None or known.is_stream is None or known.is_stream is is_stream:
        return
    if is_stream:
        raise TypeError(
            f"client.stream({name}): {name} is not a generator function; it returns one "
            f"value, so call it with client.submit"
        )
    raise TypeError(
        f"{name} is a generator function, whose values come one by one; "
        f"read them with client.stream({name}, ...)"
    )


def encode_bounded(
    name: str, args: tuple[Any, ...], kwargs: dict[str, Any], format: SerializationFormat
) -> bytes:
    """Encode the arguments of a task.

    Raises:
      NotEncodable: one cannot be encoded.
      PayloadTooLarge: they are more than one message takes.
    """
    payload = encode_arguments(args, kwargs, format)
    if len(payload) > MAX_ITEM_BYTES:
        raise PayloadTooLarge(f"the arguments of {name!r}", len(payload), MAX_ITEM_BYTES)
    return payload
