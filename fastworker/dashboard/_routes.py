"""The table of everything that can be asked over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import Response
from starlette.routing import BaseRoute, Route, compile_path

from fastworker._task_views import TaskDetailView
from fastworker.dashboard import _actions, _prometheus, _reads, _views
from fastworker.dashboard._openapi import describe
from fastworker.dashboard._operations import JSON, Call, Operation, Place
from fastworker.dashboard._static import Files

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastworker.dashboard._dashboard import Dashboard

TEXT = "text/plain"


def operations_of(files: Files) -> list[Operation]:
    """All operations; the first whose path fits is the one that answers."""
    return [
        Operation(
            "GET", "/", files.page, "The page.", media_type="text/html", is_described=False
        ),
        Operation(
            "GET",
            "/static/{path:path}",
            files.serve,
            "The files of the page.",
            media_type="text/html",
            is_open=True,
            is_described=False,
        ),
        Operation(
            "GET",
            "/livez",
            _reads.live,
            "Whether the dashboard answers.",
            _views.HealthView,
            is_open=True,
        ),
        Operation(
            "GET",
            "/readyz",
            _reads.ready,
            "Whether tasks can be submitted; 503 and why not if they cannot.",
            _views.HealthView,
            errors=(503,),
            is_open=True,
        ),
        Operation(
            "GET",
            "/metrics",
            _prometheus.metrics,
            "All numbers, in the text format of Prometheus.",
            media_type=TEXT,
        ),
        Operation(
            "GET",
            "/api/openapi.json",
            _describe,
            "This description.",
            media_type=JSON,
        ),
        Operation(
            "POST",
            "/api/session",
            _actions.sign_in,
            "Sign in: the token for a cookie.",
            status=204,
            body=_actions.SessionAsked,
            errors=(429,),
            is_open=True,
        ),
        Operation("DELETE", "/api/session", _actions.sign_out, "Sign out.", status=204),
        Operation(
            "GET",
            "/api/overview",
            _reads.overview,
            "The control plane in numbers.",
            _views.OverviewView,
        ),
        Operation("GET", "/api/workers", _reads.workers, "All workers.", _views.WorkersView),
        Operation(
            "POST",
            "/api/workers/{worker_id:path}/drain",
            _actions.drain,
            "Have a worker take no more work, and end when what it runs has ended.",
            _views.DrainView,
            status=202,
            errors=(404, 409),
        ),
        Operation("GET", "/api/queues", _reads.queues, "What waits.", _views.QueuesView),
        Operation(
            "GET",
            "/api/tasks",
            _reads.tasks,
            "Tasks, the newest first: those to which all of this applies.",
            _views.TasksView,
            parameters=_reads.TASKS_QUERY,
        ),
        Operation(
            "POST",
            "/api/tasks/actions",
            _actions.act,
            "Cancel, run again or forget many tasks.",
            _views.ActionsView,
            body=_actions.ActionsAsked,
        ),
        Operation(
            "POST",
            "/api/tasks/{task_id:path}/cancel",
            _actions.cancel,
            "Have a task stopped.",
            _views.CancelView,
            status=202,
            errors=(404,),
        ),
        Operation(
            "POST",
            "/api/tasks/{task_id:path}/retry",
            _actions.retry,
            "Run an ended task again, under its id.",
            _views.TaskIdView,
            errors=(404, 409),
        ),
        Operation(
            "POST",
            "/api/tasks/{task_id:path}/purge",
            _actions.purge,
            "Forget an ended task.",
            _views.TaskIdView,
            errors=(404, 409),
        ),
        Operation(
            "GET",
            "/api/tasks/{task_id:path}",
            _reads.task,
            "Everything that is known of a task.",
            TaskDetailView,
            errors=(404,),
        ),
        Operation(
            "GET",
            "/api/functions",
            _reads.functions,
            "The task functions that live workers know.",
            _views.FunctionsView,
        ),
        Operation(
            "GET",
            "/api/callbacks",
            _reads.callbacks,
            "Callbacks that have not arrived.",
            _views.CallbacksView,
            parameters=_reads.CALLBACKS_QUERY,
        ),
    ]


def routes_of(operations: list[Operation], dashboard: Dashboard) -> list[BaseRoute]:
    """The routes, one for each path."""
    by_path: dict[str, list[Operation]] = {}
    for each in operations:
        by_path.setdefault(each.path, []).append(each)
    return [Route(path, Place(dashboard, some)) for path, some in by_path.items()]


def openness(operations: list[Operation]) -> Callable[[str, str], bool]:
    """Tells by method and path what anybody may ask."""
    open_paths = [
        (each.method, compile_path(each.path)[0]) for each in operations if each.is_open
    ]

    def is_open(method: str, path: str) -> bool:
        method = "GET" if method == "HEAD" else method
        return any(method == verb and regex.match(path) for verb, regex in open_paths)

    return is_open


async def _describe(call: Call) -> Response:
    dashboard = call.dashboard
    root = call.request.scope.get("root_path", "")
    return Response(
        describe(dashboard.operations, dashboard.token.cookie_name, root), media_type=JSON
    )
