"""Hostile bytes on the dashboard's port: to hypercorn and h11, over real sockets.

What comes through them to the app is tried far more often in memory (``tests/fuzz``).
"""

from __future__ import annotations

import logging
from random import Random

import pytest
import trio

from tests.fuzz.hostile_requests import some_bytes_of_http
from tests.nng.test_http_limits import is_well, read_all, serve, statuses, until

pytestmark = [pytest.mark.nng, pytest.mark.trio]

CASES = 400
AT_ONCE = 20


async def test_hostile_bytes_of_http_are_refused_and_others_are_served(
    caplog: pytest.LogCaptureFixture,
) -> None:
    # X16 in docs/faults.md.
    limiter = trio.CapacityLimiter(AT_ONCE)
    async with serve() as (server, port):

        async def send(number: int) -> None:
            data = some_bytes_of_http(Random(number))
            async with limiter, await trio.open_tcp_stream("127.0.0.1", port) as stream:
                try:
                    await stream.send_all(data)
                    await stream.send_eof()
                except trio.BrokenResourceError:
                    pass  # refused before all of it was sent
                found = statuses(await read_all(stream))
                assert set(found) <= WELL, (number, data, found)

        async with trio.open_nursery() as nursery:
            for number in range(CASES):
                nursery.start_soon(send, number)
        assert await is_well(port)
        await until(lambda: server.connection_count == 0)
    bad = [each for each in caplog.records if each.levelno >= logging.WARNING]
    assert not bad, [each.getMessage() for each in bad]


WELL = {b"101", b"100", b"200", b"204", b"400", b"401", b"403", b"404", b"405", b"408"} | {
    *(b"413", b"415", b"421", b"426", b"431", b"501", b"503"),
}
