"""The control plane and its subworkers as JSON, for the REST interface and the live feed."""

from __future__ import annotations

from typing import Any

import msgspec

from fastworker._core._overview import Overview, WorkerRow
from fastworker.dashboard._history import Latency, Rates, by_priority


def overview_view(overview: Overview, rates: Rates, latency: Latency) -> dict[str, Any]:
    """The control plane in numbers."""
    facts = msgspec.structs.asdict(overview)
    facts["started_at"] = facts.pop("started")
    facts["store_error"] = overview.store_error or None
    facts["queued"] = by_priority(overview)
    facts["rates"] = msgspec.structs.asdict(rates)
    facts["latency"] = msgspec.structs.asdict(latency)
    return facts


def worker_view(row: WorkerRow) -> dict[str, Any]:
    """A subworker, its lanes and what it runs."""
    facts = msgspec.structs.asdict(row)
    facts["joined_at"] = facts.pop("joined")
    facts["lanes"] = [msgspec.structs.asdict(lane) for lane in row.lanes]
    facts["running"] = [
        {
            "task_id": task.task_id,
            "name": task.name,
            "started_at": task.started,
            "lane": task.lane,
            "progress": task.progress if task.progress >= 0 else None,
            "message": task.message or None,
        }
        for task in row.running
    ]
    return facts
