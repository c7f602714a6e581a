"""What the REST API tells of a cluster, and does to it."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from trio.testing import MockClock

from fastworker._task_views import TaskDetailView, TaskView
from fastworker.dashboard._views import OverviewView, WorkerView
from tests.dashboard.visits import BEARER, audit_lines, open_dashboard
from tests.shell.world import settle

pytestmark = pytest.mark.trio


async def test_the_overview_agrees_with_the_statistics(autojump_clock: MockClock) -> None:
    # S20 in docs/faults.md.
    async with open_dashboard() as (world, _, visitor), world.client() as client:
        await client.submit_task("add", (1, 2))
        await client.submit_task("fail")
        await client.delay("wait", "runs")
        await settle()
        await client.delay("wait", "waits", priority="high")
        await settle()
        overview = await visitor.get("/api/overview")
        tasks = world.tasks()
        for name in ("submitted", "succeeded", "failed", "cancelled", "expired", "refused"):
            assert overview[name] == getattr(tasks, name), name
        assert list(overview["queued"].values()) == tasks.ready == [0, 1, 0, 0]
        assert overview["running"] == tasks.started == 1
        assert set(overview) == set(OverviewView.__struct_fields__)
        queues = await visitor.get("/api/queues")
        assert [q["queued"] for q in queues["queues"]] == tasks.ready
        world.let_go("runs")
        world.let_go("waits")


async def test_workers_are_shown_with_what_they_run(autojump_clock: MockClock) -> None:
    async with open_dashboard(workers=2) as (world, _, visitor), world.client() as client:
        task_id = await client.delay("wait", "runs")
        await settle()
        workers = (await visitor.get("/api/workers"))["workers"]
        assert [w["worker_id"] for w in workers] == ["w1", "w2"]
        assert set(workers[0]) == set(WorkerView.__struct_fields__)
        (running,) = [task for worker in workers for task in worker["running"]]
        assert running["task_id"] == task_id
        world.let_go("runs")


async def test_tasks_are_filtered_and_paged(autojump_clock: MockClock) -> None:
    async with open_dashboard() as (world, _, visitor), world.client() as client:
        for number in range(5):
            await client.submit_task("add", (number, 1))
        await client.submit_task("fail")
        page = await visitor.get("/api/tasks?limit=4")
        assert [task["name"] for task in page["tasks"]] == ["fail", "add", "add", "add"]
        assert set(page["tasks"][0]) == set(TaskView.__struct_fields__)
        rest = await visitor.get(f"/api/tasks?limit=4&before={page['next']}")
        assert len(rest["tasks"]) == 2
        assert rest["next"] is None
        failed = await visitor.get("/api/tasks?status=failure&status=expired")
        assert [task["name"] for task in failed["tasks"]] == ["fail"]
        assert failed["tasks"][0]["error"] == "ValueError: no luck"
        assert len((await visitor.get("/api/tasks?name=add&text=AD"))["tasks"]) == 5
        assert (await visitor.get("/api/tasks?priority=low"))["tasks"] == []
        assert (await visitor.get("/api/tasks?worker=w2"))["tasks"] == []
        assert (await visitor.get("/api/tasks?poison=true"))["tasks"] == []
        assert (await visitor.get("/api/tasks?until=0"))["tasks"] == []
        assert len((await visitor.get("/api/tasks?since=0"))["tasks"]) == 6


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("status=gone", "status='gone'"),
        ("limit=0", "limit='0'"),
        ("limit=1e3", "limit='1e3'"),
        ("limit=", "limit=''"),
        ("limit=1&limit=2", "limit was given twice"),
        ("before=-1", "before='-1'"),
        ("since=soon", "since='soon'"),
        ("since=nan", "since='nan'"),
        ("poison=1", "poison='1'"),
        ("name=", "name=''"),
        ("text=" + "x" * 257, "use 1 to 256 characters"),
        ("staus=failure", "'staus' is no parameter here"),
    ],
)
async def test_a_query_that_is_not_understood_is_refused_with_its_value(
    query: str, said: str, autojump_clock: MockClock
) -> None:
    async with open_dashboard() as (_, _, visitor):
        answer = await visitor.get(f"/api/tasks?{query}", 400)
        assert answer["error"]["code"] == "bad_request"
        assert said in answer["error"]["message"]


@pytest.mark.parametrize("path", ["/livez/", "/api/overview/", "/api"])
async def test_an_address_that_is_nearly_one_is_not_found_and_leads_nowhere(
    path: str, autojump_clock: MockClock
) -> None:
    async with open_dashboard() as (_, dashboard, visitor):
        answer = await visitor.ask("GET", path)
        assert (answer.status_code, answer.headers.get("location")) == (404, None)
        # A query that is no text, which servers other than ours may let through.
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "method": "GET",
            "path": path,
            "query_string": b"x=\xff",
            "headers": [
                (b"host", b"localhost"),
                *((k.encode(), v.encode()) for k, v in _TOKEN),
            ],
        }
        await dashboard.app(scope, _nothing, send)
        assert sent[0]["status"] == 404


_TOKEN = tuple(BEARER.items())


async def _nothing() -> Any:
    return {"type": "http.request"}


async def test_one_task_is_told_with_its_traceback(autojump_clock: MockClock) -> None:
    async with open_dashboard() as (world, _, visitor), world.client() as client:
        task_id = await client.delay("fail", "<img src=x onerror=alert(1)>")
        await settle()
        task = await visitor.get(f"/api/tasks/{task_id}")
        assert task["status"] == "failure"
        assert task["arguments"] == '[["<img src=x onerror=alert(1)>"],{}]'
        assert "Traceback" in task["traceback"]
        assert set(task) == set(TaskDetailView.__struct_fields__)
        missing = await visitor.get("/api/tasks/nobody", 404)
        assert missing["error"]["code"] == "not_found"
        await visitor.get("/api/tasks/" + "x" * 300, 404)


async def test_an_id_with_slashes_is_found(autojump_clock: MockClock) -> None:
    async with open_dashboard() as (world, _, visitor), world.client() as client:
        await client.options(task_id="a/b c?d").delay("add", 1, 2)
        await settle()
        task = await visitor.get("/api/tasks/a%2Fb%20c%3Fd")
        assert task["task_id"] == "a/b c?d"
        await visitor.post("/api/tasks/a%2Fb%20c%3Fd/purge")
        await visitor.get("/api/tasks/a%2Fb%20c%3Fd", 404)


async def test_a_task_is_cancelled_run_again_and_forgotten(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    # X21 in docs/faults.md.
    caplog.set_level(logging.INFO, "fastworker.audit")
    async with open_dashboard() as (world, _, visitor), world.client() as client:
        task_id = await client.delay("wait", "runs")
        await settle()
        refused = await visitor.post(f"/api/tasks/{task_id}/retry", status=409)
        assert "it has not ended" in refused["error"]["message"]
        cancelled = await visitor.post(f"/api/tasks/{task_id}/cancel", status=202)
        assert cancelled == {"task_id": task_id, "status": "cancelled"}
        await settle()
        assert await visitor.post(f"/api/tasks/{task_id}/retry") == {"task_id": task_id}
        await settle()
        assert world.ran == ["runs", "runs"]
        world.let_go("runs")
        await settle()
        assert await visitor.post(f"/api/tasks/{task_id}/purge") == {"task_id": task_id}
        await visitor.get(f"/api/tasks/{task_id}", 404)
        await visitor.post(f"/api/tasks/{task_id}/purge", status=404)
        await visitor.post("/api/tasks/nobody/cancel", status=404)
    lines = [(line["action"], line["outcome"]) for line in audit_lines(caplog)]
    assert lines == [
        ("retry", "it has not ended: it is started"),
        ("cancel", "cancelled"),
        ("retry", "done"),
        ("purge", "done"),
        ("purge", "no such task is kept"),
        ("cancel", "not_found"),
    ]
    assert all(line["address"] == "10.1.2.3" for line in audit_lines(caplog))
    assert all(line["signed_in_by"] == "token" for line in audit_lines(caplog))


async def test_many_tasks_are_acted_on_at_once(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "fastworker.audit")
    async with open_dashboard() as (world, _, visitor), world.client() as client:
        first = await client.delay("add", 1, 1)
        await settle()
        runs = await client.delay("wait", "runs")
        waits = [await client.delay("wait", number) for number in range(30)]
        await settle()
        ids = [first, runs, *waits, "nobody"]
        done = await visitor.post("/api/tasks/actions", {"action": "cancel", "ids": ids})
        assert done["done"] == [runs, *waits]
        assert done["untouched"] == [
            {"task_id": first, "reason": "it has ended: success"},
            {"task_id": "nobody", "reason": "no such task is kept"},
        ]
        await settle()
        done = await visitor.post("/api/tasks/actions", {"action": "purge", "ids": ids})
        assert sorted(done["done"]) == sorted([first, runs, *waits])
    line = audit_lines(caplog)[0]
    assert len(line["task_ids"]) == 20
    assert line["task_ids_count"] == 31


@pytest.mark.parametrize(
    "body",
    [
        {"action": "erase", "ids": ["a"]},
        {"action": "purge", "ids": []},
        {"action": "purge", "ids": [""]},
        {"action": "purge", "ids": ["a"] * 1001},
        {"action": "purge", "ids": "a"},
        {"action": "purge", "ids": ["a"], "more": 1},
        ["purge"],
        None,
    ],
)
async def test_a_body_that_is_not_what_is_needed_is_refused(
    body: Any, autojump_clock: MockClock
) -> None:
    async with open_dashboard() as (_, _, visitor):
        answer = await visitor.ask(
            "POST",
            "/api/tasks/actions",
            content=msgspec.json.encode(body),
            headers={"x-fastworker": "1", "content-type": "application/json"},
        )
        assert answer.status_code == 400
        assert "the body is not what is needed" in answer.json()["error"]["message"]


async def test_a_worker_is_drained(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    # X21 in docs/faults.md.
    caplog.set_level(logging.INFO, "fastworker.audit")
    async with open_dashboard(workers=2) as (_, _, visitor):
        await settle()
        assert await visitor.post("/api/workers/w2/drain", status=202) == {"worker_id": "w2"}
        await settle()
        workers = (await visitor.get("/api/workers"))["workers"]
        assert [w["worker_id"] for w in workers] == ["w1"]
        await visitor.post("/api/workers/w3/drain", status=404)
    assert [line["outcome"] for line in audit_lines(caplog)] == [
        "done",
        "no subworker 'w3' has joined",
    ]


async def test_task_functions_and_callbacks_are_listed(autojump_clock: MockClock) -> None:
    async with open_dashboard() as (_, _, visitor):
        await settle()
        functions = (await visitor.get("/api/functions"))["functions"]
        (count,) = [each for each in functions if each["name"] == "count"]
        assert count["is_stream"]
        assert count["workers"] == ["w1"]
        callbacks = await visitor.get("/api/callbacks?phase=parked&limit=5")
        assert callbacks["callbacks"] == []
        assert callbacks["counts"]["due"] == 0
        await visitor.get("/api/callbacks?phase=delivered", 400)


async def test_whoever_is_not_there_is_said_not_to_answer(autojump_clock: MockClock) -> None:
    async with open_dashboard() as (world, _, visitor):
        assert await visitor.get("/readyz") == {"status": "ok"}
        assert (await visitor.get("/api/overview"))["epoch"] == world.plane.epoch
        world.plane._scope.cancel()  # type: ignore[union-attr]
        world._plane = None
        await settle()
        answer = await visitor.get("/api/overview", 503)
        assert answer["error"]["code"] == "control_plane_unreachable"
        assert await visitor.get("/readyz", 503) == {"status": "unreachable"}
        assert await visitor.get("/livez") == {"status": "ok"}


async def test_a_dashboard_outlives_a_restart_of_the_control_plane(
    autojump_clock: MockClock,
) -> None:
    async with open_dashboard() as (world, _, visitor):
        before = (await visitor.get("/api/overview"))["epoch"]
        with world.restarting():
            await settle()
            await world.start_plane()
        await settle()
        assert (await visitor.get("/api/overview"))["epoch"] == world.plane.epoch > before


async def test_a_drained_control_plane_is_not_ready(autojump_clock: MockClock) -> None:
    async with open_dashboard() as (world, _, visitor), world.client() as client:
        await client.delay("wait", "runs")
        await settle()
        world.plane.drain()
        await settle()
        assert await visitor.get("/readyz", 503) == {"status": "draining"}
        world.let_go("runs")


class Canary:
    """Shows whether anybody has unpickled it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


async def test_a_pickle_is_shown_by_its_size_and_never_opened(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    # X5 in docs/faults.md.
    canary = Canary(tmp_path / "sang")
    async with (
        open_dashboard() as (world, _, visitor),
        world.client(serialization_format="pickle") as client,
    ):
        task_id = await client.delay("add", canary, 1)
        await settle()
        task = await visitor.get(f"/api/tasks/{task_id}")
        assert re.fullmatch(r"\(\d+ bytes in another format\)", task["arguments"])
        await visitor.get("/api/tasks")
    assert not canary.path.exists()
