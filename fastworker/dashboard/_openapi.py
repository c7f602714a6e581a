"""The description of the API (OpenAPI 3.1), made of the table of its operations."""

from __future__ import annotations

import re
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any, Final

import msgspec

from fastworker._version import installed_version
from fastworker.dashboard._operations import JSON, Operation
from fastworker.dashboard._policy import READING
from fastworker.dashboard._views import ErrorView

_PART: Final = re.compile(r"\{(\w+)(:\w+)?\}")
_REF: Final = "#/components/schemas/{name}"
# What every operation may answer, because of what stands before it.
_ALWAYS: Final = (400, 405, 421, 431, 503)
_GUARDED: Final = (401, 403, 429)


def describe(operations: Iterable[Operation], cookie_name: str, root: str = "") -> bytes:
    """The document, as JSON.

    Args:
      cookie_name: of whoever has signed in.
      root: below which path the dashboard is mounted.
    """
    described = [each for each in operations if each.is_described]
    types = [each.answer for each in described if each.answer is not None]
    types += [each.body for each in described if each.body is not None]
    types = list(dict.fromkeys([*types, ErrorView]))
    schemas, components = msgspec.json.schema_components(types, ref_template=_REF)
    by_type = dict(zip(types, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for each in described:
        place = paths.setdefault(_PART.sub(r"{\1}", each.path), {})
        place[each.method.lower()] = _operation(each, by_type)
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "FastWorker",
                "version": installed_version(),
                "description": (
                    "What operators see of a control plane, and can do there. Errors have a "
                    "word for programs and a sentence for people."
                ),
            },
            "servers": [{"url": root or "/"}],
            "security": [{"token": []}, {"session": []}],
            "paths": paths,
            "components": {
                "schemas": components,
                "securitySchemes": {
                    "token": {"type": "http", "scheme": "bearer"},
                    "session": {"type": "apiKey", "in": "cookie", "name": cookie_name},
                },
            },
        }
    )


def _operation(each: Operation, schemas: dict[Any, Any]) -> dict[str, Any]:
    parameters: list[dict[str, Any]] = [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": {"type": "string", "minLength": 1, "maxLength": 256},
        }
        for name, _ in _PART.findall(each.path)
    ]
    for parameter in each.parameters:
        facts: dict[str, Any] = {
            "name": parameter.name,
            "in": "query",
            "description": parameter.description,
            "schema": parameter.schema(),
        }
        if parameter.is_list:
            facts |= {"style": "form", "explode": True}
        parameters.append(facts)
    if each.method not in READING:
        parameters.append(
            {
                "name": "X-FastWorker",
                "in": "header",
                "required": True,
                "description": "No form and no image can send it.",
                "schema": {"type": "string", "const": "1"},
            }
        )
    answers = {str(each.status): _answer(each, schemas)}
    error = {JSON: {"schema": schemas[ErrorView]}}
    codes = {*_ALWAYS, *each.errors, *(() if each.is_open else _GUARDED)}
    if each.method not in READING or each.body is not None:
        codes |= {401, 403}
    if each.body is not None:
        codes |= {408, 413, 415}
    for code in sorted(codes):
        content = error
        if code == 503 and 503 in each.errors:
            content = {JSON: {"schema": {"anyOf": [schemas[each.answer], schemas[ErrorView]]}}}
        answers.setdefault(
            str(code), {"description": HTTPStatus(code).phrase, "content": content}
        )
    facts = {
        "operationId": each.handler.__name__.strip("_"),
        "summary": each.summary,
        "responses": answers,
    }
    if parameters:
        facts["parameters"] = parameters
    if each.body is not None:
        facts["requestBody"] = {
            "required": True,
            "content": {JSON: {"schema": schemas[each.body]}},
        }
    if each.is_open:
        facts["security"] = []
    return facts


def _answer(each: Operation, schemas: dict[Any, Any]) -> dict[str, Any]:
    facts: dict[str, Any] = {"description": HTTPStatus(each.status).phrase}
    if each.answer is not None:
        facts["content"] = {each.media_type: {"schema": schemas[each.answer]}}
    elif each.status != HTTPStatus.NO_CONTENT:
        schema = {"type": "object"} if each.media_type == JSON else {"type": "string"}
        facts["content"] = {each.media_type: {"schema": schema}}
    return facts
