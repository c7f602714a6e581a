"""All numbers in the text format of Prometheus, for whoever keeps and watches them."""

from __future__ import annotations

from starlette.responses import Response

from fastworker.dashboard._operations import Call


async def metrics(call: Call) -> Response:
    """Answer a scrape."""
    raise NotImplementedError
