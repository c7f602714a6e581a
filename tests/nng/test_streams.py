"""A stream between real processes: read, left, and lost."""

from __future__ import annotations

import pytest

from fastworker import Client, TaskLost
from tests.nng.peer_tasks import Notes
from tests.nng.processes import Processes

pytestmark = [pytest.mark.nng, pytest.mark.slow, pytest.mark.trio]


async def test_a_stream_is_read_left_and_lost(processes: Processes, notes: Notes) -> None:
    processes.control_plane()
    [worker] = processes.subworkers("w1")
    async with Client(processes.discovery) as client:
        async with client.stream("count", notes.path, "read", 10_000) as values:
            assert [value async for value in values] == list(range(10_000))

        async with client.stream("count", notes.path, "left", 10_000) as values:
            async for value in values:
                if value == 100:
                    break
        assert [what for name, what, _, _ in notes.lines() if name == "left"] == [
            "start",
            "end",
        ]

        async with client.stream("count", notes.path, "lost", 10_000) as values:
            assert await anext(values) == 0
            worker.kill()
            with pytest.raises(TaskLost, match="had given values"):
                async for _ in values:
                    pass
        assert len(notes.starts("lost")) == 1
