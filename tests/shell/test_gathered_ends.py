"""Ends of attempts are told together while others wait, and at once when none does."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from fastworker._core._messages import Kind
from tests.shell.world import World, open_world

pytestmark = pytest.mark.trio


def count_reports(world: World) -> list[Kind]:
    """The requests that the control plane carries out from now on."""
    state = world.plane._state
    assert state is not None
    execute, kinds = state._execute, []

    def count(session: Any, request: Any, *rest: Any) -> None:
        kinds.append(request.kind)
        execute(session, request, *rest)

    state._execute = count  # type: ignore[method-assign]
    return kinds


async def test_short_attempts_that_wait_for_one_slot_are_told_together(
    autojump_clock: MockClock,
) -> None:
    async with open_world(slots=1) as world, world.client() as client:
        await client.submit_task("note", (0,))
        kinds = count_reports(world)
        async with client.map("note", range(1, 301), max_in_flight=300) as values:
            assert await values.collect() == list(range(1, 301))
        assert kinds.count(Kind.REPORT) < 30


async def test_an_attempt_that_runs_alone_is_told_at_once(autojump_clock: MockClock) -> None:
    async with open_world(slots=1) as world, world.client() as client:
        await client.submit_task("note", (0,))
        start = trio.current_time()
        for number in range(10):
            await client.submit_task("note", (number,))
        assert trio.current_time() == start
