"""The control plane as JSON, for the REST interface and the live feed."""

from __future__ import annotations

from typing import Any

import msgspec

from fastworker._core._overview import Overview
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
