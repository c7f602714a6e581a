"""Where a control plane that is started from a shell keeps its tasks."""

from __future__ import annotations

import os

from fastworker._config import ControlPlaneConfig
from fastworker._store._abc import Store
from fastworker._stores import MEMORY, default_path, make_store
from fastworker._transport._address import parse_tcp_address


def store_to_use(name: str | None, worker_id: str | None, base_address: str | None) -> Store:
    """The store that was asked for, else a file in the user's state folder.

    That one belongs to the folder from which it was first used: two projects that
    have not been told apart would run each other's tasks. On a port that is free
    by chance there is nothing to come back to.

    Raises:
      ConfigurationError: a setting cannot be used.
    """
    config = ControlPlaneConfig.resolve(
        os.environ, store=name, worker_id=worker_id, base_address=base_address, insecure=True
    )
    if config.store is not None:
        return make_store(config.store)
    _, port = parse_tcp_address(config.base_address, listening=True)
    if port == 0:
        return make_store(MEMORY)
    path = default_path(os.environ, config.worker_id, port)
    return make_store(path, project=os.getcwd())
