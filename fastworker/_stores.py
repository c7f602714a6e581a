"""Which store a control plane has, from what it was told.

"memory", a path, or nothing: then the command line takes a file in the user's
state folder, and a program keeps its tasks in memory.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from fastworker._errors import ConfigurationError
from fastworker._store._abc import Store
from fastworker._store._memory import MemoryStore
from fastworker._store._sqlite import SqliteStore

MEMORY: Final = "memory"


def make_store(name: str | os.PathLike[str] | None, *, project: str = "") -> Store:
    """Make a store, which is not opened yet.

    Args:
      name: "memory", None for the same, or the path of a file.
      project: whose tasks these are; see ``SqliteStore``.

    Raises:
      ConfigurationError: this is not the path of a file.
    """
    if name is None or name == MEMORY:
        return MemoryStore()
    path = Path(name).expanduser()
    if not path.name or path.is_dir():
        raise ConfigurationError(
            f"store={os.fspath(name)!r} is a folder; give the path of a file, or 'memory'"
        )
    return SqliteStore(path, project=project)


def default_path(environment: Mapping[str, str], worker_id: str, base_port: int) -> Path:
    """Where the command line keeps the tasks of this control plane."""
    label = "".join(c if c.isalnum() or c in "-_." else "_" for c in worker_id)[:100]
    return state_folder(environment) / f"{label}-{base_port}.db"


def state_folder(environment: Mapping[str, str]) -> Path:
    """Where the command line keeps what has to survive it."""
    state = environment.get("XDG_STATE_HOME", "")
    folder = Path(state) if state.startswith("/") else Path.home() / ".local" / "state"
    return folder / "fastworker"
