"""What users are shown of the control plane, the same by the command line and the dashboard."""

from __future__ import annotations

from typing import Any

import msgspec

from fastworker._core._overview import Overview, WorkerRow
from fastworker._task_words import PRIORITIES


def worker_as_json(row: WorkerRow) -> dict[str, Any]:
    """A subworker, its lanes and what it runs, as a JSON object."""
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


def queues_as_json(overview: Overview) -> dict[str, Any]:
    """What waits, as a JSON object."""
    return {
        "queues": [
            {"priority": priority, "queued": queued}
            for priority, queued in zip(PRIORITIES, overview.queued, strict=True)
        ],
        "held": overview.held,
        "retrying": overview.retrying,
        "queued_bytes": overview.queued_bytes,
        "max_queued": overview.max_queued,
        "max_queued_bytes": overview.max_queued_bytes,
    }
