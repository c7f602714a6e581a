"""Each test that asks for ``kind`` or ``world`` runs once for each kind of lane."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_trio  # type: ignore[import-untyped]

from tests.lanes.lane_world import BOTH, KINDS, World, open_world


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest_trio.trio_fixture  # type: ignore[untyped-decorator]
async def world(kind: str) -> AsyncIterator[World]:
    """A started lane with one slot that accepts both formats."""
    async with open_world(kind, accepted_formats=BOTH) as world:
        yield world
