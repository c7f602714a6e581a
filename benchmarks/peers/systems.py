"""What is compared: a script, the options it is run with, and what the table calls it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent


@dataclass(frozen=True)
class System:
    key: str  # for --only
    label: str
    script: str
    options: tuple[str, ...] = ()
    is_ours: bool = False
    needs_redis: bool = False

    @property
    def path(self) -> Path:
        return HERE / self.script


def _ours(key: str, label: str, *options: str) -> System:
    return System(key, f"FastWorker, {label}", "ours.py", options, is_ours=True)


def _on_redis(key: str, label: str, script: str) -> System:
    return System(key, f"{label} + Redis", script, needs_redis=True)


SYSTEMS = [
    _ours("memory", "memory"),
    _ours("memory-async", "memory, `async def`", "--function", "add_async"),
    _ours("sqlite", "SQLite with fsync", "--store", "sqlite"),
    _on_redis("huey", "huey", "huey_redis.py"),
    _on_redis("dramatiq", "dramatiq", "dramatiq_redis.py"),
    System("ray", "Ray core tasks", "ray_core.py"),
    _on_redis("arq", "arq", "arq_redis.py"),
    _on_redis("taskiq", "taskiq", "taskiq_on_redis.py"),
    System("dask", "Dask.distributed", "dask_distributed.py"),
    _on_redis("celery", "Celery", "celery_redis.py"),
    System("original", "the original, fastworker 0.3.0", "original.py"),
]
