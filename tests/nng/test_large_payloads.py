"""Large arguments and results between real processes, beside everybody else's small ones."""

from __future__ import annotations

import pytest
import trio

from fastworker import Client, PayloadTooLarge, TaskStatus
from tests.nng.processes import Processes

pytestmark = [pytest.mark.nng, pytest.mark.slow, pytest.mark.trio]

MIB = 1024 * 1024


async def test_an_argument_over_the_limit_is_refused_before_it_is_sent(
    processes: Processes,
) -> None:
    # H11 in docs/faults.md.
    plane = processes.control_plane()
    processes.subworkers("w1")
    async with Client(processes.discovery) as client:
        too_large = "x" * (20 * MIB)
        with pytest.raises(PayloadTooLarge, match=r"'echo'.*20,971,\d+.*16,777,216"):
            await client.submit_task("echo", (too_large,))
        with pytest.raises(PayloadTooLarge):
            await client.delay("echo", too_large)
        assert plane.ask()["statistics"]["tasks"]["submitted"] == 0
        assert (await client.submit_task("echo", (1,))).result == 1


async def test_a_result_over_the_limit_is_a_failure_that_says_so(processes: Processes) -> None:
    # T4 in docs/faults.md.
    processes.control_plane()
    [worker] = processes.subworkers("w1")
    async with Client(processes.discovery) as client:
        result = await client.submit_task("inflate", (20 * MIB,))
        assert result.status is TaskStatus.FAILURE
        assert result.error is not None
        assert "16,777,216" in result.error
        assert (await client.submit_task("echo", (1,))).result == 1
    assert worker.is_running()


async def test_ten_megabytes_go_both_ways_and_stall_nobody(processes: Processes) -> None:
    plane = processes.control_plane()
    processes.subworkers("w1", "w2", concurrency=4)
    large = "y" * (10 * 1000 * 1000)
    async with (
        Client(processes.discovery) as one,
        Client(processes.discovery) as other,
        trio.open_nursery() as nursery,
    ):
        done = {one: 0, other: 0}

        async def do_small_things(client: Client) -> None:
            while True:
                assert (await client.submit_task("add", (2, 1))).result == 3
                done[client] += 1

        for client in done:  # the one that waits for large ones, too
            nursery.start_soon(do_small_things, client)
        meanwhile: list[list[int]] = []  # how many of each ended beside a large one
        for _ in range(6):
            before = dict(done)
            result = await one.submit_task("echo", (large,))
            meanwhile.append([done[client] - before[client] for client in done])
            assert result.result == large
        nursery.cancel_scope.cancel()
    # Of those that were stalled, only the one could have ended that was ahead of it.
    assert all(count > 1 for each in meanwhile for count in each), meanwhile
    assert plane.is_running()
