"""A dashboard on the network in memory, and somebody who asks it without a socket."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import httpx
import msgspec

from fastworker._transport._memory import MemoryNetwork
from fastworker.dashboard import Dashboard
from tests.shell.world import World, open_world

TOKEN = "t" * 43
ROOT = "http://localhost:8080"
WRITE = {"x-fastworker": "1"}
BEARER = {"authorization": f"Bearer {TOKEN}"}


def new_dashboard(**settings: Any) -> Dashboard:
    """A dashboard whose control plane is away."""
    return Dashboard(token=TOKEN, transport=MemoryNetwork(random=Random(0)), **settings)


class Visitor:
    """Asks an ASGI app, as a program that has the token unless it is told otherwise."""

    def __init__(
        self, app: Any, headers: Mapping[str, str] = BEARER, *, root_path: str = ""
    ) -> None:
        transport = httpx.ASGITransport(app, root_path=root_path, client=("10.1.2.3", 5))
        self.http = httpx.AsyncClient(transport=transport, base_url=ROOT, headers=headers)

    async def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        """The answer, whatever it is."""
        return await self.http.request(method, path, **options)

    async def get(self, path: str, status: int = 200, **options: Any) -> Any:
        """What is answered to a GET, decoded."""
        answer = await self.ask("GET", path, **options)
        assert answer.status_code == status, answer.text
        return msgspec.json.decode(answer.content)

    async def post(self, path: str, body: Any = None, status: int = 200, **options: Any) -> Any:
        """What is answered to a POST, decoded."""
        headers = WRITE | options.pop("headers", {})
        answer = await self.ask("POST", path, json=body, headers=headers, **options)
        assert answer.status_code == status, answer.text
        return msgspec.json.decode(answer.content) if answer.content else None


@asynccontextmanager
async def open_dashboard(
    **settings: Any,
) -> AsyncIterator[tuple[World, Dashboard, Visitor]]:
    """A cluster, its dashboard, and somebody who has the token."""
    async with open_world(**settings) as world:
        dashboard = Dashboard(token=TOKEN, transport=world.network)
        try:
            yield world, dashboard, Visitor(dashboard.app)
        finally:
            await dashboard.aclose()


async def open_websocket(
    app: Any, headers: Mapping[str, str], *, path: str = "/api/live"
) -> list[dict[str, Any]]:
    """Try to open a WebSocket and go at once; what the app sent."""
    sent: list[dict[str, Any]] = []
    events = iter(
        [{"type": "websocket.connect"}, {"type": "websocket.disconnect", "code": 1000}]
    )

    async def receive() -> dict[str, Any]:
        return next(events)

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "websocket",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "scheme": "ws",
        "query_string": b"",
        "headers": [(k.encode(), v.encode()) for k, v in headers.items()],
        "client": ("10.1.2.3", 5),
        "server": ("localhost", 8080),
        "subprotocols": [],
        "extensions": {"websocket.http.response": {}},
    }
    await app(scope, receive, send)
    return sent


def audit_lines(caplog: Any) -> list[dict[str, Any]]:
    """What was written down of those who did something."""
    return [
        json.loads(record.getMessage())
        for record in caplog.records
        if record.name == "fastworker.audit"
    ]
