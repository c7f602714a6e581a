"""``@task`` finds out what a function is, and refuses it in words when it must."""

from __future__ import annotations

import contextlib
import functools
import inspect
import math
import pickle
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fastworker._errors import RegistrationError, UnknownTask
from fastworker._registry import Registry, TaskOptions, near_matches, registry, task


def add(x: int, y: int = 2, *rest: str) -> int:
    """Add two numbers.

    And no more.
    """
    return x + y


async def fetch(url: str) -> str:
    return url


@pytest.fixture
def empty() -> Registry:
    return Registry()


# --- the decorator ---


@pytest.fixture(autouse=True)
def _default_registry_as_before() -> Iterator[None]:
    functions, names = registry._functions, registry._names
    # Modules of other tests register functions that have the same names.
    registry._functions, registry._names = {}, {}
    yield
    registry._functions, registry._names = functions, names


def test_the_decorator_returns_the_very_same_function() -> None:
    assert task(add) is add
    assert task(name="add-again", on_lost="fail")(add) is add
    assert task()(add) is add
    assert pickle.loads(pickle.dumps(add)) is add
    assert inspect.signature(add).parameters.keys() == {"x", "y", "rest"}


def test_the_decorator_fills_the_default_registry() -> None:
    task(name="tests.add", on_lost="fail")(add)
    found = registry.find("tests.add")
    assert found.function is add
    assert found.options == TaskOptions(on_lost="fail", backend=None)


def test_the_name_by_default_is_the_functions_own() -> None:
    task(add)
    assert registry.name_of(add) == "add"


def test_a_name_given_by_position_is_told_the_keyword() -> None:
    with pytest.raises(RegistrationError, match=r"@task\(name='add'\)"):
        task("add")  # type: ignore[call-overload]


# --- what is known of a function ---


def test_a_task_function_says_what_it_is(empty: Registry) -> None:
    found = empty.register(add)
    assert found.name == "add"
    assert found.lane == "thread"
    assert found.module == __name__
    assert found.qualified_name == "add"
    assert found.signature == "(x: int, y: int = 2, *rest: str) -> int"
    assert found.doc == "Add two numbers."
    assert found.place == f"{__name__}.add ({Path(__file__).resolve()}:{found.line})"
    assert inspect.getsourcelines(add)[1] == found.line


class Adder:
    def __init__(self, step: int) -> None:
        self.step = step

    def add(self, x: int) -> int:
        return x + self.step

    async def fetch(self, x: int) -> int:
        return x

    @staticmethod
    def fixed(x: int) -> int:
        return x

    @classmethod
    async def made(cls, x: int) -> int:
        return x


class AsyncCallable:
    async def __call__(self, x: int) -> int:
        return x


class PlainCallable:
    def __call__(self, x: int) -> int:
        return x


def test_a_callable_object_is_from_where_its_class_was_written(empty: Registry) -> None:
    found = empty.register(PlainCallable(), name="it")
    assert found.qualified_name == "PlainCallable"
    assert found.line == inspect.getsourcelines(PlainCallable.__call__)[1]


def logged(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any) -> Any:
        return function(*args)

    return wrapper


def awaited(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    async def wrapper(*args: Any) -> Any:
        return function(*args)

    return wrapper


@pytest.mark.parametrize(
    ("function", "lane"),
    [
        (add, "thread"),
        (fetch, "trio"),
        (logged(add), "thread"),
        (logged(fetch), "trio"),
        (awaited(add), "trio"),
        (functools.partial(fetch, "x"), "trio"),
        (functools.partial(functools.partial(add), 1), "thread"),
        (functools.partial(logged(fetch)), "trio"),
        (functools.cache(add), "thread"),
        (Adder.add, "thread"),
        (Adder(1).add, "thread"),
        (Adder(1).fetch, "trio"),
        (Adder.fixed, "thread"),
        (Adder.made, "trio"),
        (Adder.__dict__["fixed"], "thread"),
        (AsyncCallable(), "trio"),
        (PlainCallable(), "thread"),
        (math.sqrt, "thread"),
        (lambda x: x, "thread"),
    ],
)
def test_the_lane_is_that_of_the_function_beneath(
    empty: Registry, function: Callable[..., Any], lane: str
) -> None:
    found = empty.register(function, name="it")
    assert found.lane == lane
    assert found.function is function
    assert found.signature.startswith("(")


@pytest.mark.parametrize(
    ("function", "backend", "lanes"),
    [
        (add, None, ("thread", "thread")),
        (fetch, None, ("trio", "asyncio")),
        (fetch, "trio", ("trio", "trio")),
        (fetch, "asyncio", ("asyncio", "asyncio")),
    ],
)
def test_the_workers_default_backend_decides_only_where_the_function_does_not(
    empty: Registry, function: Any, backend: Any, lanes: tuple[str, str]
) -> None:
    found = empty.register(function, options=TaskOptions(backend=backend))
    assert (found.lane_for("trio"), found.lane_for("asyncio")) == lanes


def test_texts_for_people_are_one_short_line(empty: Registry) -> None:
    def odd(x: Any = "line\nbreak" * 100) -> None:
        """\x1b[31mRed \u202e."""

    found = empty.register(odd)
    assert len(found.signature) == 500
    assert found.signature.isprintable()
    assert found.doc == " [31mRed  ."


def test_a_signature_that_cannot_be_made_is_only_a_missing_picture(empty: Registry) -> None:
    def odd() -> None: ...

    odd.__signature__ = "nonsense"  # type: ignore[attr-defined]
    assert empty.register(odd).signature == "(...)"


# --- what is refused ---


def stream() -> Iterator[int]:
    yield 1


async def async_stream() -> AsyncIterator[int]:
    yield 1


class AsyncStreamCallable:
    async def __call__(self) -> AsyncIterator[int]:
        yield 1


class StreamCallable:
    def __call__(self) -> Iterator[int]:
        yield 1


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (Adder, "Adder is a class"),
        (int, "int is a class"),
        (5, "int is not a function"),
        ("add", r"@task\(name='add'\)"),
        (None, "NoneType is not a function"),
        (Adder.__dict__["made"], "@classmethod"),
        (lambda: 1, "a lambda has no name"),
        (functools.partial(add), "a partial object has no name"),
        (PlainCallable(), "a PlainCallable object has no name"),
    ],
)
def test_what_cannot_be_a_task_is_refused(empty: Registry, function: Any, words: str) -> None:
    with pytest.raises(RegistrationError, match=words):
        empty.register(function)
    assert len(empty) == 0


def test_a_function_that_turns_a_stream_into_a_list_is_a_task(empty: Registry) -> None:
    def listed(function: Callable[..., Iterator[int]]) -> Callable[..., list[int]]:
        @functools.wraps(function)
        def wrapper(*args: Any) -> list[int]:
            return list(function(*args))

        return wrapper

    assert empty.register(listed(stream)).lane == "thread"


@pytest.mark.parametrize(
    "name", ["", " ", " x", "x ", "a\nb", "a\0b", "\x1b[31m", "\ud800", "\u202ex", "é" * 129, 5]
)
def test_a_name_that_cannot_be_shown_is_refused(empty: Registry, name: Any) -> None:
    with pytest.raises(RegistrationError, match="task name"):
        empty.register(add, name=name)


@pytest.mark.parametrize("name", ["a", "é" * 128, "shop.add", "add to cart", "+", "任务"])
def test_a_name_that_can_be_shown_is_accepted(empty: Registry, name: str) -> None:
    assert empty.register(add, name=name).name == name


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"backend": "curio"}, "backend='curio'.*'trio', 'asyncio'"),
        ({"on_lost": "explode"}, "on_lost='explode'.*'retry', 'fail'"),
        ({"on_lost": None}, "on_lost=None"),
        ({"backend": "trio"}, "add is not an async def"),
    ],
)
def test_an_option_that_cannot_be_is_refused(options: dict[str, Any], words: str) -> None:
    before = registry.names()
    with pytest.raises(RegistrationError, match=words):
        task(**options)(add)
    assert registry.names() == before


# --- one name, one function ---


def define(source: str, module: str, file: str = "<string>", line: int = 1) -> dict[str, Any]:
    namespace: dict[str, Any] = {"__name__": module}
    exec(compile("\n" * (line - 1) + textwrap.dedent(source), file, "exec"), namespace)
    return namespace


ADD = "def add(): pass"


def test_the_same_function_may_be_registered_again_with_other_options(empty: Registry) -> None:
    empty.register(add)
    empty.register(add, options=TaskOptions(on_lost="fail"))
    assert empty.find("add").options.on_lost == "fail"


def test_a_reloaded_module_replaces_its_functions(empty: Registry) -> None:
    old = define(ADD, "mytasks", "/x/mytasks.py")["add"]
    new = define(ADD, "mytasks", "/x/mytasks.py", line=7)["add"]
    empty.register(old)
    empty.register(new)
    assert empty.find("add").function is new
    assert empty.name_of(old) == empty.name_of(new) == "add"


def test_a_script_and_its_import_are_one(empty: Registry) -> None:
    empty.register(define(ADD, "__main__", "/x/mytasks.py")["add"])
    new = define(ADD, "mytasks", "/x/mytasks.py")["add"]
    empty.register(new)
    assert empty.find("add").function is new


def test_another_function_of_the_same_name_is_told_both_places(empty: Registry) -> None:
    old = define(ADD, "shop", "/x/shop.py", line=3)["add"]
    new = define(ADD, "bank", "/x/bank.py", line=9)["add"]
    empty.register(old)
    with pytest.raises(RegistrationError) as caught:
        empty.register(new)
    assert str(caught.value) == (
        "two functions are named 'add': shop.add (/x/shop.py:3) and bank.add (/x/bank.py:9); "
        "give one of them another name with @task(name=...)"
    )
    assert empty.find("add").function is old
    with pytest.raises(UnknownTask):
        empty.name_of(new)


def test_functions_without_source_are_told_apart_by_their_module(empty: Registry) -> None:
    empty.register(define(ADD, "shop")["add"])
    with pytest.raises(RegistrationError, match=r"shop\.add and bank\.add"):
        empty.register(define(ADD, "bank")["add"])


def test_two_lambdas_of_one_module_are_two_functions(empty: Registry) -> None:
    empty.register(lambda: 1, name="one")
    with pytest.raises(RegistrationError, match="two functions are named 'one'"):
        empty.register(lambda: 2, name="one")


def test_a_script_that_imports_itself_registers_once(tmp_path: Path) -> None:
    script = tmp_path / "mytasks.py"
    script.write_text(
        textwrap.dedent(
            """
            from fastworker._registry import registry, task

            @task
            def add(x, y):
                return x + y

            if __name__ == "__main__":
                import mytasks
                found = registry.find("add")
                print(found.module, found.function is mytasks.add, registry.name_of(add))
            """
        )
    )
    for command in (["mytasks.py"], ["./mytasks.py"], [str(script)], ["-m", "mytasks"]):
        result = subprocess.run(
            [sys.executable, *command],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.stdout == "mytasks True add\n", result.stderr


# --- looking up ---


def test_an_unknown_name_is_told_its_neighbours(empty: Registry) -> None:
    empty.register(add, name="send_email")
    empty.register(fetch, name="send_mails")
    with pytest.raises(
        UnknownTask, match="did you mean 'send_mails' or 'send_email'"
    ) as caught:
        empty.find("send_mail")
    assert caught.value.task_name == "send_mail"
    with pytest.raises(UnknownTask, match="'zzz'; 2 other task functions"):
        empty.find("zzz")


def test_an_unknown_name_in_an_empty_registry_is_told_to_import(empty: Registry) -> None:
    with pytest.raises(UnknownTask, match="no task function is registered; import"):
        empty.find("add")
    assert empty.get("add") is None


def test_names_and_functions_are_sorted(empty: Registry) -> None:
    for name in ("c", "a", "b"):
        empty.register(add, name=name)
    assert empty.names() == ["a", "b", "c"]
    assert [found.name for found in empty.functions()] == ["a", "b", "c"]
    assert len(empty) == 3
    assert "a" in empty
    assert "d" not in empty


def test_near_matches_come_nearest_first() -> None:
    assert near_matches("add", ["sub", "adds", "add2x", "add_all"])[0] == "adds"


def test_the_name_of_a_bound_method_is_that_of_its_object(empty: Registry) -> None:
    one, two = Adder(1), Adder(2)
    empty.register(one.add, name="one")
    empty.register(two.fetch, name="two")
    assert empty.name_of(one.add) == "one"
    with pytest.raises(UnknownTask):
        empty.name_of(two.add)


def test_an_unregistered_function_is_told_to_be_decorated(empty: Registry) -> None:
    with pytest.raises(UnknownTask, match="add is not registered as a task; decorate it"):
        empty.name_of(add)


def test_a_function_under_two_names_has_the_last(empty: Registry) -> None:
    empty.register(add, name="a")
    empty.register(add, name="b")
    assert empty.name_of(add) == "b"


def test_registries_know_nothing_of_each_other(empty: Registry) -> None:
    empty.register(add, name="only here")
    assert "only here" not in Registry()
    assert "only here" not in registry


def test_a_wrapped_function_that_leads_back_to_itself_is_no_endless_loop(
    empty: Registry,
) -> None:
    def odd() -> None: ...

    odd.__wrapped__ = odd  # type: ignore[attr-defined]
    assert empty.register(odd).lane == "thread"


@pytest.mark.parametrize(
    ("function", "lane"),
    [
        (stream, "thread"),
        (async_stream, "trio"),
        (functools.partial(stream), "thread"),
        (StreamCallable(), "thread"),
        (AsyncStreamCallable(), "trio"),
    ],
)
def test_a_function_with_a_yield_is_a_stream(empty: Registry, function: Any, lane: str) -> None:
    registered = empty.register(function, name="s")
    assert registered.is_stream is True
    assert registered.lane == lane


def test_a_wrapped_generator_function_may_be_a_stream(empty: Registry) -> None:
    @functools.wraps(async_stream)
    def wrapper() -> Any:
        return async_stream()

    registered = empty.register(wrapper)
    assert registered.is_stream is None
    assert registered.lane == "trio"


def test_a_function_without_a_yield_is_no_stream(empty: Registry) -> None:
    assert empty.register(add).is_stream is False


def test_a_generator_may_run_in_a_process(empty: Registry) -> None:
    function = empty.register(stream, options=TaskOptions(isolation="process"))
    assert (function.lane, function.is_stream) == ("process", True)


def test_a_context_manager_factory_is_refused_for_its_result_not_its_yield(
    empty: Registry,
) -> None:
    # Its outside is a plain def; what it returns fails when it is encoded.
    assert empty.register(contextlib.contextmanager(stream)).lane == "thread"
