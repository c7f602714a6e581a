"""A stream whose reader is cancelled at any step whatever: nothing of it goes on."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from tests.shell.cancel_steps import TRIO_SWEEP, assert_idle, cancelled_at, sweep
from tests.shell.world import open_world

pytestmark = [pytest.mark.trio, pytest.mark.slow]


@TRIO_SWEEP.covers("Submitter.stream", "Stream.__anext__")
@pytest.mark.parametrize("name", ["count", "count_in_a_thread"])
async def test_reading_a_stream(name: str, autojump_clock: MockClock) -> None:
    async with open_world() as world, world.client() as client:

        async def attempt(steps: int) -> bool:
            got: list[int] = []

            async def read() -> None:
                async with client.options(buffer=2).stream(name, steps, 4) as values:
                    async for value in values:
                        got.append(value)

            was_cancelled, _ = await cancelled_at(steps, read)
            # At this moment, without any time for it: the block has been left.
            began = any(what == steps for what, _ in world.ran)
            if began:
                assert world.stopped.count(steps) == 1
            assert got == list(range(len(got)))
            if not was_cancelled:
                assert len(got) == 4
            await trio.sleep(0.2)
            assert any(what == steps for what, _ in world.ran) == began
            assert_idle(world, client)
            assert not client._usable_session()._readers
            assert not client._state._streams._readings
            return was_cancelled

        await sweep(attempt)
