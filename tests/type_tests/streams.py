"""Streams have the type of what their generator yields. Checked, never run."""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from typing import Any, assert_type

from fastworker import Client, Stream, SyncClient, SyncStream, task


@task
def numbers(end: int) -> Generator[int, None, str]:
    yield end
    return "the end"


@task
def words(text: str, *, sep: str = " ") -> Iterator[str]:
    yield from text.split(sep)


@task
async def rows(table: str) -> AsyncGenerator[dict[str, int], None]:
    yield {table: 1}


@task
async def lines() -> AsyncIterator[bytes]:
    yield b""


@task
def no_stream() -> int:
    return 1


async def check_streams(client: Client) -> None:
    async with client.stream(numbers, 3) as values:
        assert_type(values, Stream[int])
        assert_type(await anext(values), int)
        assert_type(values.id, str)
    async with client.stream(words, "a b", sep=" ") as words_read:
        async for word in words_read:
            assert_type(word, str)
    async with client.options(buffer=8).stream(rows, "t") as rows_read:
        assert_type([row async for row in rows_read], list[dict[str, int]])
    async with client.stream(lines) as lines_read:
        assert_type(await anext(lines_read), bytes)
    async with client.stream("by.name", 1, key=2) as anything:
        assert_type(anything, Stream[Any])


def check_sync_streams(client: SyncClient) -> None:
    with client.stream(numbers, 3) as values:
        assert_type(values, SyncStream[int])
        assert_type(list(values), list[int])
    with client.stream(rows, "t") as rows_read:
        assert_type(next(rows_read), dict[str, int])


def check_wrong_streams(client: Client) -> None:
    client.stream(numbers, "3")  # type: ignore[call-overload]
    client.stream(words, "a", sep=1)  # type: ignore[arg-type]
    client.stream(no_stream)  # type: ignore[call-overload]
