"""A client that leaves is no trouble for the others, however many tasks it or they have."""

from __future__ import annotations

from collections.abc import Iterator

from fastworker._core._cancelling import PORTION
from fastworker._core._link_requester import URGENT_SLOT
from fastworker._core._messages import (
    Kind,
    Lease,
    Nothing,
    Role,
    Submit,
    TaskSpec,
    WireStatus,
)
from fastworker._core._pipes import DeadlinePassed, Flush
from fastworker._core._scheduler_events import (
    OwnerGone,
    TasksCancelled,
    TasksDescribed,
    TasksWatched,
)
from fastworker._core._task_states import TaskRecord
from tests.core.plane import Plane
from tests.core.test_control_plane_machine import ANN, ANN_PIPE, BOB, BOB_PIPE, Hall

MANY = 2 * PORTION + PORTION // 2


class NotToBeLookedThrough(dict[str, TaskRecord]):
    """The open tasks."""

    def __iter__(self) -> Iterator[str]:
        raise AssertionError("all tasks were looked through")

    values = items = keys = __iter__  # type: ignore[assignment]


def test_only_the_tasks_of_a_client_that_leaves_are_looked_at() -> None:
    plane = Plane()
    plane.join("w")
    plane.submit(*(f"a{number}" for number in range(10)))
    plane.submit("b", owner=b"bob", attached=True)
    plane.watch(b"bob", "a0")
    open_tasks = plane.scheduler.open_tasks
    found = open_tasks.by_id
    open_tasks.by_id = NotToBeLookedThrough(found)
    plane.scheduler.handle(OwnerGone(b"bob"), now=plane.now)
    assert len(open_tasks.by_id) == 10
    assert len(open_tasks.clients) == 1
    assert not found["a0"].watchers


def test_what_a_client_leaves_behind_is_cancelled_portion_by_portion() -> None:
    plane = Plane()
    plane.join("w")
    plane.submit(*(f"a{number}" for number in range(MANY)), attached=True)
    plane.owner_gone(b"ann")
    left = [MANY - PORTION]
    while plane.scheduler.next_deadline() <= plane.now:
        plane.handle(DeadlinePassed())
        left.append(len(plane.scheduler.open_tasks.by_id))
    assert left == [MANY - PORTION, MANY - 2 * PORTION, 0]
    assert all(event.status is WireStatus.CANCELLED for event in plane.finals.values())
    assert len(plane.finals) == MANY
    plane.nothing_is_left()


def test_what_somebody_has_taken_before_its_turn_is_not_cancelled() -> None:
    plane = Plane()
    plane.join("w")
    plane.submit(*(f"a{number}" for number in range(MANY)), attached=True)
    plane.owner_gone(b"ann")
    plane.watch(b"bob", "a0", is_owner=True)
    while plane.scheduler.next_deadline() <= plane.now:
        plane.handle(DeadlinePassed())
    assert list(plane.scheduler.open_tasks.by_id) == ["a0"]


def test_clients_that_leave_at_one_moment_share_a_portion() -> None:
    plane = Plane()
    plane.join("w")
    owners = [f"client-{number}".encode() for number in range(5)]
    for owner in owners:
        ids = (f"{owner.decode()}-{number}" for number in range(PORTION // 2))
        plane.submit(*ids, owner=owner, attached=True)
    for owner in owners:
        plane.owner_gone(owner)
    left = [len(plane.finals)]
    while plane.scheduler.next_deadline() <= plane.now:
        plane.handle(DeadlinePassed())
        left.append(len(plane.finals))
    assert left[:3] == [PORTION, 2 * PORTION, 5 * PORTION // 2]
    plane.nothing_is_left()


def test_what_belongs_to_a_client_that_is_gone_is_nobodys_before_its_turn() -> None:
    plane = Plane()
    plane.join("w")
    plane.submit(*(f"a{number}" for number in range(MANY)))
    plane.owner_gone(b"ann")
    assert plane.scheduler.open_tasks.by_id["a0"].owner == b"ann"
    (*_, described) = plane.handle(TasksCancelled(["a0"], only_of=b"bob"))
    assert isinstance(described, TasksDescribed)
    assert [event.status for event in described.events] == [WireStatus.CANCELLED]
    plane.handle(TasksWatched(b"bob", ["a1"], is_owner=True, may_take=False))
    assert plane.scheduler.open_tasks.by_id["a1"].owner == b"bob"


def test_others_are_served_between_the_portions() -> None:
    hall = Hall()
    hall.hello(ANN_PIPE, ANN, Role.CLIENT)
    hall.hello(BOB_PIPE, BOB, Role.SUBWORKER)
    specs = [TaskSpec(f"a{n}", "add", 2, 1, b"()", 0.0, attached=True) for n in range(MANY)]
    for first in range(0, MANY, PORTION):
        hall.ask(ANN_PIPE, ANN, Kind.SUBMIT, Submit(specs[first : first + PORTION]))
    hall.ask(ANN_PIPE, ANN, Kind.BYE, Nothing(), slot=URGENT_SLOT)
    assert len(hall.scheduler.open_tasks.by_id) == MANY - PORTION
    assert hall.state.next_deadline() <= hall.now
    asked = hall.ask(BOB_PIPE, BOB, Kind.LEASE, Lease(0, {"thread": 1}))
    assert asked, "what has not been looked at yet may still be handed out"
    while hall.state.next_deadline() <= hall.now:
        hall.handle(DeadlinePassed())
        hall.handle(Flush())
    assert hall.state.statistics().tasks.cancelled == MANY - 1
    (record,) = hall.scheduler.open_tasks.by_id.values()
    assert record.is_cancel_requested
