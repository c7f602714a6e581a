"""The dashboard as a part of somebody else's app, on asyncio and on Trio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
import trio
from starlette.applications import Starlette
from starlette.routing import Mount

from fastworker.dashboard import Dashboard
from tests.dashboard.visits import BEARER, TOKEN
from tests.facade.plane import running_plane

pytestmark = pytest.mark.nng


@pytest.mark.parametrize("run", [trio.run, lambda main: asyncio.run(main())])
def test_an_app_serves_it_below_a_path_for_as_long_as_it_runs(run: object) -> None:
    with running_plane() as plane:
        dashboard = Dashboard(plane.address, token=TOKEN)

        @asynccontextmanager
        async def lifespan(app: Starlette) -> AsyncIterator[None]:
            yield
            await dashboard.aclose()

        app = Starlette(routes=[Mount("/ops", dashboard.app)], lifespan=lifespan)

        async def main() -> None:
            transport = httpx.ASGITransport(app)
            async with lifespan(app), httpx.AsyncClient(transport=transport) as http:
                for _ in range(2):
                    answer = await http.get("http://localhost/ops/api/overview", headers=BEARER)
                    assert answer.status_code == 200
                    assert answer.json()["clients"] == 1
                answer = await http.get("http://localhost/ops/metrics", headers=BEARER)
                assert "fastworker_tasks_submitted_total 0" in answer.text
                answer = await http.post(
                    "http://localhost/ops/api/tasks/actions",
                    headers=BEARER | {"x-fastworker": "1"},
                    json={"action": "cancel", "ids": ["nobody"]},
                )
                assert answer.json()["untouched"][0]["task_id"] == "nobody"

        # Twice: a loop that has ended takes nothing with it.
        run(main)  # type: ignore[operator]
        run(main)  # type: ignore[operator]


def test_a_loop_that_ended_without_a_word_leaves_it_usable() -> None:
    with running_plane() as plane:
        dashboard = Dashboard(plane.address, token=TOKEN)

        async def main() -> None:
            transport = httpx.ASGITransport(dashboard.app)
            async with httpx.AsyncClient(transport=transport, headers=BEARER) as http:
                assert (await http.get("http://localhost/api/queues")).status_code == 200

        trio.run(main)
        asyncio.run(main())
        trio.run(main)
