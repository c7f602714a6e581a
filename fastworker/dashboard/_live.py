"""The live feed. It is not here yet: browsers are told to come again later."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.websockets import WebSocket

if TYPE_CHECKING:
    from fastworker.dashboard._dashboard import Dashboard

TRY_AGAIN_LATER = 1013


async def serve_live(websocket: WebSocket, dashboard: Dashboard) -> None:
    """Serve one browser; who is not let in does not come here."""
    await websocket.accept()
    await websocket.close(TRY_AGAIN_LATER)
