"""Hearing of changes of tasks while they happen: ``client.events()``."""

from __future__ import annotations

import pytest
from trio.testing import MockClock

from fastworker import TaskStatus
from tests.shell.world import open_world

pytestmark = pytest.mark.trio


async def test_the_life_of_a_task_is_told_as_it_happens(autojump_clock: MockClock) -> None:
    async with open_world() as world, world.client() as client:
        async with client.events(min_interval=0) as events:
            task_id = await client.delay("wait", "x", priority="high")
            told = []
            async for change in events:
                told.append(change)
                if change.status is TaskStatus.STARTED:
                    world.let_go("x")
                if change.status.is_terminal:
                    break
        print(told)
        assert told[-1].task_id == task_id
