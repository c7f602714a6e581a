"""FUNCTIONS and CALLBACKS: what operators ask of a control plane, machine by machine."""

from __future__ import annotations

import pytest

from fastworker._core import _live_functions
from fastworker._core._callback_events import DeliveryEnded
from fastworker._core._callbacks import MAX_TRIES
from fastworker._core._client_events import (
    QueryAbandoned,
    QueryMade,
    QuestionAnswered,
    QuestionAsked,
)
from fastworker._core._codec import decode_body, decode_frame, digest, encode
from fastworker._core._control_plane_events import (
    CallbacksDescribed,
    DescribeCallbacks,
    FrameArrived,
    Port,
)
from fastworker._core._link_requester import DropPipe
from fastworker._core._link_responder import SendTo
from fastworker._core._live_functions import list_live_functions
from fastworker._core._messages import (
    BATCH_BYTES,
    MAX_NAMED_WORKERS,
    CallbackPhase,
    CallbacksAsked,
    CallbacksReply,
    FunctionInfo,
    FunctionsAsked,
    FunctionsReply,
    Kind,
    LiveFunction,
    Nothing,
    Reply,
    Request,
    Role,
)
from fastworker._core._pipes import PipeClosed, Route
from fastworker._core._subworkers import SubworkerRecord
from tests.core.test_callbacks import A, B, Talk
from tests.core.test_client_machine import Desk
from tests.core.test_control_plane_machine import ANN, ANN_PIPE, BOB_PIPE, EPOCH, Hall

# --- which task functions there are -----------------------------------------


def worker(label: str, *names: str, doc: str = "") -> SubworkerRecord:
    functions = [FunctionInfo(name, "thread", "()", doc) for name in names]
    return SubworkerRecord(label.encode() * 4, label, "", functions, 1)


def pages(known: list[str], workers: list[SubworkerRecord]) -> list[list[str]]:
    """The names, page by page, as a client asks for them."""
    found: list[list[str]] = []
    after, more = "", True
    while more:
        reply = list_live_functions(known, workers, after)
        found.append([live.function.name for live in reply.functions])
        after, more = found[-1][-1] if found[-1] else "", reply.more
    return found


def test_functions_are_sorted_and_name_the_workers_that_know_them() -> None:
    workers = [worker("w1", "b", "a", doc="old"), worker("w2", "b", doc="new")]
    reply = list_live_functions(["b", "a"], workers, "")
    assert [(f.function.name, f.workers, f.worker_count) for f in reply.functions] == [
        ("a", ["w1"], 1),
        ("b", ["w1", "w2"], 2),
    ]
    assert reply.functions[1].function.doc == "new", "as the last one announced it"
    assert not reply.more


def test_a_function_that_no_live_worker_knows_is_left_out() -> None:
    assert pages(["a", "gone"], [worker("w1", "a")]) == [["a"]]
    assert pages(["gone"], []) == [[]]


def test_pages_follow_each_other_without_a_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_live_functions, "PAGE", 2)
    assert pages(list("dbeac"), [worker("w1", *"abcde")]) == [["a", "b"], ["c", "d"], ["e"]]
    assert pages(list("dbac"), [worker("w1", *"abcd")]) == [["a", "b"], ["c", "d"]]


def test_a_page_is_cut_at_one_mebibyte_and_is_never_empty() -> None:
    names = [f"{number:04}" for number in range(600)]
    found = pages(names, [worker("w1", *names, doc="x" * 4000)])
    assert [name for page in found for name in page] == names
    assert len(found) == 3
    assert all(len(page) * 4000 < BATCH_BYTES for page in found)


def test_of_many_workers_the_first_are_named_and_all_are_counted() -> None:
    workers = [worker(f"w{number}", "a") for number in range(MAX_NAMED_WORKERS + 5)]
    (live,) = list_live_functions(["a"], workers, "").functions
    assert len(live.workers) == MAX_NAMED_WORKERS
    assert live.worker_count == MAX_NAMED_WORKERS + 5


def hall_with_both() -> Hall:
    hall = Hall()
    hall.hello(ANN_PIPE, ANN, Role.CLIENT)
    hall.hello(BOB_PIPE, b"bobb" * 4, Role.SUBWORKER)
    return hall


def test_a_client_is_told_what_the_live_workers_know() -> None:
    hall = hall_with_both()
    (reply,) = hall.ask(ANN_PIPE, ANN, Kind.FUNCTIONS, FunctionsAsked())
    assert isinstance(reply, Reply)
    expected = LiveFunction(FunctionInfo("add", "thread"), ["peer"], 1)
    assert decode_body(FunctionsReply, reply.body) == FunctionsReply([expected])

    hall.handle(PipeClosed(BOB_PIPE))
    hall.pass_time(5)
    (reply,) = hall.ask(ANN_PIPE, ANN, Kind.FUNCTIONS, FunctionsAsked())
    assert isinstance(reply, Reply)
    assert decode_body(FunctionsReply, reply.body) == FunctionsReply([])


# --- where callbacks are ----------------------------------------------------


def phases(talk: Talk, asked: CallbacksAsked | None = None) -> list[tuple[str, str]]:
    reply = talk.state.describe(asked or CallbacksAsked())
    assert reply.due == (
        reply.queued + reply.retrying + reply.parked + reply.delivered + reply.dropped
    )
    return [(view.task_id, view.phase.name) for view in reply.callbacks]


def test_a_callback_is_queued_until_it_has_arrived() -> None:
    talk = Talk()
    talk.due("t1")
    (view,) = talk.state.describe(CallbacksAsked()).callbacks
    assert (view.phase, view.address, view.task_id) == (CallbackPhase.QUEUED, A, "t1")
    assert (view.event_id, view.tries, view.error) == ("event of t1", 0, "")
    talk.arrived()
    assert phases(talk) == []
    assert talk.state.describe(CallbacksAsked()).delivered == 1


def test_after_a_failure_all_of_its_address_wait_for_the_retry_with_the_error() -> None:
    talk = Talk()
    for task_id in ("t1", "t2"):
        talk.due(task_id)
    talk.due("other", B)
    talk.failed(error="nobody there")
    assert phases(talk) == [("t1", "RETRYING"), ("t2", "RETRYING"), ("other", "QUEUED")]
    first, second, other = talk.state.describe(CallbacksAsked()).callbacks
    assert (first.tries, first.error) == (1, "nobody there")
    assert (second.tries, second.error) == (0, "nobody there")
    assert other.error == ""
    # While it is tried again nothing is known that was not known before.
    talk.next_deadline()
    assert phases(talk)[0] == ("t1", "RETRYING")
    talk.arrived()
    assert phases(talk) == [("t2", "QUEUED"), ("other", "QUEUED")]
    assert all(not view.error for view in talk.state.describe(CallbacksAsked()).callbacks)


def test_a_parked_one_comes_first_with_its_tries_and_last_error() -> None:
    talk = Talk()
    talk.due("t1")
    talk.due("t2")
    for _ in range(MAX_TRIES):
        talk.failed(error="x" * 100_000)
        talk.next_deadline()
    reply = talk.state.describe(CallbacksAsked())
    assert phases(talk) == [("t1", "PARKED"), ("t2", "RETRYING")]
    assert (reply.parked, reply.retrying, reply.queued) == (1, 1, 0)
    assert reply.callbacks[0].tries == MAX_TRIES
    # A line on the wire has a limit, and nobody knows how long an error is.
    assert decode_body(CallbacksReply, encode(reply)) == reply


def test_one_may_ask_for_some_phases_only() -> None:
    talk = Talk(parked=1)
    talk.due("t1")
    talk.due("t2", B)
    talk.failed()
    assert phases(talk, CallbacksAsked([CallbackPhase.QUEUED])) == [("t2", "QUEUED")]
    assert phases(talk, CallbacksAsked([CallbackPhase.RETRYING])) == [("t1", "RETRYING")]
    assert phases(talk, CallbacksAsked([CallbackPhase.PARKED])) == []


@pytest.mark.parametrize(("limit", "is_cut"), [(0, True), (2, True), (3, False)])
def test_an_answer_has_at_most_as_many_as_were_asked_for(limit: int, is_cut: bool) -> None:
    talk = Talk()
    for number in range(3):
        talk.due(f"t{number}")
    reply = talk.state.describe(CallbacksAsked(limit=limit))
    assert len(reply.callbacks) == limit
    assert reply.is_cut is is_cut
    assert reply.queued == 3


def test_an_answer_is_cut_at_one_mebibyte() -> None:
    talk = Talk()
    for number in range(2_000):
        talk.due(f"{number:0200}")
    talk.state.handle(DeliveryEnded(A, 0, "x" * 1_000), now=talk.now)
    reply = talk.state.describe(CallbacksAsked(limit=20_000))
    assert reply.is_cut
    assert 0.9 * BATCH_BYTES < len(encode(reply)) <= BATCH_BYTES
    assert reply.retrying == 2_000


def test_the_control_plane_asks_whoever_sends_callbacks_and_passes_the_answer_on() -> None:
    hall = hall_with_both()
    asked = CallbacksAsked([CallbackPhase.PARKED], 7)
    body = encode(asked)
    request = Request(ANN, EPOCH, 0, 1, 1, digest(Kind.CALLBACKS, body), Kind.CALLBACKS, body)
    arrived = FrameArrived(Port.BASE, Route(ANN_PIPE, b"r"), encode(request))
    (wanted,) = hall.state.handle(arrived, now=hall.now)
    assert isinstance(wanted, DescribeCallbacks)
    assert wanted.asked == asked
    answer = CallbacksReply(1, 0, 0, 0, 1, 0)
    described = CallbacksDescribed(wanted.session, wanted.ticket, answer)
    (sent,) = hall.state.handle(described, now=hall.now)
    assert isinstance(sent, SendTo)
    reply = decode_frame(sent.data)
    assert isinstance(reply, Reply)
    assert decode_body(CallbacksReply, reply.body) == answer
    # Said twice, or to somebody who has left meanwhile, it goes to nobody.
    assert hall.state.handle(described, now=hall.now) == []
    hall.ask(ANN_PIPE, ANN, Kind.BYE, Nothing(), slot=15)
    assert hall.state.handle(described, now=hall.now) == []
    hall.state.check()


# --- the client -------------------------------------------------------------

QUESTIONS = [
    (Kind.FUNCTIONS, FunctionsAsked("after this"), FunctionsReply([])),
    (Kind.CALLBACKS, CallbacksAsked(limit=3), CallbacksReply(0, 0, 0, 0, 0, 0)),
]


@pytest.fixture
def desk() -> Desk:
    desk = Desk()
    desk.connect()
    return desk


@pytest.mark.parametrize(("kind", "question", "answer"), QUESTIONS)
def test_a_question_is_answered_once(
    desk: Desk,
    kind: Kind,
    question: FunctionsAsked | CallbacksAsked,
    answer: FunctionsReply | CallbacksReply,
) -> None:
    desk.handle(QuestionAsked(1, question))
    assert desk.asked(kind) == [question]
    desk.answer(kind, answer)
    assert desk.take(QuestionAnswered) == [QuestionAnswered(1, answer)]


@pytest.mark.parametrize(("kind", "question", "answer"), QUESTIONS)
def test_a_question_survives_a_lost_session(
    desk: Desk,
    kind: Kind,
    question: FunctionsAsked | CallbacksAsked,
    answer: FunctionsReply | CallbacksReply,
) -> None:
    desk.handle(QuestionAsked(1, question))
    desk.lose_the_session()
    desk.answer(kind, answer)
    assert desk.take(QuestionAnswered) == [QuestionAnswered(1, answer)]


@pytest.mark.parametrize(("kind", "question", "answer"), QUESTIONS)
def test_a_question_whose_caller_left_is_answered_to_nobody(
    desk: Desk,
    kind: Kind,
    question: FunctionsAsked | CallbacksAsked,
    answer: FunctionsReply | CallbacksReply,
) -> None:
    desk.handle(QueryMade(1, "x"))
    desk.handle(QuestionAsked(2, question))
    desk.handle(QueryAbandoned(2))
    desk.answer(kind, answer)
    assert desk.take(QuestionAnswered) == []


@pytest.mark.parametrize("kind", [Kind.FUNCTIONS, Kind.CALLBACKS])
@pytest.mark.parametrize("body", [b"", b"\xc1", b"\x01", b"\x91" * 300])
def test_an_answer_that_is_none_drops_the_pipe(desk: Desk, kind: Kind, body: bytes) -> None:
    is_first = kind is Kind.FUNCTIONS
    desk.handle(QuestionAsked(1, FunctionsAsked() if is_first else CallbacksAsked()))
    desk.answer(kind, body)
    assert desk.take(DropPipe) == [DropPipe()]
