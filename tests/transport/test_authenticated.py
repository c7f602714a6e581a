"""Links and listeners that prove a role keep the contract of links, on both loops."""

from __future__ import annotations

import pytest

from fastworker._core._keys import keys_of
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
