"""A short run of real processes: the machinery works, and notices what is broken."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fastworker.testing._checker import check
from fastworker.testing._history import Kind, read_history
from fastworker.testing._rules import Rules
from tests.chaos.run import Plan, run_plan

pytestmark = [pytest.mark.nng, pytest.mark.slow]


def test_a_short_run_is_sound_and_its_history_would_show_if_it_were_not(tmp_path: Path) -> None:
    plan = Plan(seed=7, seconds=8.0, store="sqlite", workers=2, clients=2, lease=3.0, slack=4.0)
    result = run_plan(plan, tmp_path)
    assert result.is_sound, str(result)
    assert result.counts[Kind.STORM]
    assert result.counts[Kind.SETTLED]
    # Which faults a short storm has, its seed and the machine decide.
    assert sum(result.counts[kind] for kind in (Kind.EXIT, Kind.STOP, Kind.FAULT)) > 5
    assert result.counts[Kind.ACK] > 20
    _forge_an_acknowledgement(tmp_path)
    rules = Rules(durable=True, lease=plan.lease, slack=plan.slack)
    assert "S1" in {violation.invariant for violation in check(read_history(tmp_path), rules)}


def _forge_an_acknowledgement(folder: Path) -> None:
    with (folder / "c1.jsonl").open("a") as file:
        file.write(json.dumps({"kind": "ack", "at": 1.0, "task": "forged", "process": "c1"}))
        file.write("\n")
