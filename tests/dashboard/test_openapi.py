"""The description of the API is complete, and true of what is answered."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.routing import Route

from tests.dashboard.visits import BEARER, Visitor, new_dashboard

pytestmark = pytest.mark.trio

UNDESCRIBED = {"/", "/static/{path}", "/api/live"}


async def document() -> dict[str, Any]:
    found: dict[str, Any] = await Visitor(new_dashboard().app).get("/api/openapi.json")
    return found


async def test_every_route_and_method_is_described() -> None:
    described = {
        (path, method)
        for path, methods in (await document())["paths"].items()
        for method in methods
    }
    dashboard = new_dashboard()
    routed = {
        (each.path.replace(":path", ""), each.method.lower()) for each in dashboard.operations
    }
    assert {path for path, _ in routed - described} == UNDESCRIBED - {"/api/live"}
    assert not described - routed
    paths = {r.path.replace(":path", "") for r in dashboard.starlette.routes}  # type: ignore[attr-defined]
    assert all(isinstance(route, Route) for route in dashboard.starlette.routes[:-1])
    assert paths == {path for path, _ in routed} | {"/api/live"}


async def test_whatever_needs_the_token_says_so() -> None:
    for path, methods in (await document())["paths"].items():
        for method, operation in methods.items():
            is_open = operation.get("security") == []
            answer = await Visitor(new_dashboard().app, {"x-fastworker": "1"}).ask(
                method.upper(), path
            )
            assert (answer.status_code != 401) is is_open, (method, path)
            assert str(answer.status_code) in operation["responses"], (method, path)


async def test_every_reference_in_it_leads_somewhere() -> None:
    found = await document()
    schemas = found["components"]["schemas"]

    def walk(value: Any) -> None:
        if isinstance(value, dict):
            reference = value.get("$ref")
            assert reference is None or reference.rpartition("/")[2] in schemas
            for each in value.values():
                walk(each)
        elif isinstance(value, list):
            for each in value:
                walk(each)

    walk(found)
    ids = [o["operationId"] for methods in found["paths"].values() for o in methods.values()]
    assert len(set(ids)) == len(ids)


async def test_the_answer_to_a_stranger_is_the_one_that_is_described() -> None:
    answer = await Visitor(new_dashboard().app, BEARER).ask("GET", "/api/none")
    assert answer.status_code == 404
    assert set(answer.json()["error"]) == {"code", "message"}
