"""What operators look at; nothing here changes anything."""

from __future__ import annotations

from typing import Final

import msgspec

from fastworker._core._messages import CallbackPhase, CallbacksAsked, is_name
from fastworker._core._stored import MAX_PAGE_ROWS, StoredState, TasksAsked
from fastworker._errors import TaskNotFound
from fastworker._task_views import TaskDetailView, detail_view_of, view_of
from fastworker._task_words import PRIORITIES, STATUSES
from fastworker.dashboard import _proof
from fastworker.dashboard._operations import Answer, Call
from fastworker.dashboard._parameters import Flag, Moment, Parameter, Text, Whole, Words
from fastworker.dashboard._status_views import overview_view, worker_view
from fastworker.dashboard._views import (
    CallbacksView,
    FunctionsView,
    HealthView,
    OverviewView,
    QueuesView,
    TasksView,
    WorkersView,
    callbacks_view,
    function_view,
    queues_view,
)

PHASES: Final = ("queued", "retrying", "parked")
TASKS_QUERY: Final = (
    Parameter("status", Words(tuple(STATUSES)), "Only those in this status.", is_list=True),
    Parameter("name", Text(), "Only those of this task function."),
    Parameter("worker", Text(), "Only those that this worker ran last."),
    Parameter("priority", Words(PRIORITIES), "Only those of this priority.", is_list=True),
    Parameter("since", Moment(), "Only those created since; seconds since 1970."),
    Parameter("until", Moment(), "Only those created before; seconds since 1970."),
    Parameter("text", Text(), "Only those with this in their id or name."),
    Parameter("poison", Flag(), "Only those that killed their worker again and again."),
    Parameter("before", Whole(1, 2**62), "Only those before this number: the next page."),
    Parameter("limit", Whole(1, MAX_PAGE_ROWS), "How many at most.", 100),
)
CALLBACKS_QUERY: Final = (
    Parameter("phase", Words(PHASES), "Only those in this phase.", is_list=True),
    Parameter("limit", Whole(0, 20_000), "How many at most, and 1 MiB of them.", 1_000),
)


async def overview(call: Call) -> OverviewView:
    """The control plane in numbers."""
    hub = call.dashboard.hub
    hub.start_if_new()  # it knows how fast things go, as soon as it has looked twice
    found = await call.dashboard.ask(lambda client: client._operations.overview())
    facts = overview_view(found, hub.history.rates, hub.history.latency)
    return msgspec.convert(facts, OverviewView, from_attributes=True)


async def workers(call: Call) -> WorkersView:
    """All workers."""
    rows = await call.dashboard.ask(lambda client: client._operations.workers())
    return msgspec.convert({"workers": list(map(worker_view, rows))}, WorkersView)


async def queues(call: Call) -> QueuesView:
    """What waits."""
    return queues_view(await call.dashboard.ask(lambda client: client._operations.overview()))


async def tasks(call: Call) -> TasksView:
    """A page of tasks."""
    asked = tasks_asked(call)
    page = await call.dashboard.ask(lambda client: client._operations.list_tasks(asked))
    return TasksView(list(map(view_of, page.rows)), page.following or None)


def tasks_asked(call: Call) -> TasksAsked:
    """What the control plane is asked."""
    query = call.query
    states = [name for status in dict.fromkeys(query["status"]) for name in STATUSES[status]]
    return TasksAsked(
        states=[StoredState[state] for state in states],
        name=query["name"] or "",
        worker=query["worker"] or "",
        priorities=[PRIORITIES.index(each) for each in dict.fromkeys(query["priority"])],
        since=query["since"] or 0.0,
        until=query["until"] or 0.0,
        before=query["before"] or 0,
        limit=query["limit"],
        text=query["text"] or "",
        is_poison=bool(query["poison"]),
    )


async def task(call: Call) -> TaskDetailView:
    """Everything that is known of a task."""
    task_id = task_id_of(call)
    return detail_view_of(
        await call.dashboard.ask(lambda client: client._operations.describe_task(task_id))
    )


def task_id_of(call: Call) -> str:
    """The id in the path.

    Raises:
      TaskNotFound: no task can have it.
    """
    task_id = call.path["task_id"]
    if not is_name(task_id):
        raise TaskNotFound(f"task {task_id!r:.80}: no such task is kept", task_id=task_id)
    return task_id


async def functions(call: Call) -> FunctionsView:
    """All task functions."""
    found = await call.dashboard.ask(lambda client: client._operations.list_live_functions())
    return FunctionsView(list(map(function_view, found)))


async def callbacks(call: Call) -> CallbacksView:
    """Callbacks that have not arrived."""
    phases = [CallbackPhase[phase.upper()] for phase in dict.fromkeys(call.query["phase"])]
    asked = CallbacksAsked(phases, call.query["limit"])
    return callbacks_view(
        await call.dashboard.ask(lambda c: c._operations.list_callbacks(asked))
    )


async def live(call: Call) -> Answer:
    """The dashboard answers; nothing else is asked."""
    number = call.request.headers.get(_proof.HEADER, "")
    _, port = call.request.scope.get("server") or ("", 0)
    proof = _proof.prove(call.dashboard.token, number, port or 0)
    return Answer(200, HealthView("ok"), {} if proof is None else {_proof.HEADER: proof})


async def ready(call: Call) -> Answer:
    """Whether tasks can be submitted; who is not signed in learns no more than why not."""
    status = await call.dashboard.readiness()
    return Answer(200 if status == "ok" else 503, HealthView(status))
