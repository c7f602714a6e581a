"""Links and listeners that prove a role keep the contract of links, on both loops."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
import pytest

from fastworker._core._keys import keys_of
from fastworker._core._listener_gate import MAX_STRANGERS
from fastworker._core._roles import PeerRole
from fastworker._transport._authenticated import AuthenticatedTransport
from fastworker._transport._in_process import InProcessNetwork
from fastworker.testing import MemoryNetwork, check_link

pytestmark = pytest.mark.anyio

TOKEN = b"a token of many bytes, and random"
ADDRESS = "memory://control-plane"
KEYS = keys_of(dict.fromkeys(PeerRole, TOKEN))


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def test_links_in_memory_that_prove_a_role_keep_the_contract() -> None:
    names = iter(range(100))
    await check_link(
        lambda: AuthenticatedTransport(
            MemoryNetwork(redial_delay=0), KEYS, role=PeerRole.CLIENT
        ),
        lambda: f"memory://number-{next(names)}",
    )


async def test_links_between_loops_that_prove_a_role_keep_the_contract() -> None:
    names = iter(range(100))
    await check_link(
        lambda: AuthenticatedTransport(InProcessNetwork(), KEYS, role=PeerRole.CLIENT),
        lambda: f"memory://number-{next(names)}",
    )


async def test_many_who_come_back_at_once_all_get_in() -> None:
    """More than there may be strangers: some have to come again."""
    network = MemoryNetwork(redial_delay=0.1)
    transport = AuthenticatedTransport(network, KEYS, role=PeerRole.CLIENT)
    links = [transport.dial(ADDRESS) for _ in range(2 * MAX_STRANGERS + 50)]
    listener = transport.listen(ADDRESS)
    async with anyio.create_task_group() as group:
        group.start_soon(run, listener.run_backlog)
        for link in links:
            group.start_soon(run, link.run)
        with anyio.fail_after(60):
            for link in links:
                await link.wait_sendable()
        group.cancel_scope.cancel()
    assert listener.statistics().admitted == len(links)
    assert listener.statistics().wrong_tokens == 0
    for end in (*links, listener):
        end.close()


async def run(what: Callable[[], Awaitable[None]]) -> None:
    await what()
