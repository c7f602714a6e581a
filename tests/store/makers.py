"""What makes a store for the suite that every store has to pass: a maker for each."""

from __future__ import annotations

from pathlib import Path

from fastworker._store._abc import Store
from fastworker._store._memory import MemoryStore
from fastworker._store._sqlite import SqliteStore

from .rows import BEGIN


class StoreMaker:
    """A place for one store; every call of :meth:`make` is a new process, in effect.

    ``now`` is the wall time of its stores.
    """

    now = BEGIN

    def make(self) -> Store:
        """A store on what is kept in this place. It is not open yet."""
        raise NotImplementedError


class MemoryMaker(StoreMaker):
    """One object, since its rows are nowhere else."""

    def __init__(self, folder: Path) -> None:
        self._store = MemoryStore(lambda: self.now)

    def make(self) -> Store:
        return self._store


class SqliteMaker(StoreMaker):
    """A file in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "state" / "tasks.db"

    def make(self) -> Store:
        return SqliteStore(self.path, wall_clock=lambda: self.now)


MAKERS: dict[str, type[MemoryMaker] | type[SqliteMaker]] = {
    "memory": MemoryMaker,
    "sqlite": SqliteMaker,
}
