"""The dashboard's app through ASGI: requests and WebSockets of anybody.

Behind it is a whole cluster in memory and in virtual time, which goes on with its tasks.
Each request gets one answer that is below 500, or 503; nothing is raised out of the app.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random
from typing import Any, Final

import msgspec
import trio

from fastworker.dashboard import Dashboard
from fastworker.testing._virtual_time import run_in_virtual_time
from tests.dashboard.visits import BEARER, Visitor, new_dashboard, open_dashboard
from tests.fuzz.hostile_requests import (
    a_body,
    a_scope,
    a_websocket_scope,
    websocket_messages,
)

# Whatever is asked, an answer comes within so many (virtual) seconds.
PATIENCE: Final = 120.0

Case = Callable[["Guest", Random], Any]


class Guest:
    """A dashboard, and the ids of tasks that its cluster has."""

    def __init__(self, dashboard: Dashboard, ids: list[str]) -> None:
        self.dashboard = dashboard
        self.ids = ids

    async def ask(self, rng: Random) -> None:
        """A request."""
        scope = a_scope(rng, self.dashboard.operations, self.ids)
        incoming = iter(a_body(rng, self.ids))
        has_left = False
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            nonlocal has_left
            message = next(incoming, {"type": "http.disconnect"})
            has_left = has_left or message["type"] == "http.disconnect"
            return message

        async def send(message: Any) -> None:
            sent.append(message)

        with trio.fail_after(PATIENCE):
            await self.dashboard.app(scope, receive, send)
        if sent or not has_left:
            _check_answer(scope, sent)

    async def watch(self, rng: Random) -> None:
        """A WebSocket."""
        scope = a_websocket_scope(rng, self.dashboard.operations, self.ids)
        incoming = iter(websocket_messages(rng))
        pause = rng.choice([0.0, 0.3, 3.0])
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            await trio.sleep(pause)
            message = next(incoming, None)
            if message is None:
                raise AssertionError("read on after the end")
            return message

        async def send(message: Any) -> None:
            sent.append(message)

        with trio.fail_after(PATIENCE):
            await self.dashboard.app(scope, receive, send)
        _check_websocket(scope, sent)


class Requests:
    """See the module's first lines."""

    life = 500

    def __init__(
        self, name: str, share: float, try_case: Case, *, has_cluster: bool = True
    ) -> None:
        self.name = name
        self.share = share
        self._try_case = try_case
        self._has_cluster = has_cluster

    def live(self, cases: Iterable[Random]) -> None:
        async def main(clock: object) -> None:
            if not self._has_cluster:
                guest = Guest(new_dashboard(), ["t1"])
                for rng in cases:
                    await self._try_case(guest, rng)
                await guest.dashboard.aclose()
                return
            async with (
                open_dashboard(slots=2) as (world, dashboard, visitor),
                world.client() as client,
            ):
                ids = [await client.delay("add", number, 1) for number in range(4)]
                ids += [await client.delay("wait", name) for name in ("x", "y", "z")]
                ids.append(await client.delay("fail"))
                guest = Guest(dashboard, ids)
                for rng in cases:
                    await self._try_case(guest, rng)
                await self._see_that_it_goes_on(visitor)

        run_in_virtual_time(main, seed=self.name)

    async def _see_that_it_goes_on(self, visitor: Visitor) -> None:
        for path in ("/api/overview", "/api/tasks", "/api/workers", "/api/functions"):
            await visitor.get(path, headers=BEARER)


def _check_answer(scope: dict[str, Any], sent: list[dict[str, Any]]) -> None:
    start, *bodies = sent
    status, headers = start["status"], start["headers"]
    said = b"".join(message.get("body", b"") for message in bodies)
    told = f"{scope['method']} {scope['raw_path']!r}: {status} {said[:300]!r}"
    is_fine = isinstance(status, int) and (200 <= status < 500 or status == 503)
    if start["type"] != "http.response.start" or not is_fine:
        raise AssertionError(told)
    if {message["type"] for message in bodies} != {"http.response.body"}:
        raise AssertionError(f"{told}: {bodies}")
    if [message.get("more_body", False) for message in bodies][-1]:
        raise AssertionError(f"{told}: it does not end")
    for name, value in headers:
        if set(name + value) & set(b"\r\n\0"):
            raise AssertionError(f"{told}: header {name!r}: {value!r}")
    if b"x-content-type-options" not in dict(headers):
        raise AssertionError(f"{told}: it is not guarded")
    if dict(headers).get(b"content-type") == b"application/json":
        msgspec.json.decode(said)  # a program can tell what was wrong


def _check_websocket(scope: dict[str, Any], sent: list[dict[str, Any]]) -> None:
    kinds = [message["type"] for message in sent]
    told = f"{scope['raw_path']!r}: {sent}"
    if kinds[0] == "websocket.http.response.start":
        if not 400 <= sent[0]["status"] < 500:
            raise AssertionError(told)
    elif kinds[0] == "websocket.accept":
        if set(kinds[1:-1]) - {"websocket.send"}:
            raise AssertionError(told)
    elif kinds != ["websocket.close"]:
        raise AssertionError(told)


REQUESTS: Final = [
    Requests("HTTP requests", 30, Guest.ask),
    Requests("HTTP, no cluster", 2, Guest.ask, has_cluster=False),
    Requests("WebSockets", 2, Guest.watch),
]
