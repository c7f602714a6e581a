"""``get_subworker_status``: what an operator sees."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import trio
from trio.testing import MockClock

from tests.shell.world import BASE, MANAGEMENT, open_world, settle

pytestmark = pytest.mark.trio


async def test_the_status_shows_every_subworker(autojump_clock: MockClock) -> None:
    async with open_world(workers=0) as world, world.client() as client:
        assert world.plane.get_subworker_status() == {
            "total": 0,
            "active": 0,
            "subworkers": {},
        }
        await world.start_worker("w1", slots=3, base_address="tcp://10.0.0.1:7001")
        await client.delay("wait", "a")
        await settle()
        status = world.plane.get_subworker_status()
        assert (status["total"], status["active"]) == (1, 1)
        worker = status["subworkers"]["w1"]
        assert worker["address"] == "tcp://10.0.0.1:7001"
        assert worker["status"] == "active"
        assert worker["load"] == 1
        assert worker["capacity"] == {"thread": 3, "trio": 3}
        assert worker["tasks"] == world.registry.names()


async def test_a_subworker_without_a_pipe_is_away_and_not_active(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world:
        await world.start_worker("w2", BASE)
        world.cut_off(MANAGEMENT)
        await settle()
        status = world.plane.get_subworker_status()
        assert (status["total"], status["active"]) == (2, 1)
        assert status["subworkers"]["w1"]["status"] == "away"
        assert status["subworkers"]["w2"]["status"] == "active"
        await trio.sleep(1)
        assert list(world.plane.get_subworker_status()["subworkers"]) == ["w2"]


async def test_a_draining_subworker_is_not_active(autojump_clock: MockClock) -> None:
    async with open_world(workers=0) as world, world.client() as client:
        worker = await world.start_worker()
        await client.delay("wait", "a")
        await settle()
        worker.drain()
        await settle()
        status = world.plane.get_subworker_status()
        assert (status["total"], status["active"]) == (1, 0)
        assert status["subworkers"]["w1"]["status"] == "draining"
        world.let_go("a")
        await settle()
        assert world.plane.get_subworker_status()["total"] == 0


async def test_last_seen_is_when_the_last_frame_came(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        world.network.partition(MANAGEMENT)
        await trio.sleep(12)
        seen = world.plane.get_subworker_status()["subworkers"]["w1"]["last_seen"]
        assert seen.tzinfo is UTC
        idle = datetime.now(UTC) - seen
        assert timedelta(seconds=7) <= idle <= timedelta(seconds=13)


async def test_a_control_plane_that_does_not_run_has_nobody(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        plane = world.new_plane()
        assert plane.get_subworker_status() == {"total": 0, "active": 0, "subworkers": {}}
        assert plane.statistics() is None
