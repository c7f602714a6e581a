"""``@task`` changes nothing about a function's type. Checked, never run."""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, assert_type, overload

from fastworker import task


@task
def add(x: int, y: int = 2, *, verbose: bool = False) -> int:
    return x + y


@task()
def add_again(x: int) -> str:
    return str(x)


@task(name="shop.fetch", backend="asyncio", on_lost="fail")
async def fetch(url: str) -> bytes:
    return url.encode()


@task(backend=None, name=None)
async def no_result() -> None: ...


@overload
def either(x: int) -> int: ...
@overload
def either(x: str) -> str: ...
@task
def either(x: int | str) -> int | str:
    return x


class HasStep(Protocol):
    step: int

    def __call__(self, x: int) -> int: ...


class Shop:
    @task
    def order(self, item: str) -> float:
        return len(item)

    @staticmethod
    @task
    def close(*, at: float) -> None: ...


def check_calls() -> None:
    assert_type(add(1), int)
    assert_type(add(1, 2, verbose=True), int)
    assert_type(add_again(1), str)
    assert_type(either(1), int)
    assert_type(either("1"), str)
    assert_type(Shop().order("x"), float)
    assert_type(add.__name__, str)  # still a function, not only a callable


async def check_awaits() -> None:
    assert_type(await fetch("x"), bytes)
    assert_type(await no_result(), None)


def check_wrong_calls() -> None:
    add("1")  # type: ignore[arg-type]
    add(1, 2, True)  # type: ignore[call-arg]
    add(1, verbos=True)  # type: ignore[call-arg]
    fetch(1)  # type: ignore[arg-type,unused-coroutine]
    Shop.close(0.5)  # type: ignore[call-arg]


def check_objects(with_step: HasStep, plain: Callable[[int], int]) -> None:
    assert_type(task(with_step), HasStep)
    assert_type(task(name="x")(plain), Callable[[int], int])


def check_wrong_options() -> None:
    task(backend="curio")  # type: ignore[call-overload]
    task(on_lost="explode")  # type: ignore[call-overload]
    task(timeot=3)  # type: ignore[call-overload]
    task("name")  # type: ignore[call-overload]
    task(5)  # type: ignore[call-overload]
