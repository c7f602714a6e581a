"""What stands before every route, method and WebSocket: nothing is reached around it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fastworker._errors import FastWorkerError, LinkError, StoreUnavailable, TaskNotFound
from fastworker.dashboard._operations import json_response
from fastworker.dashboard._policy import READING, Policy, Refusal, Visit

log = logging.getLogger("fastworker.dashboard")

# Nothing from elsewhere, nothing inline, in nobody's frame.
CONTENT_POLICY: Final = (
    "default-src 'self'; base-uri 'none'; object-src 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)
_HEADERS: Final = (
    (b"content-security-policy", CONTENT_POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
)


class Guard:
    """An ASGI app before another.

    Args:
      clock: of the event loop, in seconds.
      sign_in_page: answers whoever opens the page without having signed in.
    """

    def __init__(
        self, app: ASGIApp, policy: Policy, clock: Callable[[], float], sign_in_page: ASGIApp
    ) -> None:
        self._app = app
        self._policy = policy
        self._clock = clock
        self._sign_in_page = sign_in_page

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                given = [(k, v) for k, v in message.get("headers", ()) if k not in _NAMES]
                names = {name for name, _ in given}
                if b"cache-control" not in names:
                    given.append((b"cache-control", b"no-store"))
                message = {**message, "headers": [*given, *_HEADERS]}
            await send(message)

        visit = visit_of(scope)
        try:
            scope["fastworker.visitor"] = self._policy.admit(visit, self._clock())
        except Refusal as refusal:
            is_page = visit.path in ("", "/") and visit.method in READING
            if refusal.status == 401 and is_page and not visit.is_websocket:
                await self._sign_in_page(scope, receive, send_guarded)
            else:
                await _refuse(refusal, scope, receive, send_guarded)
            return
        await self._app(scope, receive, send_guarded)


_NAMES: Final = frozenset(name for name, _ in _HEADERS)


def visit_of(scope: Scope) -> Visit:
    """What a policy has to know of a request."""
    client = scope.get("client")
    return Visit(
        scope.get("method", "GET"),
        path_of(scope),
        scope["headers"],
        client[0] if client else "",
        scope["type"] == "websocket",
        len(scope.get("raw_path") or b"") + len(scope.get("query_string", b"")),
    )


def path_of(scope: Scope) -> str:
    """The path from where the dashboard is mounted on."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    return path[len(root) :] if root and path.startswith(root) else path


def refusal_response(refusal: Refusal) -> Response:
    """What is answered to somebody who is refused."""
    body = {"error": {"code": refusal.code, "message": refusal.message}}
    return json_response(refusal.status, body, refusal.headers)


def refusal_of(error: FastWorkerError) -> Refusal:
    """The answer to what the control plane, or the way to it, had to say."""
    match error:
        case TaskNotFound():
            return Refusal(404, "not_found", str(error))
        case StoreUnavailable():
            return Refusal(503, "store_unavailable", str(error), {"retry-after": "5"})
        case LinkError():
            return Refusal(503, "control_plane_unreachable", str(error), {"retry-after": "2"})
        case _:
            return Refusal(503, "unavailable", str(error), {"retry-after": "2"})


async def _refuse(refusal: Refusal, scope: Scope, receive: Receive, send: Send) -> None:
    response = refusal_response(refusal)
    if scope["type"] == "http" or "websocket.http.response" in scope.get("extensions", {}):
        await response(scope, receive, send)
    else:
        await send({"type": "websocket.close", "code": 1008, "reason": refusal.code})
