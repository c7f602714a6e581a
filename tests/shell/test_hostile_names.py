"""X7: whatever a caller gives as a name or an id, the answer is clear and the client lives.

No name is looked up anywhere but among the registered ones, and none of them
closes the session, which would take the caller's other tasks with it.
"""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from fastworker import TaskStatus, UnknownTask
from tests.shell.world import open_world, settle

pytestmark = pytest.mark.trio

NAMES = {
    "empty": "",
    "one character too long": "x" * 257,
    "a million characters": "x" * 1_000_000,
    "half a character": "\ud800",
    "a zero": "a\0dd",
    "an import": "os.system",
    "a path": "../add",
    "a dunder": "__init__",
    "homoglyphs": "\u0430dd",
    "the longest": "\U0001f600" * 256,
    "format fields": "{0.__class__}%s",
    "lines": "add\nadd",
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
async def test_a_name_that_nobody_registered_is_unknown_and_harms_nothing(
    autojump_clock: MockClock, name: str
) -> None:
    # T5, X7 in docs/faults.md.
    async with open_world(slots=2) as world, world.client() as client:
        await trio.sleep(6)  # names are not held for workers to come any more
        mine = await client.delay("wait", "mine")
        with trio.fail_after(1):
            for submit in (client.delay, client.submit_task):
                with pytest.raises(UnknownTask, match="unknown task '") as caught:
                    await submit(name)
                assert len(str(caught.value)) < 3000
            assert await client.get_task_result(name) is None
        assert client.get_result(name) is None
        assert client.get_status(name) is None
        assert (await client.submit_task("add", (1, 2))).result == 3
        world.let_go("mine")
        await settle()
        assert client.get_status(mine) is TaskStatus.SUCCESS
        statistics = world.plane.statistics()
        assert statistics is not None
        assert (statistics.closed_sessions, statistics.malformed_frames) == (0, 0)
