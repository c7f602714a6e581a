"""What ``fastworker top`` knows: the messages of the live feed, put together."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any, Final

MAX_POINTS: Final = 600
MAX_TASKS: Final = 200

Json = dict[str, Any]


class TopState:
    """The control plane as the feed has described it. ``now`` is the caller's clock.

    Attributes:
      overview: None until the first snapshot.
      workers: by their ids, in the order in which they joined.
      tasks: those that have changed, by their ids, the latest last.
      problem: why nothing new comes; empty if it does.
      dropped: how many changes of tasks the feed has left out.
    """

    def __init__(self) -> None:
        self.overview: Json | None = None
        self.workers: dict[str, Json] = {}
        self.history: deque[Json] = deque(maxlen=MAX_POINTS)
        self.tasks: dict[str, Json] = {}
        self.problem = "connecting"
        self.dropped = 0
        self._heard_at: dict[str, float] = {}

    def take(self, message: Mapping[str, Any], *, now: float) -> None:
        """Take a message of the feed; of a kind that is not known, nothing."""
        match message.get("type"):
            case "snapshot":
                self.problem = ""
                self.overview = message["overview"]
                self.workers.clear()
                self._heard_at.clear()
                self._take_workers(message["workers"], now)
                self.history = deque(message["history"], maxlen=MAX_POINTS)
            case "update":
                self.problem = ""
                self.overview = message["overview"]
                self._take_workers(message["workers"], now)
                for worker_id in message["gone"]:
                    self.workers.pop(worker_id, None)
                    self._heard_at.pop(worker_id, None)
                if message["point"] is not None:
                    self.history.append(message["point"])
                self._take_tasks(message["tasks"])
                self.dropped += message["dropped"]
            case "lost":
                self.problem = message["message"]

    def lose(self, problem: str) -> None:
        """The connection is lost; what is shown is what was."""
        self.problem = problem

    def idle_of(self, worker_id: str, *, now: float) -> float:
        """Seconds since a worker was last heard of, by what was told of it last."""
        return max(0.0, now - self._heard_at.get(worker_id, now))

    def running(self) -> list[Json]:
        """The tasks that run, as far as they are told, the oldest first."""
        found = [
            {**task, "worker_id": worker["worker_id"]}
            for worker in self.workers.values()
            for task in worker["running"]
        ]
        return sorted(found, key=lambda task: float(task["started_at"]))

    def as_json(self) -> Json:
        """Everything that is known but tasks, for programs."""
        return {
            "overview": self.overview,
            "workers": list(self.workers.values()),
            "history": list(self.history),
        }

    def _take_workers(self, workers: list[Json], now: float) -> None:
        for worker in workers:
            self.workers[worker["worker_id"]] = worker
            self._heard_at[worker["worker_id"]] = now - worker["idle"]

    def _take_tasks(self, tasks: list[Json]) -> None:
        for task in tasks:
            self.tasks.pop(task["task_id"], None)
            self.tasks[task["task_id"]] = task
        while len(self.tasks) > MAX_TASKS:
            del self.tasks[next(iter(self.tasks))]
