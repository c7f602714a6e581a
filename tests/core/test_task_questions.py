"""TASKS, TASK and TASK_ACTION at the control plane's machine: what it asks, and does then."""

from __future__ import annotations

import msgspec
import pytest

from fastworker._core._codec import decode_body, encode
from fastworker._core._control_plane_events import (
    AppendRecords,
    ControlPlaneCommand,
    PageRead,
    ReadPage,
    ReadTasks,
    RecordsDurable,
    RecordsFailed,
    StoreRecovered,
    TasksRead,
)
from fastworker._core._messages import (
    BATCH_BYTES,
    BEAT_DELAY,
    URGENT_SLOT,
    Closed,
    EndedAttempt,
    Frame,
    Kind,
    Lease,
    Nothing,
    Reply,
    Report,
    Role,
    TaskEvent,
    TaskEvents,
    TaskIds,
    TaskSpec,
    WireStatus,
    Working,
)
from fastworker._core._pipes import Flush
from fastworker._core._stored import (
    MAX_PAGE_ROWS,
    StoredState,
    StoredTask,
    TaskRow,
    TasksAsked,
    TasksPage,
)
from fastworker._core._task_questions import (
    TaskAction,
    TaskAsked,
    TasksDone,
    TasksNamed,
    cut_page,
)
from tests.core.test_control_plane_machine import (
    ANN,
    ANN_PIPE,
    BOB,
    BOB_PIPE,
    EPOCH,
    EVE,
    EVE_PIPE,
    Hall,
    an_open_hall,
    work_goes_on,
)

DONE = TaskEvent("old", WireStatus.SUCCESS, payload=b"42", completed=2.0)
OLD = StoredTask(
    7, TaskSpec("old", "add", 2, 1, b"[]", 1.0), StoredState.SUCCESS, changed=2.0, outcome=DONE
)


class Office(Hall):
    """A hall whose store is the test: it holds questions and transactions back.

    Ann is an operator; Bob is a subworker that has room for one task.
    """

    def __init__(self) -> None:
        super().__init__(is_durable=True)
        self.questions: list[ReadPage | ReadTasks] = []
        self.transactions: list[AppendRecords] = []
        self.is_writing = True
        self.hello(ANN_PIPE, ANN, Role.CLIENT)
        self.hello(BOB_PIPE, BOB, Role.SUBWORKER)
        self.scheduler.restore_sequence(OLD.sequence)

    def obey(self, command: ControlPlaneCommand) -> None:
        match command:
            case ReadPage() | ReadTasks():
                self.questions.append(command)
            case AppendRecords() if not self.is_writing:
                self.transactions.append(command)
            case _:
                super().obey(command)

    def tell(self, event: object) -> list[Frame]:
        """Let the store say something; what Ann is sent then."""
        before = len(self.sent)
        self.handle(event)
        self.handle(Flush())
        self.pass_time(0.01)
        return [sent for to, sent in self.sent[before:] if to == ANN_PIPE]

    def ask_for(self, action: TaskAction, *ids: str, newest: int = 7) -> ReadTasks:
        """Ann has something done; what the store is asked."""
        self.ask(ANN_PIPE, ANN, Kind.TASK_ACTION, TasksNamed(action, list(ids), newest))
        question = self.questions.pop()
        assert isinstance(question, ReadTasks)
        return question

    def read(self, question: ReadTasks, *tasks: StoredTask) -> TasksDone:
        """Answer it from the store; what Ann hears."""
        (reply,) = self.tell(TasksRead(question, list(tasks), len(question.ids)))
        assert isinstance(reply, Reply)
        return decode_body(TasksDone, reply.body)

    def run_old(self) -> None:
        """Bob runs what was queued again."""
        attempt = self.scheduler.open_tasks.by_id["old"].fence + 1
        self.ask(BOB_PIPE, BOB, Kind.LEASE, Lease(0, {"thread": 1}))
        ended = EndedAttempt("old", attempt, WireStatus.SUCCESS, 0.0, 1.0, 2.0, 1, b"43")
        self.ask(BOB_PIPE, BOB, Kind.REPORT, Report(EPOCH, [], [ended]), slot=1)


@pytest.fixture
def hall() -> Hall:
    class Rows(Hall):
        def obey(self, command: ControlPlaneCommand) -> None:
            if isinstance(command, ReadTasks):
                self.handle(TasksRead(command, [OLD], len(command.ids)))
            else:
                super().obey(command)

    hall = Rows()
    hall.hello(ANN_PIPE, ANN, Role.CLIENT)
    return hall


@pytest.fixture
def office() -> Office:
    return Office()


def reasons(done: TasksDone) -> dict[str, str]:
    return {each.task_id: each.reason for each in done.untouched}


def test_a_request_that_is_repeated_queues_nothing_twice(office: Office) -> None:
    """Its answer may be lost, even with the session in which it was asked."""
    assert office.read(office.ask_for(TaskAction.REQUEUE, "old"), OLD).done == ["old"]
    office.run_old()
    assert office.scheduler.describe("old", now=office.now).status is WireStatus.SUCCESS
    ended = msgspec.structs.replace(OLD, sequence=8)
    again = office.read(office.ask_for(TaskAction.REQUEUE, "old"), ended)
    assert (again.done, reasons(again)) == ([], {"old": "it was queued again meanwhile"})
    assert office.read(office.ask_for(TaskAction.REQUEUE, "old", newest=8), ended).done


@pytest.mark.parametrize("action", list(TaskAction))
def test_a_row_that_is_about_to_change_is_not_acted_on(
    office: Office, action: TaskAction
) -> None:
    """The store was read before it knew of the end of a second run."""
    assert office.read(office.ask_for(TaskAction.REQUEUE, "old"), OLD).done == ["old"]
    office.is_writing = False
    office.run_old()
    question = office.ask_for(action, "old")
    assert office.tell(TasksRead(question, [OLD], 1)) == []
    replies: list[Frame] = []
    while office.transactions:
        replies += office.tell(RecordsDurable(office.transactions.pop().batch))
    (reply,) = replies
    assert isinstance(reply, Reply)
    done = decode_body(TasksDone, reply.body)
    assert reasons(done) == {"old": "its end is not in the store yet"}
    assert office.scheduler.describe("old", now=office.now).payload == b"43"


def test_what_is_to_run_again_is_not_lost_when_the_store_fails(office: Office) -> None:
    """S1: of its first end nothing is known any more, so it cannot be taken back."""
    office.is_writing = False
    question = office.ask_for(TaskAction.REQUEUE, "old")
    assert office.tell(TasksRead(question, [OLD], 1)) == []  # it is not durable yet
    failed = office.transactions.pop()
    assert office.tell(RecordsFailed(failed.batch, "no space left")) == []
    refused = office.ask(
        ANN_PIPE, ANN, Kind.TASK_ACTION, TasksNamed(TaskAction.PURGE, ["old"], 7), slot=1
    )
    assert isinstance(refused[0], Reply)
    assert "no space left" in decode_body(TasksDone, refused[0].body).problem
    office.tell(StoreRecovered())
    once_more = office.transactions.pop()
    assert [task.spec.id for task in once_more.changes.created] == ["old"]
    assert once_more.changes.purged == ["old"]
    (reply,) = office.tell(RecordsDurable(once_more.batch))
    assert isinstance(reply, Reply)
    assert decode_body(TasksDone, reply.body).done == ["old"]
    office.is_writing = True
    office.run_old()
    assert office.scheduler.describe("old", now=office.now).status is WireStatus.SUCCESS


def test_an_end_is_waited_for_while_the_store_cannot_be_read(office: Office) -> None:
    """S13: "unknown" would make a client believe that its task is lost."""
    for slot, kind in enumerate((Kind.QUERY, Kind.WATCH)):
        office.ask(ANN_PIPE, ANN, kind, TaskIds(["old"]), slot=slot)
        question = office.questions.pop()
        assert isinstance(question, ReadTasks)
        for _ in range(3):
            assert office.tell(TasksRead(question, [], 1, "the disk is gone")) == []
            assert office.questions == []
            office.pass_time(0.6)
            question = office.questions.pop()  # type: ignore[assignment]
        (reply,) = office.tell(TasksRead(question, [OLD], 1))
        assert isinstance(reply, Reply)
        assert decode_body(TaskEvents, reply.body).events == [DONE]


def test_a_cancellation_does_not_wait_for_a_store_that_cannot_be_read(office: Office) -> None:
    """One slot is for all of a client's cancellations."""
    office.ask(ANN_PIPE, ANN, Kind.CANCEL, TaskIds(["old"]), slot=URGENT_SLOT)
    question = office.questions.pop()
    assert isinstance(question, ReadTasks)
    (reply,) = office.tell(TasksRead(question, [], 1, "the disk is gone"))
    assert isinstance(reply, Reply)
    (event,) = decode_body(TaskEvents, reply.body).events
    assert event.status is WireStatus.UNKNOWN


def test_ends_that_were_not_read_are_left_for_the_next_request(office: Office) -> None:
    office.ask(ANN_PIPE, ANN, Kind.WATCH, TaskIds(["old", "older", "oldest"]))
    question = office.questions.pop()
    assert isinstance(question, ReadTasks)
    (reply,) = office.tell(TasksRead(question, [OLD], 2))
    assert isinstance(reply, Reply)
    events = decode_body(TaskEvents, reply.body).events
    assert [(e.task_id, e.status) for e in events] == [
        ("old", WireStatus.SUCCESS),
        ("older", WireStatus.UNKNOWN),
    ]


def test_what_a_cache_in_memory_has_let_go_is_gone(hall: Hall) -> None:
    """Its bounds are what was promised, whatever rows a store in memory has."""
    (reply,) = hall.ask(ANN_PIPE, ANN, Kind.QUERY, TaskIds(["old"]))
    assert isinstance(reply, Reply)
    (event,) = decode_body(TaskEvents, reply.body).events
    assert event.status is WireStatus.UNKNOWN


def test_an_answer_for_a_session_that_is_gone_goes_nowhere(office: Office) -> None:
    office.ask(ANN_PIPE, ANN, Kind.QUERY, TaskIds(["old"]))
    (question,) = office.questions
    assert isinstance(question, ReadTasks)
    office.tell(TasksRead(question, [], 1, "the disk is gone"))
    office.questions.clear()
    office.ask(ANN_PIPE, ANN, Kind.BYE, Nothing(), slot=URGENT_SLOT)
    office.pass_time(1)
    assert office.questions == []
    assert office.tell(TasksRead(question, [OLD], 1)) == []
    page = PageRead(question.session, question.ticket, TasksPage([]))
    assert office.tell(page) == []


def test_a_page_is_cut_to_what_one_frame_holds(office: Office) -> None:
    text = "\N{GRINNING FACE}" * 4096
    rows = [
        TaskRow(n, f"{n}", "add", StoredState.FAILURE, 2, 1.0, 2.0, error=text)
        for n in range(1000, 0, -1)
    ]
    office.ask(ANN_PIPE, ANN, Kind.TASKS, TasksAsked(limit=1000))
    question = office.questions.pop()
    (reply,) = office.tell(PageRead(question.session, question.ticket, TasksPage(rows)))
    assert isinstance(reply, Reply)
    assert len(reply.body) <= BATCH_BYTES
    page = decode_body(TasksPage, reply.body)
    assert page.more
    assert page.rows == rows[: len(page.rows)] != []
    short = TasksPage([msgspec.structs.replace(row, error="ValueError") for row in rows])
    assert cut_page(short) is short


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (Kind.TASKS, TasksAsked(limit=MAX_PAGE_ROWS + 1)),
        (Kind.TASKS, TasksAsked(limit=0)),
        (Kind.TASKS, TasksAsked(limit=2**63)),
        (Kind.TASKS, TasksAsked(before=-1)),
        (Kind.TASKS, TasksAsked(before=2**64 - 1)),
        (Kind.TASKS, TasksAsked([StoredState.QUEUED] * 9)),
        (Kind.TASKS, TasksAsked(name="x" * 257)),
        (Kind.TASKS, TasksAsked(since=float("nan"))),
        (Kind.TASKS, TasksAsked(until=float("inf"))),
        (Kind.TASK, TaskAsked("")),
        (Kind.TASK, TaskAsked("x" * 257)),
        (Kind.TASK_ACTION, TasksNamed(TaskAction.PURGE, ["x"] * (MAX_PAGE_ROWS + 1), 1)),
        (Kind.TASK_ACTION, TasksNamed(TaskAction.PURGE, ["x"], -1)),
        (Kind.TASK_ACTION, b"\x93\x03\x91\xa1x\x01"),
    ],
)
def test_a_question_that_cannot_be_meant_closes_the_session_of_who_asks(
    kind: Kind, body: msgspec.Struct | bytes
) -> None:
    """B2: no limit and no cursor is taken on trust."""
    hall = an_open_hall()
    hall.hello(EVE_PIPE, EVE, Role.CLIENT)
    data = body if isinstance(body, bytes) else encode(body)  # type: ignore[arg-type]
    frames = hall.ask(EVE_PIPE, EVE, kind, data)
    assert [type(frame) for frame in frames] == [Closed]
    work_goes_on(hall)


def test_a_repeat_of_a_question_that_the_store_has_yet_to_answer_is_not_asked_again(
    office: Office,
) -> None:
    named = TasksNamed(TaskAction.REQUEUE, ["old"], 7)
    office.ask(ANN_PIPE, ANN, Kind.TASK_ACTION, named, sequence=1)
    before = len(office.sent)
    office.ask(ANN_PIPE, ANN, Kind.TASK_ACTION, named, sequence=1)
    office.pass_time(BEAT_DELAY)
    (frame,) = [sent for to, sent in office.sent[before:] if to == ANN_PIPE]
    assert isinstance(frame, Working)
    assert len(office.questions) == 1
