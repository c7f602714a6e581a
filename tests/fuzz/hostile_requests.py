"""Hostile requests as an ASGI server hands them over, and messages of a WebSocket."""

from __future__ import annotations

import json
from random import Random
from typing import Any, Final
from urllib.parse import unquote

from fastworker.dashboard._operations import Operation
from tests.dashboard.visits import TOKEN
from tests.fuzz.hostile_messages import a_json, a_json_value, damaged
from tests.fuzz.hostile_texts import a_typed_text

Headers = list[tuple[bytes, bytes]]

_METHODS: Final = (
    "GET",
    "POST",
    "DELETE",
    "HEAD",
    "PUT",
    "PATCH",
    "OPTIONS",
    "TRACE",
    "get",
    "X",
)
_PATHS: Final = (
    "/", "", "//", "/api", "/api/", "/api/tasks/", "/api/live", "/static/../token", "/static/",
    "/static/%2e%2e/x", "/api/tasks/%00", "/api/tasks/%ff%fe", "/api/tasks/a%2Fb/cancel",
    "/api/tasks//cancel", "/api/workers//drain", "/api/tasks/é", "*", "/livez/", "/index.html",
    "http://localhost/livez", "/api/tasks/" + "x" * 300, "/" + "a/" * 2_000, "/%", "/%zz",
)  # fmt: skip
_HOSTS: Final = (
    b"localhost", b"localhost:8080", b"127.0.0.1", b"[::1]:1", b"LOCALHOST:x",
    b"localhost:\xff", b"localhost\r\nx: y",
    b"evil.example", b"", b"[::1", b"localhost:80:90", b"a" * 20_000,
)  # fmt: skip
_ORIGINS: Final = (
    b"http://localhost:8080", b"https://localhost", b"null", b"http://[", b"http://\xff", b"",
    b"http://localhost:99999", b"file://", b"http://localhost:8080/x", b"http://user@localhost",
)  # fmt: skip
_NAMES: Final = (
    b"host", b"origin", b"cookie", b"authorization", b"content-length", b"content-type",
    b"x-fastworker", b"x-fastworker-proof", b"sec-fetch-site", b"if-none-match", b"range",
    b"transfer-encoding", b"x-forwarded-host", b"forwarded", b"", b"accept", b"expect",
)  # fmt: skip
_VALUES: Final = {
    "limit": "7",
    "before": "5",
    "since": "0",
    "until": "1735689600.5",
    "poison": "true",
    "status": "success",
    "priority": "normal",
    "phase": "queued",
    "worker": "w1",
}
_WATCHES: Final = (
    '{"type": "watch", "tasks": true}', '{"type": "watch"}', '{"type": "watch", "tasks": 1}',
    '{"type": 1}', "{", "[]", "null", "", "\ud800", "[" * 900, '{"type": "watch"' + " " * 2_000,
)  # fmt: skip


def a_scope(rng: Random, operations: list[Operation], ids: list[str]) -> dict[str, Any]:
    """A request: nearly one that is answered, as a rule."""
    operation = rng.choice(operations)
    method = operation.method if rng.random() < 0.8 else rng.choice(_METHODS)
    path = _path(rng, operation.path, ids) if rng.random() < 0.85 else rng.choice(_PATHS)
    raw = path.encode("utf-8", "surrogatepass")
    if rng.random() < 0.05:
        raw = damaged(rng, raw)
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": rng.choice(["1.1", "1.1", "1.0", "2"]),
        "method": method,
        "scheme": rng.choice(["http", "http", "https"]),
        "path": unquote(raw.decode("latin-1")),
        "raw_path": raw,
        "root_path": "",
        "query_string": _query(rng, operation),
        "headers": _headers(rng, method),
        "client": rng.choice([("10.1.2.3", 5), ("10.1.2.4", 6), None]),
        "server": rng.choice([("localhost", 8080), ("/run/x.sock", None), None]),
        "state": {},
    }


def a_websocket_scope(
    rng: Random, operations: list[Operation], ids: list[str]
) -> dict[str, Any]:
    """A request to open a WebSocket."""
    scope = a_scope(rng, operations, ids)
    del scope["method"]
    if rng.random() < 0.85:
        scope["path"], scope["raw_path"] = "/api/live", b"/api/live"
    if rng.random() < 0.7:
        scope["headers"] = [(b"host", b"localhost"), _token()]
    extensions: dict[str, Any] = {"websocket.http.response": {}} if rng.random() < 0.5 else {}
    subprotocols = rng.choice([[], ["x"]])
    return scope | {
        "type": "websocket",
        "scheme": "ws",
        "subprotocols": subprotocols,
        "extensions": extensions,
    }


def a_body(rng: Random, ids: list[str]) -> list[dict[str, Any]]:
    """The messages of a request's body."""
    match rng.randrange(6):
        case 0:
            data = a_json(rng)
        case 1:
            data = json.dumps({"token": rng.choice([TOKEN, a_typed_text(rng)])}).encode()
        case 2 | 3 | 4:
            words = ["cancel", "retry", "purge", "cancel", "retry", "drain", 1]
            some = [rng.choice([*ids, a_typed_text(rng)]) for _ in range(rng.randrange(5))]
            data = json.dumps({"action": rng.choice(words), "ids": some}).encode()
        case _:
            data = json.dumps(a_json_value(rng, 3)).encode() * rng.choice([1, 1, 1, 3_000])
    if rng.random() < 0.2:
        data = damaged(rng, data)
    data = data[: 2 * 1024 * 1024]
    cuts = sorted(rng.randrange(len(data) + 1) for _ in range(rng.randrange(4)))
    parts = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    messages: list[dict[str, Any]] = [
        {"type": "http.request", "body": part, "more_body": True} for part in parts
    ]
    messages[-1]["more_body"] = False
    if rng.random() < 0.05:
        messages[rng.randrange(len(messages)) :] = [{"type": "http.disconnect"}]
    return messages


def websocket_messages(rng: Random) -> list[dict[str, Any]]:
    """What a browser sends, and then that it goes."""
    messages: list[dict[str, Any]] = [{"type": "websocket.connect"}]
    for _ in range(rng.randrange(6)):
        text = rng.choice(_WATCHES) if rng.random() < 0.7 else a_typed_text(rng)
        match rng.randrange(8):
            case 0:
                messages.append({"type": "websocket.receive", "bytes": a_json(rng)})
            case 1:
                said = {"type": "websocket.receive", "bytes": None, "text": text}
                messages.append(said)
            case _:
                messages.append({"type": "websocket.receive", "text": text})
    code = rng.choice([1000, 1001, 1006, 4999])
    return [*messages, {"type": "websocket.disconnect", "code": code}]


def _path(rng: Random, path: str, ids: list[str]) -> str:
    parts = path.split("/")
    for place, part in enumerate(parts):
        if part.startswith("{"):
            parts[place] = rng.choice([*ids, "w1", a_typed_text(rng), "index.html"])
    path = "/".join(parts)
    if rng.random() < 0.1:
        path += rng.choice(["/", "//", "/cancel", "%00", "?", "#x", ";x", "/.."])
    return path


def _query(rng: Random, operation: Operation) -> bytes:
    names = [each.name for each in operation.parameters]
    if rng.random() < (0.3 if names else 0.85):
        return b""
    parts: list[str] = []
    for _ in range(rng.choice([1, 1, 2, 3, 20])):
        name = rng.choice(names) if names and rng.random() < 0.9 else a_typed_text(rng)[:30]
        value = _VALUES.get(name, "add")
        if rng.random() < 0.3:
            value = a_typed_text(rng)[:2_000]
        parts.append(name + rng.choice(["=", "=", "=", "", "=="]) + value)
    query = "&".join(parts).encode("utf-8", "surrogatepass")
    return damaged(rng, query) if rng.random() < 0.1 else query


def _headers(rng: Random, method: str) -> Headers:
    host = rng.choice(_HOSTS) if rng.random() < 0.04 else b"localhost:8080"
    headers = [(b"host", host)]
    if rng.random() < 0.96:
        headers.append(_token())
    if method != "GET" and rng.random() < 0.95:
        headers.append((b"x-fastworker", b"1"))
    if rng.random() < 0.9:
        headers.append((b"content-type", b"application/json"))
    if rng.random() < 0.05:
        headers.append((b"origin", rng.choice(_ORIGINS)))
    for _ in range(rng.choice([0] * 9 + [1, 1, 3])):
        value = a_typed_text(rng)[:1_000].encode("utf-8", "surrogatepass")
        headers.append((rng.choice(_NAMES), value))
    if rng.random() < 0.05 and len(headers) > 1:
        del headers[rng.randrange(len(headers))]
    return headers


def _token() -> tuple[bytes, bytes]:
    return b"authorization", f"Bearer {TOKEN}".encode()


def some_bytes_of_http(rng: Random) -> bytes:
    """What a peer sends: requests as they travel, with some of it changed."""
    body = a_json(rng)[: rng.choice([0, 10, 5_000])]
    lines = [
        rng.choice(["GET / HTTP/1.1", "POST /api/session HTTP/1.1", "GET /livez HTTP/1.0"]),
        "Host: localhost",
        "Content-Type: application/json",
        rng.choice(["Connection: close", "Connection: Upgrade", "Expect: 100-continue"]),
        rng.choice(["Upgrade: websocket", "Upgrade: h2c", "X: y"]),
        rng.choice(["Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: x", "X: y"]),
        rng.choice([f"Content-Length: {len(body)}", "Transfer-Encoding: chunked", "X: y"]),
        f"{TOKEN_HEADER}\r\nX-FastWorker: 1",
    ]
    whole = "\r\n".join(lines).encode() + b"\r\n\r\n" + body
    match rng.randrange(8):
        case 0:
            return a_json(rng)[:50_000]
        case 1:
            return whole * 3
        case 2:
            return whole
        case _:
            return damaged(rng, whole)


TOKEN_HEADER: Final = f"Authorization: Bearer {TOKEN}"
