"""What Prometheus scrapes, read by its own parser."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families
from trio.testing import MockClock

from fastworker._core._metrics import BUCKETS, Histogram, Series
from fastworker._core._overview import Overview
from fastworker.dashboard._prometheus import exposition
from tests.dashboard.visits import Visitor, open_dashboard
from tests.shell.world import settle

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def parse(text: str) -> Samples:
    found: Samples = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation
        assert family.type != "unknown", family.name
        for sample in family.samples:
            key = sample.name, frozenset(sample.labels.items())
            assert key not in found
            found[key] = sample.value
    return found


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples[f"fastworker_{name}", frozenset(labels.items())]


async def scrape(visitor: Visitor) -> Samples:
    answer = await visitor.ask("GET", "/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    return parse(answer.text)


@pytest.mark.trio
async def test_the_numbers_are_those_of_the_statistics(autojump_clock: MockClock) -> None:
    # S20 in docs/faults.md.
    async with open_dashboard(workers=2) as (world, _, visitor), world.client() as client:
        for number in range(3):
            await client.submit_task("add", (number, 1))
        await client.submit_task("sleep", ("a", 3.0), priority="high")
        await client.submit_task("fail")
        cancelled = await client.delay("wait", "never")
        await settle()
        await client.cancel(cancelled)
        for what in ("one", "two"):
            await client.delay("wait", what)
        await settle()
        await client.delay("wait", "later", priority="critical")
        await settle()
        found, tasks = await scrape(visitor), world.tasks()
        assert value(found, "tasks_submitted_total") == tasks.submitted == 9
        for name in ("succeeded", "failed", "cancelled", "expired"):
            ended = value(found, "tasks_ended_total", outcome=name)
            assert ended == getattr(tasks, name)
            by_task = [
                count
                for (sample, labels), count in found.items()
                if sample == "fastworker_task_ends_total" and ("outcome", name) in labels
            ]
            assert sum(by_task) == ended
        queued = [
            value(found, "tasks_queued", priority=priority)
            for priority in ("critical", "high", "normal", "low")
        ]
        assert queued == tasks.ready == [1, 0, 0, 0]
        still_open = ("held", "leased", "running", "away", "retrying")
        others = [value(found, "tasks_open", state=name) for name in still_open]
        assert others[2] == tasks.started == 2
        assert tasks.submitted == sum([*queued, *others]) + 6
        assert value(found, "workers", status="active") == 2
        assert value(found, "store_ok") == 1
        running = [value(found, "lane_running", worker_id=w, lane="trio") for w in ("w1", "w2")]
        assert running == [1, 1]
        long = {"task": "sleep", "priority": "high"}
        assert value(found, "task_run_seconds_count", **long) == 1
        bounds = [f"{bound:g}" for bound in BUCKETS] + ["+Inf"]
        counts = [value(found, "task_run_seconds_bucket", **long, le=b) for b in bounds]
        assert counts == sorted(counts)
        assert counts[-1] == 1
        for what in ("one", "two", "later"):
            world.let_go(what)


def test_no_name_breaks_out_of_its_line() -> None:
    name = 'evil"} 1\nfastworker_owned 1\\\r\u2028<b>'
    empty = Histogram([])
    full = Histogram(list(range(len(BUCKETS) + 1)), 1e9)
    series = [Series(name, 0, 1, 2, 3, 4, 5, empty, full, full)]
    overview = Overview(
        *(name, name, 1, 0.0, 0.0, "memory", False, "", False),
        *([0] * 2),
        0,
        [0, 0, 0, 0],
        *([0] * 15),
    )
    found = parse(exposition(overview, [], series))
    labels = {"task": name, "priority": "critical"}
    assert value(found, "task_retries_total", **labels) == 5
    assert value(found, "task_run_seconds_count", **labels) == sum(full.counts)
    assert value(found, "task_wait_seconds_bucket", **labels, le="+Inf") == 0
    assert not any(sample == "fastworker_owned" for sample, _ in found)
