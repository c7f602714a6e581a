"""The live feed's WebSocket: from the hub to one browser.

Who is not let in does not come here (``_guard.py``). A browser says only whether it
wants to be told of tasks; what else it sends ends it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

import anyio
import msgspec
from starlette.websockets import WebSocket, WebSocketDisconnect

from fastworker.dashboard._hub import Connection, Hub, TooManyBrowsers

if TYPE_CHECKING:
    from fastworker.dashboard._dashboard import Dashboard

GOING_AWAY: Final = 1001
POLICY_VIOLATION: Final = 1008
TRY_AGAIN_LATER: Final = 1013
# For so long a browser that is given up may take to be told why.
CLOSE_SECONDS: Final = 1.0
MAX_ASKED_CHARACTERS: Final = 1_000


class Watch(msgspec.Struct, frozen=True):
    """Whether a browser wants to be told of tasks."""

    type: Literal["watch"]
    tasks: bool = False


async def serve_live(websocket: WebSocket, dashboard: Dashboard) -> None:
    """Serve one browser until it goes, or is given up."""
    await serve(websocket, dashboard.hub)


async def serve(websocket: WebSocket, hub: Hub) -> None:
    """See :func:`serve_live`."""
    await websocket.accept()
    hub.start_if_new()
    try:
        with hub.connect() as connection:
            visit = _Visit(websocket, hub, connection)
            await visit.run()
    except TooManyBrowsers as error:
        await _close(websocket, TRY_AGAIN_LATER, str(error))
        return
    if visit.is_gone:
        return
    if visit.problem:
        await _close(websocket, POLICY_VIOLATION, visit.problem)
    elif connection.is_too_slow:
        await _close(websocket, TRY_AGAIN_LATER, "too much waited to be read")
    else:
        await _close(websocket, GOING_AWAY, "the dashboard stops")


async def _close(websocket: WebSocket, code: int, reason: str) -> None:
    # It may be that nothing can be sent any more, which is why it is given up.
    with anyio.move_on_after(CLOSE_SECONDS):
        try:
            await websocket.close(code, reason)
        except (WebSocketDisconnect, RuntimeError):
            pass  # it is closed already


class _Visit:
    """A browser while it is here."""

    def __init__(self, websocket: WebSocket, hub: Hub, connection: Connection) -> None:
        self._websocket = websocket
        self._hub = hub
        self._connection = connection
        self.is_gone = False
        self.problem = ""

    async def run(self) -> None:
        """Send and receive until it ends, one way or another."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._send)
            tasks.start_soon(self._receive)
            await self._connection.ended.wait()
            tasks.cancel_scope.cancel()

    async def _send(self) -> None:
        try:
            while True:
                await self._websocket.send_text(await self._connection.next())
        except WebSocketDisconnect:
            self._end(is_gone=True)

    async def _receive(self) -> None:
        while not self._connection.ended.is_set():
            message = await self._websocket.receive()
            if message["type"] == "websocket.disconnect":
                self._end(is_gone=True)
                return
            text = message.get("text")
            if text is None or len(text) > MAX_ASKED_CHARACTERS:
                self._end(problem="send short texts only")
                return
            try:
                watch = msgspec.json.decode(text, type=Watch)
            except (msgspec.DecodeError, UnicodeError, RecursionError):
                self._end(problem='send {"type": "watch", "tasks": true} or false')
                return
            self._hub.watch(self._connection, tasks=watch.tasks)

    def _end(self, *, is_gone: bool = False, problem: str = "") -> None:
        self.is_gone = is_gone
        self.problem = problem
        self._connection.ended.set()
