"""A task function: what ``@task`` learns about a function, and what it refuses.

Everything is looked up once, at registration, so that the mistakes show in
the traceback of the import that made them.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import os
import types
from collections.abc import Callable, Iterator
from typing import Any, Final, Literal

from fastworker._errors import RegistrationError
from fastworker._task_options import Backend as Backend
from fastworker._task_options import OnLost as OnLost
from fastworker._task_options import TaskOptions as TaskOptions

LaneKind = Literal["thread", "trio", "asyncio", "process"]

# The limit of a name on the wire; of the other texts, what a table can show.
MAX_NAME_BYTES: Final = 256
_MAX_SIGNATURE: Final = 500
_MAX_DOC: Final = 200


@dataclasses.dataclass(frozen=True, slots=True)
class TaskFunction:
    """A function under the name that clients call it by.

    ``lane`` is where it runs unless the worker has another default backend.
    ``place`` is "module.function (file:line)", ``file`` is empty when there is
    no source. ``signature`` and ``doc`` are one line each, for people.
    ``is_stream`` is whether calling it gives a generator; None if only a
    function that it wraps is a generator function, so that only a call tells.
    """

    name: str
    function: Callable[..., Any]
    lane: LaneKind
    options: TaskOptions
    module: str
    qualified_name: str
    signature: str
    doc: str
    file: str = ""
    line: int = 0
    is_async: bool = False
    is_stream: bool | None = False

    def lane_for(self, default_backend: Backend) -> LaneKind:
        """Where the function runs in a worker whose default is this backend."""
        if self.lane in ("thread", "process") or self.options.backend is not None:
            return self.lane
        return default_backend

    def loop_for(self, default_backend: Backend) -> Backend | None:
        """Which event loop it needs in a worker whose default is this backend."""
        return (self.options.backend or default_backend) if self.is_async else None

    @property
    def place(self) -> str:
        """Where the function was written."""
        where = f" ({self.file}:{self.line})" if self.file else ""
        return f"{self.module}.{self.qualified_name}{where}"

    def is_again(self, other: TaskFunction) -> bool:
        """Whether both are the same piece of source, imported once more.

        A script that is also imported comes twice, as ``__main__`` and under
        its own name; a reloaded module comes with other line numbers.
        """
        if self.qualified_name != other.qualified_name:
            return False
        if "<lambda>" in self.qualified_name and self.line != other.line:
            return False
        if self.module == other.module:
            return True
        return bool(self.file) and self.file == other.file


def describe(
    function: Callable[..., Any], *, name: str | None, options: TaskOptions
) -> TaskFunction:
    """Look at a function that is to be a task.

    Raises:
      RegistrationError: it cannot be one. The message says what to do.
    """
    _check_kind(function)
    layers = list(_layers(function))
    innermost = layers[-1]
    module = getattr(innermost, "__module__", None) or type(innermost).__module__
    qualified_name = getattr(innermost, "__qualname__", None) or type(innermost).__qualname__
    is_async = any(map(_is_async, layers))
    if options.backend is not None and not is_async:
        raise RegistrationError(
            f"@task(backend={options.backend!r}): {qualified_name} is not an async def; "
            f"it runs in a thread, so leave backend out"
        )
    is_stream = _is_stream(function, layers)
    file, line = _source_of(innermost)
    return TaskFunction(
        name=_checked_name(_default_name(function) if name is None else name),
        function=function,
        lane=options.isolation or ((options.backend or "trio") if is_async else "thread"),
        options=options,
        module=module,
        qualified_name=qualified_name,
        signature=_signature_of(function),
        doc=_first_line(inspect.getdoc(function)),
        file=file,
        line=line,
        is_async=is_async,
        is_stream=is_stream,
    )


def _check_kind(function: Any) -> None:
    if isinstance(function, str):
        raise RegistrationError(
            f"@task({function!r}): the name is a keyword, @task(name={function!r})"
        )
    if isinstance(function, classmethod):
        raise RegistrationError(
            "@task above @classmethod has no class to call: register a module-level function"
        )
    if inspect.isclass(function):
        raise RegistrationError(
            f"@task: {function.__qualname__} is a class; register a function that makes "
            f"an instance and returns plain data"
        )
    if not callable(function):
        raise RegistrationError(
            f"@task: {type(function).__qualname__} is not a function; write "
            f"@task or @task(name=...) on the line above a def or async def"
        )


def _default_name(function: Any) -> str:
    name = getattr(function, "__name__", None)
    if type(name) is str and name != "<lambda>":
        return name
    kind = "a lambda" if name == "<lambda>" else f"a {type(function).__qualname__} object"
    raise RegistrationError(
        f"@task: {kind} has no name of its own; give it one: task(name=...)"
    )


def _checked_name(name: Any) -> str:
    if not isinstance(name, str):
        raise RegistrationError(f"task name {name!r} is a {type(name).__qualname__}, not a str")
    if not name or name != name.strip() or not name.isprintable():
        raise RegistrationError(
            f"task name {name!r}: use printable characters, with no space at the ends"
        )
    size = len(name.encode())
    if size > MAX_NAME_BYTES:
        raise RegistrationError(
            f"task name {name[:40]!r}... takes {size} bytes; the limit is {MAX_NAME_BYTES}"
        )
    return str(name)


def _without_partial(function: Any) -> Any:
    while isinstance(function, functools.partial):
        function = function.func
    return function


def _layers(function: Any) -> Iterator[Any]:
    """The function and what it wraps: partials, methods and functools.wraps."""
    seen: set[int] = set()
    while function is not None and id(function) not in seen:
        seen.add(id(function))
        yield function
        if isinstance(function, functools.partial):
            function = function.func
        elif isinstance(function, types.MethodType):
            function = function.__func__
        else:
            function = getattr(function, "__wrapped__", None)


def _is_async(layer: Any) -> bool:
    # A plain def that wraps an async def hands on its coroutine, as a rule.
    # An object of a class with an async __call__; functions have one in C.
    return any(
        inspect.iscoroutinefunction(each) or inspect.isasyncgenfunction(each)
        for each in (layer, type(layer).__call__)
    )


def _is_stream(function: Any, layers: list[Any]) -> bool | None:
    if _has_yield(_without_partial(function)):
        return True
    return None if any(map(_has_yield, layers)) else False


def _has_yield(layer: Any) -> bool:
    return any(
        inspect.isgeneratorfunction(each) or inspect.isasyncgenfunction(each)
        for each in (layer, type(layer).__call__)
    )


def _source_of(function: Any) -> tuple[str, int]:
    code = getattr(function, "__code__", None)
    if not isinstance(code, types.CodeType):
        code = getattr(type(function).__call__, "__code__", None)
    if not isinstance(code, types.CodeType) or code.co_filename.startswith("<"):
        return "", 0
    return os.path.realpath(code.co_filename), code.co_firstlineno


class _Bare:
    """A postponed annotation, shown without the quotes of its string."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def _signature_of(function: Any) -> str:
    try:
        signature = inspect.signature(function)
        parameters = [
            parameter.replace(annotation=_bare(parameter.annotation))
            for parameter in signature.parameters.values()
        ]
        text = str(
            signature.replace(
                parameters=parameters, return_annotation=_bare(signature.return_annotation)
            )
        )
    except (TypeError, ValueError, NameError, AttributeError):
        # Written in C, or with annotations that do not evaluate: only a picture.
        return "(...)"
    return _one_line(text, _MAX_SIGNATURE)


def _bare(annotation: Any) -> Any:
    return _Bare(annotation) if isinstance(annotation, str) else annotation


def _first_line(doc: str | None) -> str:
    return _one_line((doc or "").strip().partition("\n")[0], _MAX_DOC)


def _one_line(text: str, limit: int) -> str:
    text = "".join(character if character.isprintable() else " " for character in text)
    return text if len(text) <= limit else f"{text[: limit - 3]}..."
