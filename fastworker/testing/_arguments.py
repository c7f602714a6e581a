"""Arguments for a task function, made from its annotations."""

from __future__ import annotations

import enum
import inspect
import types
import typing
from random import Random
from typing import Any, Literal, Union, get_args, get_origin

from fastworker._errors import ConfigurationError
from fastworker._registry import TaskFunction

_LETTERS = "abcdefghij"


class ArgumentMaker:
    """Makes arguments of one task function.

    Raises:
      ConfigurationError: a parameter has no annotation that says what it takes.
    """

    def __init__(self, function: TaskFunction) -> None:
        self._name = function.name
        signature = inspect.signature(function.function)
        hints = typing.get_type_hints(function.function)
        self._positional: list[Any] = []
        self._keywords: dict[str, Any] = {}
        for parameter in signature.parameters.values():
            if parameter.default is not parameter.empty:
                continue
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                continue
            kind = hints.get(parameter.name, Any)
            try:
                _make(kind, Random(0))  # noqa: S311
            except TypeError as error:
                raise ConfigurationError(
                    f"task {self._name!r}: nothing is known to give as {parameter.name!r} "
                    f"({error}); give it a simpler annotation, or write a scenario that "
                    f"calls it"
                ) from None
            if parameter.kind is parameter.KEYWORD_ONLY:
                self._keywords[parameter.name] = kind
            else:
                self._positional.append(kind)

    def draw(self, random: Random) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Make one set of them."""
        args = tuple(_make(kind, random) for kind in self._positional)
        return args, {name: _make(kind, random) for name, kind in self._keywords.items()}


def _make(kind: Any, random: Random) -> Any:
    origin, inner = get_origin(kind), get_args(kind)
    if kind is Any:
        return random.choice([0, "a", None])
    if kind is None or kind is type(None):
        return None
    if kind is bool:
        return random.random() < 0.5
    if kind is int:
        return random.choice([0, 1, -1, random.randrange(1000)])
    if kind is float:
        return round(random.random(), 6)
    if kind is str:
        return "".join(random.choices(_LETTERS, k=random.choice([0, 1, 8])))
    if kind is bytes:
        return random.randbytes(random.choice([0, 1, 8]))
    if origin is Literal:
        return random.choice(inner)
    if origin is Union or origin is types.UnionType:
        return _make(random.choice(inner), random)
    if origin is typing.Annotated:
        return _make(inner[0], random)
    if kind is list or origin is list:
        item = inner[0] if inner else int
        return [_make(item, random) for _ in range(random.choice([0, 1, 3]))]
    if kind is dict or origin is dict:
        value = inner[1] if inner else int
        return {_make(str, random): _make(value, random) for _ in range(random.choice([0, 2]))}
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return random.choice(list(kind))
    raise TypeError(f"it takes {kind!r}")
