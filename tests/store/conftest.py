"""Stores for tests, each closed at the end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fastworker._store._abc import Store

from .makers import MAKERS, StoreMaker


@pytest.fixture(params=sorted(MAKERS))
def maker(request: pytest.FixtureRequest, tmp_path: Path) -> StoreMaker:
    return MAKERS[request.param](tmp_path)


@pytest.fixture
def store(maker: StoreMaker) -> Iterator[Store]:
    """One that is open."""
    made = maker.make()
    made.open()
    yield made
    made.close()
