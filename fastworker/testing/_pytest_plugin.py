"""The pytest plugin: the fixture ``fastworker_cluster``. It loads nothing before it is used."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from fastworker.testing._cluster import Cluster


@pytest.fixture
def fastworker_cluster() -> Cluster:
    """A cluster with your tasks in this process and in virtual time, where nothing goes wrong.

    ``fastworker_cluster.run(scenario)`` runs ``async def scenario(sim)`` in it.
    """
    from fastworker.testing._cluster import Cluster

    return Cluster()
