"""Nobody comes in who is not let in: every route, every method, and the WebSocket.

X12 to X14 in docs/faults.md. The routes are taken from the app itself, so that one
that is added is tested as well.
"""

from __future__ import annotations

import itertools
import logging
from typing import Any

import httpx
import pytest
from starlette.routing import Route, WebSocketRoute
from trio.testing import MockClock

from fastworker.dashboard import Dashboard
from fastworker.dashboard._guard import CONTENT_POLICY
from fastworker.dashboard._operations import Place
from fastworker.dashboard._policy import Refusal, Visit
from tests.dashboard.visits import (
    BEARER,
    TOKEN,
    WRITE,
    Visitor,
    audit_lines,
    new_dashboard,
    open_dashboard,
    open_websocket,
)

pytestmark = pytest.mark.trio

METHODS = (
    *("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"),
    *("PROPFIND", "QUERY"),
)
# What anybody may ask.
OPEN = {
    ("GET", "/livez"),
    ("HEAD", "/livez"),
    ("GET", "/readyz"),
    ("HEAD", "/readyz"),
    ("GET", "/static/x"),
    ("HEAD", "/static/x"),
    ("POST", "/api/session"),
}
DASHBOARD = new_dashboard()
PATHS = sorted(
    route.path.replace("{path:path}", "x")
    .replace("{task_id:path}", "x")
    .replace("{worker_id:path}", "x")
    for route in DASHBOARD.starlette.routes
    if isinstance(route, Route)
)
SOCKETS = [r.path for r in DASHBOARD.starlette.routes if isinstance(r, WebSocketRoute)]
COOKIE = {"cookie": f"{DASHBOARD.token.cookie_name}={DASHBOARD.token.cookie}"}


def visitor(headers: dict[str, str] | None = None) -> Visitor:
    return Visitor(DASHBOARD.app, headers or {})


def code_of(answer: httpx.Response) -> str:
    code: str = answer.json()["error"]["code"]
    return code


async def test_all_routes_are_of_the_one_table_or_the_live_feed() -> None:
    routes = DASHBOARD.starlette.routes
    assert SOCKETS == ["/api/live"]
    assert all(isinstance(r, Route) and isinstance(r.endpoint, Place) for r in routes[:-1])
    assert len(PATHS) == len(routes) - 1 >= 15


EVERYWHERE = [*PATHS, "/nothing", "/api", "//api/tasks", ""]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer " + "x" * 43},
        {"authorization": f"Basic {TOKEN}"},
        {"authorization": f"Bearer {TOKEN}x"},
        {"authorization": f"Bearer {TOKEN[:-1]}"},
        {"authorization": "Bearer"},
        {"authorization": f"Bearer {DASHBOARD.token.cookie}"},
        {"cookie": f"{DASHBOARD.token.cookie_name}={TOKEN}"},
        {"cookie": f"{DASHBOARD.token.cookie_name}="},
        {"cookie": f"other={DASHBOARD.token.cookie}"},
    ],
    ids=str,
)
async def test_nothing_is_told_without_the_token(
    headers: dict[str, str], autojump_clock: MockClock
) -> None:
    # X12 in docs/faults.md.
    for path in EVERYWHERE:
        for method in METHODS:
            fresh = new_dashboard()  # it counts wrong tokens
            answer = await Visitor(fresh.app, headers | WRITE).ask(method, path)
            if (method, path) in OPEN:
                assert answer.status_code in (200, 400, 404, 415, 503), (method, path)
            else:
                assert answer.status_code == 401, (method, path)


@pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer wrong"}, {"cookie": "a=b"}])
async def test_the_live_feed_is_not_opened_without_the_token(headers: dict[str, str]) -> None:
    # X12 in docs/faults.md.
    start, *_ = await open_websocket(new_dashboard().app, {"host": "localhost:8080", **headers})
    assert start["type"] == "websocket.http.response.start"
    assert start["status"] == 401


@pytest.mark.parametrize("headers", [BEARER, COOKIE], ids=["token", "cookie"])
async def test_what_is_more_than_reading_needs_a_header_that_no_form_can_send(
    headers: dict[str, str],
) -> None:
    # X13 in docs/faults.md.
    for path in EVERYWHERE:
        for method in METHODS[2:]:
            for value in ({}, {"x-fastworker": "0"}, {"x-fastworker": "1, 1"}):
                answer = await visitor(headers | value).ask(method, path)
                assert answer.status_code == 403, (method, path, value)
                assert code_of(answer) == "header_missing"


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "http://localhost:9999",
        "http://localhost",
        "http://localhost:8080.evil.example",
        "http://evil.example#localhost:8080",
        "http://user@localhost:8080",
        "ftp://localhost:8080",
        "file://",
        "null",
        "",
    ],
)
async def test_another_origin_is_refused_everywhere(origin: str) -> None:
    # X13 in docs/faults.md.
    for path in EVERYWHERE:
        for method in METHODS:
            headers = COOKIE | WRITE | {"origin": origin}
            answer = await visitor(headers).ask(method, path)
            assert answer.status_code == 403, (method, path)
            assert method == "HEAD" or code_of(answer) == "origin_not_allowed"


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8080",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "127.0.0.2",
        "[::2]",
        "",
    ],
)
async def test_another_host_is_refused_everywhere(host: str) -> None:
    # X14 in docs/faults.md.
    for path in EVERYWHERE:
        for method in METHODS:
            answer = await visitor(BEARER | WRITE | {"host": host}).ask(method, path)
            assert answer.status_code == 421, (method, path)
            assert method == "HEAD" or code_of(answer) == "host_not_allowed"


async def test_two_hosts_or_two_origins_are_refused() -> None:
    policy = DASHBOARD.policy
    host, other = (b"host", b"localhost"), (b"host", b"evil.example")
    auth = (b"authorization", BEARER["authorization"].encode())
    assert policy.admit(Visit("GET", "/api/tasks", [host, auth]), 0.0).by == "token"
    for extra in (other, host, (b"HOST", b"localhost")):
        with pytest.raises(Refusal) as caught:
            policy.admit(Visit("GET", "/api/tasks", [host, auth, extra]), 0.0)
        assert caught.value.status == 421
    origins = [(b"origin", b"http://localhost"), (b"origin", b"http://evil.example")]
    with pytest.raises(Refusal) as caught:
        policy.admit(Visit("GET", "/api/tasks", [host, auth, *origins]), 0.0)
    assert caught.value.status == 403
    with pytest.raises(Refusal) as caught:
        policy.admit(Visit("GET", "/api/tasks", [host, auth, auth]), 0.0)
    assert caught.value.status == 401


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "evil.example", **BEARER}, 421),
        ({"host": "localhost:8080", "origin": "http://evil.example", **COOKIE}, 403),
        ({"host": "localhost:8080", "origin": "http://localhost:3000", **COOKIE}, 403),
        ({"host": "localhost:8080", **COOKIE}, 403),
    ],
)
async def test_another_page_cannot_open_the_live_feed(
    headers: dict[str, str], status: int
) -> None:
    # X13 in docs/faults.md.
    start, *_ = await open_websocket(DASHBOARD.app, headers)
    assert start["type"] == "websocket.http.response.start"
    assert start["status"] == status


@pytest.mark.parametrize(
    "headers",
    [{"origin": "http://localhost:8080", **COOKIE}, BEARER],
    ids=["the page", "a program"],
)
async def test_the_page_and_programs_can_open_the_live_feed(
    headers: dict[str, str], autojump_clock: MockClock
) -> None:
    async with open_dashboard() as (_, dashboard, _):
        first, *_ = await open_websocket(dashboard.app, {"host": "localhost:8080", **headers})
        assert first["type"] == "websocket.accept"


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:8080", "[::1]:8080"])
async def test_this_machine_is_known_by_its_usual_names(host: str) -> None:
    answer = await visitor({"host": host}).ask("GET", "/livez")
    assert answer.status_code == 200


async def test_a_configured_host_is_known_also_behind_a_proxy_that_names_another() -> None:
    # X14 in docs/faults.md.
    dashboard = new_dashboard(allowed_hosts=["Tasks.example.com"])
    cookie = {"cookie": f"{dashboard.token.cookie_name}={dashboard.token.cookie}"}
    for host, origin, status in (
        ("tasks.example.com", "https://tasks.example.com", 404),
        ("localhost:8080", "https://tasks.example.com", 404),
        ("localhost:8080", "https://tasks.example.com:8443", 403),
        ("other.example.com", "https://tasks.example.com", 421),
    ):
        headers = {"host": host, "origin": origin, **cookie}
        answer = await Visitor(dashboard.app, headers).ask("GET", "/api/none")
        assert answer.status_code == status, (host, origin)


@pytest.mark.parametrize("site", ["cross-site", "same-site", "anything"])
async def test_another_port_of_this_host_cannot_ask_with_the_cookie(site: str) -> None:
    # X13 in docs/faults.md.
    answer = await visitor(COOKIE | {"sec-fetch-site": site}).ask("GET", "/api/none")
    assert code_of(answer) == "site_not_allowed"


async def test_a_browser_signs_in_once_and_has_a_cookie_from_then_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    # X12 in docs/faults.md.
    caplog.set_level(logging.INFO, "fastworker.audit")
    person = visitor({"origin": "http://localhost:8080", "sec-fetch-site": "same-origin"})
    before = await person.ask("GET", "/")
    assert before.status_code == 401
    assert before.headers["content-type"] == "text/html; charset=utf-8"
    assert "fastworker dashboard" in before.text
    answer = await person.ask("POST", "/api/session", json={"token": TOKEN}, headers=WRITE)
    assert answer.status_code == 204
    cookie = answer.headers["set-cookie"]
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(cookie.split("; "))
    assert TOKEN not in cookie
    # httpx keeps cookies as a browser does.
    after = await person.ask("GET", "/")
    assert after.status_code == 200
    out = await person.ask("DELETE", "/api/session", headers=WRITE)
    assert "Max-Age=0" in out.headers["set-cookie"]
    assert (await person.ask("GET", "/")).status_code == 401
    assert [(line["action"], line["outcome"]) for line in audit_lines(caplog)] == [
        ("sign_in", "done")
    ]


async def test_to_sign_in_to_one_dashboard_signs_nobody_out_of_another() -> None:
    # A browser keeps one cookie of a name for all ports of a host.
    other = Dashboard(token="u" * 43)
    jar = httpx.Cookies()
    for dashboard, token in ((DASHBOARD, TOKEN), (other, "u" * 43)):
        person = Visitor(dashboard.app, {"origin": "http://localhost:8080"})
        answer = await person.ask("POST", "/api/session", json={"token": token}, headers=WRITE)
        jar.update(answer.cookies)
    cookies = "; ".join(f"{name}={value}" for name, value in jar.items())
    for dashboard in (DASHBOARD, other):
        answer = await Visitor(dashboard.app, {"cookie": cookies}).ask("GET", "/")
        assert answer.status_code == 200


async def test_the_cookie_survives_a_restart() -> None:
    assert new_dashboard().token.cookie == DASHBOARD.token.cookie
    assert Dashboard(token="u" * 43).token.cookie != DASHBOARD.token.cookie


async def test_after_ten_wrong_tokens_a_minute_somebody_has_to_wait(
    autojump_clock: MockClock,
) -> None:
    # X12 in docs/faults.md.
    dashboard = new_dashboard()
    guesser = Visitor(dashboard.app, {"authorization": "Bearer " + "x" * 43})
    statuses = [(await guesser.ask("GET", "/api/tasks")).status_code for _ in range(12)]
    assert statuses == [401] * 10 + [429] * 2
    body = {"token": "y" * 43}
    late = await guesser.ask("POST", "/api/session", json=body, headers=WRITE)
    assert late.status_code == 429
    assert 1 <= int(late.headers["retry-after"]) <= 60
    # Whoever has the right one is not locked out by that.
    owner = Visitor(dashboard.app, BEARER)
    assert (await owner.ask("GET", "/api/none")).status_code == 404
    autojump_clock.jump(61)
    assert (await guesser.ask("GET", "/api/tasks")).status_code == 401


async def test_every_answer_forbids_what_a_page_of_ours_does_not_need(
    autojump_clock: MockClock,
) -> None:
    # X15 in docs/faults.md.
    async with open_dashboard() as (_, _, visitor):
        for method, path in itertools.product(("GET", "POST"), [*EVERYWHERE, "/static/app.js"]):
            answer = await visitor.ask(method, path, headers=WRITE)
            headers = answer.headers
            assert headers["content-security-policy"] == CONTENT_POLICY
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["referrer-policy"] == "no-referrer"
            assert headers["cache-control"] in ("no-store", "no-cache")
            assert not [name for name in headers if name.startswith("access-control")]
    assert "unsafe" not in CONTENT_POLICY
    assert "frame-ancestors 'none'" in CONTENT_POLICY
    assert CONTENT_POLICY.startswith("default-src 'self'")


@pytest.mark.parametrize(
    "path",
    [
        "/static/../_token.py",
        "/static/..%2f_token.py",
        "/static/%2e%2e/%2e%2e/__init__.py",
        "/static/....//_token.py",
        "/static//etc/passwd",
        "/static/%00",
        "/static/",
        "/static/css",
        "/static/index.html/",
    ],
)
async def test_no_file_is_served_but_those_of_the_page(path: str) -> None:
    # X16 in docs/faults.md.
    transport = httpx.ASGITransport(DASHBOARD.app)
    request = httpx.Request("GET", "http://localhost:8080/", headers=BEARER)
    raw = path.encode()
    request.url = httpx.URL(scheme="http", host="localhost", port=8080, raw_path=raw)
    answer = await transport.handle_async_request(request)
    assert answer.status_code == 404


async def test_a_method_that_is_not_there_is_said_to_be_so() -> None:
    answer = await visitor(BEARER | WRITE).ask("PUT", "/api/tasks/x/cancel")
    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST"
    answer = await visitor(BEARER).ask("GET", "/api/tasks/x/cancel")
    assert answer.status_code == 405


@pytest.mark.parametrize("root", ["", "/ops", "/a/b"])
async def test_it_can_be_mounted_below_any_path(root: str, autojump_clock: MockClock) -> None:
    from starlette.applications import Starlette
    from starlette.routing import Mount

    async with open_dashboard() as (world, dashboard, _):
        app: Any = Starlette(routes=[Mount(root, app=dashboard.app)])
        person = Visitor(app, {})
        assert (await person.ask("GET", f"{root}/")).status_code == 401
        assert (await person.ask("GET", f"{root}/livez")).status_code == 200
        assert (await person.ask("GET", f"{root}/api/overview")).status_code == 401
        body = {"token": TOKEN}
        answer = await person.ask("POST", f"{root}/api/session", json=body, headers=WRITE)
        assert f"Path={root}/;" in answer.headers["set-cookie"]
        overview = await person.get(f"{root}/api/overview")
        assert overview["epoch"] == world.plane.epoch
        described = await person.get(f"{root}/api/openapi.json")
        assert described["servers"] == [{"url": root or "/"}]


async def test_a_bug_is_told_as_an_error_without_its_traceback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def fail(question: Any) -> None:
        raise ZeroDivisionError("secret")

    dashboard = new_dashboard()
    monkeypatch.setattr(dashboard, "ask", fail)
    transport = httpx.ASGITransport(dashboard.app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, headers=BEARER) as http:
        answer = await http.get("http://localhost:8080/api/queues")
    assert answer.status_code == 500
    assert code_of(answer) == "bug"
    assert "secret" not in answer.text


async def test_secrets_are_not_shown() -> None:
    # X17 in docs/faults.md.
    for each in (DASHBOARD, DASHBOARD.token, DASHBOARD.policy):
        assert TOKEN not in repr(each)
        assert DASHBOARD.token.cookie not in repr(each)
