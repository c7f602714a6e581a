"""What operators do. Each leaves an audit line, whatever came of it."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import anyio
import msgspec
from msgspec import Meta

from fastworker._cancel_outcome import CancelOutcome, Completed
from fastworker._client import Client
from fastworker._core._messages import Name, is_name
from fastworker._core._task_questions import TaskAction, TasksDone, Untouched
from fastworker._errors import FastWorkerError, ResultExpired, TaskNotFound
from fastworker._models import TaskStatus
from fastworker.dashboard import _audit
from fastworker.dashboard._guard import visit_of
from fastworker.dashboard._operations import Answer, Call
from fastworker.dashboard._policy import Refusal, session_cookie
from fastworker.dashboard._reads import task_id_of
from fastworker.dashboard._views import (
    ActionsView,
    CancelView,
    DrainView,
    TaskIdView,
    UntouchedView,
)

# For so long the outcome of a cancel is waited for; it goes on without us.
CANCEL_SECONDS: Final = 1.0
# Cancels that wait at once, of one request.
_AT_ONCE: Final = 100
NOT_FOUND: Final = "no such task is kept"


class ActionsAsked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is to be done with which tasks."""

    action: Literal["cancel", "retry", "purge"]
    ids: Annotated[list[Name], Meta(min_length=1, max_length=1_000)]


class SessionAsked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The token by which somebody signs in."""

    token: Annotated[str, Meta(min_length=1, max_length=256)]


async def cancel(call: Call) -> CancelView:
    """Have a task stopped."""
    task_id = task_id_of(call)
    try:
        status = await call.dashboard.ask(lambda client: _cancel(client, task_id))
    except TaskNotFound:
        _audit.note(call.visitor, "cancel", "not_found", task_ids=[task_id])
        raise
    except ResultExpired as error:
        _audit.note(call.visitor, "cancel", "ended", task_ids=[task_id])
        raise Refusal(404, "not_found", str(error)) from None
    except FastWorkerError as error:
        _audit.note(call.visitor, "cancel", type(error).__name__, task_ids=[task_id])
        raise
    _audit.note(call.visitor, "cancel", status, task_ids=[task_id])
    return CancelView(task_id, status)  # type: ignore[arg-type]  # one of those


async def retry(call: Call) -> TaskIdView:
    """Run an ended task again, under its id."""
    return await _act_on_one(call, "retry", TaskAction.REQUEUE)


async def purge(call: Call) -> TaskIdView:
    """Forget an ended task."""
    return await _act_on_one(call, "purge", TaskAction.PURGE)


async def act(call: Call) -> ActionsView:
    """Do one thing with many tasks."""
    asked: ActionsAsked = call.body
    ids = list(dict.fromkeys(asked.ids))
    if not all(map(is_name, ids)):
        raise Refusal(400, "bad_request", "an id is no Unicode text")
    try:
        if asked.action == "cancel":
            done = await call.dashboard.ask(lambda client: _cancel_all(client, ids))
        else:
            action = TaskAction.REQUEUE if asked.action == "retry" else TaskAction.PURGE
            done = await _act(call, action, ids)
    except FastWorkerError as error:
        _audit.note(call.visitor, asked.action, type(error).__name__, task_ids=ids)
        raise
    _audit.note(
        call.visitor,
        asked.action,
        "done",
        task_ids=done.done,
        untouched=[each.task_id for each in done.untouched],
    )
    return ActionsView(
        done.done, [UntouchedView(each.task_id, each.reason) for each in done.untouched]
    )


async def drain(call: Call) -> DrainView:
    """Have a worker end when what it runs has ended."""
    worker_id = call.path["worker_id"]
    if not is_name(worker_id):
        raise Refusal(404, "not_found", "no worker has such an id")
    try:
        await call.dashboard.ask(lambda client: client._operations.drain_worker(worker_id))
    except LookupError as error:
        _audit.note(call.visitor, "drain", str(error), worker_id=worker_id)
        is_unknown = str(error).startswith("no subworker")
        raise Refusal(
            404 if is_unknown else 409, "not_found" if is_unknown else "conflict", str(error)
        ) from None
    except FastWorkerError as error:
        _audit.note(call.visitor, "drain", type(error).__name__, worker_id=worker_id)
        raise
    _audit.note(call.visitor, "drain", "done", worker_id=worker_id)
    return DrainView(worker_id)


async def sign_in(call: Call) -> Answer:
    """Exchange the token for a cookie."""
    asked: SessionAsked = call.body
    dashboard = call.dashboard
    visit = visit_of(call.request.scope)
    try:
        dashboard.policy.sign_in(visit, asked.token, dashboard.now())
    except Refusal as refusal:
        _audit.note(call.visitor, "sign_in", refusal.code)
        raise
    _audit.note(call.visitor, "sign_in", "done")
    return Answer(204, None, _cookie(call, dashboard.token.cookie))


async def sign_out(call: Call) -> Answer:
    """Have the browser forget the cookie."""
    return Answer(204, None, _cookie(call, ""))


def _cookie(call: Call, value: str) -> dict[str, str]:
    scope = call.request.scope
    is_https = scope.get("scheme") == "https"
    root = scope.get("root_path", "")
    name = call.dashboard.token.cookie_name
    return {"set-cookie": session_cookie(name, value, root, is_https=is_https)}


# --- tasks ---


async def _act_on_one(call: Call, verb: str, action: TaskAction) -> TaskIdView:
    task_id = task_id_of(call)
    try:
        done = await _act(call, action, [task_id])
    except FastWorkerError as error:
        _audit.note(call.visitor, verb, type(error).__name__, task_ids=[task_id])
        raise
    for each in done.untouched:
        _audit.note(call.visitor, verb, each.reason, task_ids=[task_id])
        is_unknown = each.reason == NOT_FOUND
        raise Refusal(
            404 if is_unknown else 409,
            "not_found" if is_unknown else "conflict",
            f"task {task_id!r}: {each.reason}",
        )
    _audit.note(call.visitor, verb, "done", task_ids=[task_id])
    return TaskIdView(task_id)


async def _act(call: Call, action: TaskAction, ids: list[str]) -> TasksDone:
    return await call.dashboard.ask(lambda client: client._operations.act_on_tasks(action, ids))


async def _cancel(client: Client, task_id: str) -> str:
    """Ask for it, and wait a little; the control plane does it all the same."""
    with anyio.move_on_after(CANCEL_SECONDS):
        return _status_of(await client.cancel(task_id))
    return "cancelling"


def _status_of(outcome: CancelOutcome) -> str:
    if not isinstance(outcome, Completed):
        return "cancelled"
    status = outcome.result.status
    return status.value if status in _ENDS else "cancelled"


_ENDS: Final = (TaskStatus.SUCCESS, TaskStatus.FAILURE, TaskStatus.EXPIRED)


async def _cancel_all(client: Client, ids: list[str]) -> TasksDone:
    reasons: dict[str, str] = {}
    limiter = anyio.CapacityLimiter(_AT_ONCE)
    errors: list[FastWorkerError] = []

    async def one(task_id: str) -> None:
        async with limiter:
            try:
                status = await _cancel(client, task_id)
            except (TaskNotFound, ResultExpired):
                reasons[task_id] = NOT_FOUND
            except FastWorkerError as error:
                errors.append(error)
            else:
                if status not in ("cancelled", "cancelling"):
                    reasons[task_id] = f"it has ended: {status}"

    async with anyio.create_task_group() as group:
        for task_id in ids:
            group.start_soon(one, task_id)
    if errors:
        raise errors[0]
    done = [task_id for task_id in ids if task_id not in reasons]
    untouched = [Untouched(each, reasons[each]) for each in ids if each in reasons]
    return TasksDone(done, untouched)
