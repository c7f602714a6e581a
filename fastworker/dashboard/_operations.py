"""What can be asked over HTTP: one table, from which routes and their description are made.

So a route that is not described cannot be, and none that is not guarded.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import anyio
import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from fastworker.dashboard._parameters import Parameter, bad_request, parse_query
from fastworker.dashboard._policy import Refusal, Visitor

if TYPE_CHECKING:
    from fastworker.dashboard._dashboard import Dashboard

MAX_BODY_BYTES: Final = 1024 * 1024
BODY_SECONDS: Final = 30.0
JSON: Final = "application/json"


@dataclass(frozen=True)
class Answer:
    """A body of JSON with a status other than 200; None is no body."""

    status: int
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Call:
    """One request that was let in and understood.

    ``path`` are the parts of the path by name, ``query`` the parameters, ``body``
    is what the operation says.
    """

    dashboard: Dashboard
    request: Request
    visitor: Visitor
    path: Mapping[str, str]
    query: Mapping[str, Any]
    body: Any


Handler = Callable[[Call], Awaitable[Any]]


@dataclass(frozen=True)
class Operation:
    """A method of a path.

    Args:
      answer: type of the body of the good answer; None if it has none, or is no JSON.
      errors: status codes of answers that only this operation gives.
      body: type of the body that is needed.
      is_open: anybody may ask, without signing in.
      is_described: whether it is part of the API.
    """

    method: str
    path: str
    handler: Handler
    summary: str
    answer: Any = None
    status: int = 200
    media_type: str = JSON
    parameters: tuple[Parameter, ...] = ()
    body: Any = None
    errors: tuple[int, ...] = ()
    is_open: bool = False
    is_described: bool = True


class Place:
    """The operations of one path, as an ASGI app: a method that is not there is 405."""

    def __init__(self, dashboard: Dashboard, operations: Iterable[Operation]) -> None:
        self._dashboard = dashboard
        self.operations = {each.method: each for each in operations}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        operation = self.operations.get("GET" if request.method == "HEAD" else request.method)
        try:
            response = await self._answer(operation, request)
        except ClientDisconnect:
            return
        await response(scope, receive, send)

    async def _answer(self, operation: Operation | None, request: Request) -> Response:
        if operation is None:
            methods = [*self.operations, *(["HEAD"] if "GET" in self.operations else [])]
            raise Refusal(
                405,
                "method_not_allowed",
                f"{request.method[:20]} is not possible here",
                {"allow": ", ".join(methods)},
            )
        query = parse_query(operation.parameters, request.query_params.multi_items())
        body = None if operation.body is None else await _read(request, operation.body)
        found = await operation.handler(
            Call(
                self._dashboard,
                request,
                request.scope["fastworker.visitor"],
                request.path_params,
                query,
                body,
            )
        )
        if isinstance(found, Response):
            return found
        if not isinstance(found, Answer):
            found = Answer(operation.status, found)
        return json_response(found.status, found.body, found.headers)


def json_response(status: int, body: Any, headers: Mapping[str, str] | None = None) -> Response:
    """A response of JSON, or without a body."""
    content = b"" if body is None else msgspec.json.encode(body)
    response = Response(content, status, media_type=None if body is None else JSON)
    for name, value in (headers or {}).items():
        response.headers[name] = value
    return response


async def _read(request: Request, kind: Any) -> Any:
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type != JSON:
        raise Refusal(415, "unsupported_media_type", f"send JSON, with 'Content-Type: {JSON}'")
    data = await _read_bytes(request)
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.ValidationError, msgspec.DecodeError, RecursionError) as error:
        raise bad_request(f"the body is not what is needed: {error}"[:500]) from None
    except UnicodeDecodeError:
        raise bad_request("the body is not what is needed: it is not UTF-8") from None


async def _read_bytes(request: Request) -> bytes:
    too_large = Refusal(413, "too_large", f"a body has at most {MAX_BODY_BYTES:,} bytes")
    length = request.headers.get("content-length", "0")
    if not length.isascii() or not length.isdigit() or len(length) > 18:
        raise bad_request("Content-Length is no number")
    if int(length) > MAX_BODY_BYTES:
        raise too_large
    data = bytearray()
    with anyio.move_on_after(BODY_SECONDS):
        while True:
            message = await request.receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            data += message.get("body", b"")
            if len(data) > MAX_BODY_BYTES:
                raise too_large
            if not message.get("more_body", False):
                return bytes(data)
    raise Refusal(408, "too_slow", f"the body did not arrive within {BODY_SECONDS:g} s")
