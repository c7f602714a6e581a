"""All numbers in the text format of Prometheus, for whoever keeps and watches them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate, zip_longest
from typing import Final

from starlette.responses import Response

from fastworker._client import Client
from fastworker._core._metrics import BUCKETS, Histogram, Series
from fastworker._core._overview import Overview, WorkerRow
from fastworker._task_words import PRIORITIES
from fastworker.dashboard._operations import Call

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_ENDS: Final = ("succeeded", "failed", "cancelled", "expired")
_OPEN: Final = ("held", "leased", "running", "away", "retrying")
_WORKER_STATUSES: Final = ("active", "away", "draining")

Labels = Mapping[str, str]


async def metrics(call: Call) -> Response:
    """Answer a scrape."""

    async def all_numbers(client: Client) -> str:
        # First what ended, then the totals: no series is ahead of its total.
        series = await client._operations.metrics()
        workers = await client._operations.workers()
        return exposition(await client._operations.overview(), workers, series)

    text = await call.dashboard.ask(all_numbers)
    return Response(text.encode(), media_type=CONTENT_TYPE)


def exposition(
    overview: Overview, workers: Sequence[WorkerRow], series: Sequence[Series]
) -> str:
    """The numbers as text."""
    page = _Page()
    page.gauge(
        "fastworker_info",
        "What runs; the value says nothing.",
        [({"worker_id": overview.worker_id, "version": overview.version}, 1)],
    )
    _add_totals(page, overview)
    _add_state(page, overview)
    _add_workers(page, workers)
    _add_series(page, series)
    return page.text()


def _add_totals(page: _Page, overview: Overview) -> None:
    for name, help, value in (
        ("tasks_submitted", "Tasks that were submitted.", overview.submitted),
        ("tasks_refused", "Tasks that were refused.", overview.refused),
        ("stale_reports", "Reports of attempts that were over.", overview.stale_reports),
        ("malformed_frames", "Frames that broke the protocol.", overview.malformed_frames),
        ("closed_sessions", "Sessions that were closed for it.", overview.closed_sessions),
        ("lost_workers", "Workers that left without a goodbye.", overview.lost_workers),
    ):
        page.counter(f"fastworker_{name}", help, [({}, value)])
    page.counter(
        "fastworker_tasks_ended",
        "Tasks that have ended, by how.",
        [({"outcome": name}, getattr(overview, name)) for name in _ENDS],
    )


def _add_state(page: _Page, overview: Overview) -> None:
    page.gauge(
        "fastworker_tasks_queued",
        "Tasks that wait for a worker.",
        [
            ({"priority": priority}, count)
            for priority, count in zip(PRIORITIES, overview.queued, strict=True)
        ],
    )
    page.gauge(
        "fastworker_tasks_open",
        "Other tasks that have not ended, by state.",
        [({"state": name}, getattr(overview, name)) for name in _OPEN],
    )
    for name, help, value in (
        ("queued_bytes", "What tasks that have not ended weigh.", overview.queued_bytes),
        ("max_queued_bytes", "What they may weigh.", overview.max_queued_bytes),
        ("max_queued", "How many tasks may be open.", overview.max_queued),
        ("clients", "Connected clients.", overview.clients),
        ("functions", "Task functions that workers know.", overview.functions),
        ("store_ok", "Whether the store can be written.", not overview.store_error),
        ("store_is_durable", "Whether tasks survive a restart.", overview.is_durable),
        ("draining", "Whether no task is taken any more.", overview.is_draining),
        ("start_time_seconds", "When it was started.", overview.started),
    ):
        page.gauge(f"fastworker_{name}", help, [({}, value)])


def _add_workers(page: _Page, workers: Sequence[WorkerRow]) -> None:
    counts = dict.fromkeys(_WORKER_STATUSES, 0)
    for worker in workers:
        counts[worker.status] = counts.get(worker.status, 0) + 1
    page.gauge(
        "fastworker_workers",
        "Workers, by status.",
        [({"status": status}, count) for status, count in counts.items()],
    )
    for name, help in (
        ("capacity", "How many attempts a lane may have at once."),
        ("leased", "How many it has."),
        ("running", "How many of them run."),
    ):
        page.gauge(
            f"fastworker_lane_{name}",
            help,
            [
                ({"worker_id": worker.worker_id, "lane": lane.name}, getattr(lane, name))
                for worker in _newest(workers)
                for lane in worker.lanes
            ],
        )


def _newest(workers: Iterable[WorkerRow]) -> list[WorkerRow]:
    """Of workers with one name the one that joined last: no sample may be there twice."""
    return list({worker.worker_id: worker for worker in workers}.values())


def _add_series(page: _Page, series: Sequence[Series]) -> None:
    labelled = [({"task": s.name, "priority": PRIORITIES[s.priority]}, s) for s in series]
    page.counter(
        "fastworker_task_ends",
        "Tasks that have ended, by function, priority and outcome.",
        [
            ({**labels, "outcome": name}, getattr(each, name))
            for labels, each in labelled
            for name in _ENDS
        ],
    )
    page.counter(
        "fastworker_task_retries",
        "Attempts that were followed by another.",
        [(labels, each.retries) for labels, each in labelled],
    )
    for name, help, part in (
        ("wait", "From the submit to the start of the last attempt.", "wait"),
        ("run", "From the start of the last attempt to its end.", "run"),
        ("duration", "From the submit to the end.", "whole"),
    ):
        page.histogram(
            f"fastworker_task_{name}_seconds",
            help,
            [(labels, getattr(each, part)) for labels, each in labelled],
        )


class _Page:
    """Lines of the format; each family of samples stands together."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def text(self) -> str:
        return "\n".join(self._lines) + "\n"

    def counter(self, name: str, help: str, samples: Iterable[tuple[Labels, float]]) -> None:
        self._family(f"{name}_total", "counter", help, samples)

    def gauge(self, name: str, help: str, samples: Iterable[tuple[Labels, float]]) -> None:
        self._family(name, "gauge", help, samples)

    def histogram(
        self, name: str, help: str, samples: Iterable[tuple[Labels, Histogram]]
    ) -> None:
        self._head(name, "histogram", help)
        for labels, histogram in samples:
            bounds = [*map(_number, BUCKETS), "+Inf"]
            counts = [n for n, _ in zip_longest(histogram.counts, bounds, fillvalue=0)]
            sums = list(accumulate(map(int, counts)))
            for bound, count in zip(bounds, sums, strict=True):
                self._sample(f"{name}_bucket", {**labels, "le": bound}, count)
            self._sample(f"{name}_sum", labels, histogram.total)
            self._sample(f"{name}_count", labels, sums[-1])

    def _family(
        self, name: str, kind: str, help: str, samples: Iterable[tuple[Labels, float]]
    ) -> None:
        self._head(name, kind, help)
        for labels, value in samples:
            self._sample(name, labels, value)

    def _head(self, name: str, kind: str, help: str) -> None:
        self._lines += [f"# HELP {name} {help}", f"# TYPE {name} {kind}"]

    def _sample(self, name: str, labels: Labels, value: float) -> None:
        inner = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels.items())
        what = f"{name}{{{inner}}}" if inner else name
        self._lines.append(f"{what} {_number(value)}")


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else repr(float(value))


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
