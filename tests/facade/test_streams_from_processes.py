"""Streams whose generators run in task processes: flow control crosses their pipe, too."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

import fastworker
from tests.lanes.process_tasks import process_count, process_count_async

pytestmark = [pytest.mark.trio, pytest.mark.slow]


@pytest.mark.parametrize("function", [process_count, process_count_async])
async def test_values_come_in_order_from_another_process(function: Any) -> None:
    async with fastworker.local() as client:
        async with client.stream(function, 100) as values:
            got = [value async for value in values]
        assert [number for number, _ in got] == list(range(100))
        assert {pid for _, pid in got}.isdisjoint({os.getpid()})
        assert len({pid for _, pid in got}) == 1


@pytest.mark.parametrize("function", [process_count, process_count_async])
async def test_who_leaves_early_has_the_generator_clean_up(
    function: Any, tmp_path: Path
) -> None:
    left = tmp_path / "left"
    async with fastworker.local() as client:
        async with client.stream(function, 1_000_000, str(left)) as values:
            async for number, _ in values:
                if number == 2:
                    break
        assert int(left.read_text()) < 1000, "it ran far ahead of its reader"
