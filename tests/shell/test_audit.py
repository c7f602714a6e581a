"""X21: who has cancelled, requeued, purged and drained through the wire is written down."""

from __future__ import annotations

import json
import logging
import os
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from fastworker._core._task_questions import TaskAction
from tests.shell.test_durable_plane import durable
from tests.shell.world import open_world, settle

pytestmark = pytest.mark.trio

ME = {"session": f"client-{os.getpid()}", "address": ""}


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "fastworker.audit")
    return caplog


def lines(log: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    """What was written since the last time."""
    found = [
        json.loads(record.getMessage())
        for record in log.records
        if record.name == "fastworker.audit.control_plane"
    ]
    log.clear()
    return found


async def test_each_thing_that_a_client_does_leaves_a_line_with_who_it_was(
    autojump_clock: MockClock, log: pytest.LogCaptureFixture
) -> None:
    # X21 in docs/faults.md.
    async with open_world() as world:
        await durable(world)
        async with world.client() as client:
            done = (await client.submit_task("add", (1, 2))).task_id
            running = await client.delay("wait", "runs")
            await settle()
            assert lines(log) == []
            await client._operations.act_on_tasks(TaskAction.REQUEUE, [done, "nobody"])
            assert lines(log) == [
                {"action": "requeue", "outcome": "done, except 1", **ME, "task_ids": [done]}
            ]
            await trio.sleep(1)
            await client._operations.act_on_tasks(TaskAction.PURGE, [done])
            assert lines(log) == [
                {"action": "purge", "outcome": "done", **ME, "task_ids": [done]}
            ]
            await client.cancel(running)
            assert lines(log) == [
                {"action": "cancel", "outcome": "asked", **ME, "task_ids": [running]}
            ]
            await client._operations.drain_worker("w1")
            with pytest.raises(LookupError):
                await client._operations.drain_worker("nobody")
            drained, refused = lines(log)
            assert drained == {"action": "drain", "outcome": "done", **ME, "worker_id": "w1"}
            assert refused["worker_id"] == "nobody"
            assert "no subworker" in refused["outcome"]


async def test_a_name_cannot_break_out_of_its_line(
    autojump_clock: MockClock, log: pytest.LogCaptureFixture
) -> None:
    async with open_world() as world, world.client() as client:
        with pytest.raises(LookupError):
            await client._operations.drain_worker('w1"}\n{"action": "forged"')
        [record] = [r for r in log.records if r.name == "fastworker.audit.control_plane"]
        assert "\n" not in record.getMessage()
        assert json.loads(record.getMessage())["worker_id"].startswith('w1"}')


async def test_a_long_list_is_cut_and_counted(
    autojump_clock: MockClock, log: pytest.LogCaptureFixture
) -> None:
    async with open_world() as world:
        await durable(world)
        async with world.client() as client:
            ids = [await client.delay("add", n, n) for n in range(25)]
            await trio.sleep(1)
            lines(log)
            await client._operations.act_on_tasks(TaskAction.PURGE, ids)
            [line] = lines(log)
            assert (len(line["task_ids"]), line["task_ids_count"]) == (20, 25)
