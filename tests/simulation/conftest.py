"""Tasks of other tests are none of a simulation's, which takes all that there are."""

from __future__ import annotations

import pytest

from fastworker._registry import registry


@pytest.fixture(autouse=True)
def _no_tasks_of_other_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_functions", {})
    monkeypatch.setattr(registry, "_names", {})
