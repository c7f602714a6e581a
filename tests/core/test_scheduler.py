"""Conversations with the scheduler: what it gives to whom, and what becomes of it."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from fastworker._core._messages import (
    CallOptions,
    EndedAttempt,
    FunctionInfo,
    HandedBack,
    RefusalCode,
    Report,
    SubmitReply,
    TaskSpec,
    WireStatus,
)
from fastworker._core._scheduler_events import (
    AttemptsReported,
    Dispatch,
    OwnerGone,
    SubworkerJoined,
    TasksSubmitted,
)
from fastworker._core._subworkers import ESTIMATE_DECAY, TASK_OVERHEAD_SECONDS, SubworkerRecord
from tests.core.plane import ASYNC, CRITICAL, EPOCH, HIGH, LOW, NORMAL, ONCE, SHORT, WORK, Plane


@pytest.fixture
def plane() -> Plane:
    return Plane()


# --- order ------------------------------------------------------------------


def test_one_slot_works_off_a_mixed_backlog_by_priority_then_by_age(plane: Plane) -> None:
    """S14, S15."""
    plane.join("w")
    plane.submit("low", priority=LOW)
    plane.submit("n1", "n2")
    plane.submit("critical", priority=CRITICAL)
    plane.submit("n3")
    plane.submit("high", priority=HIGH)
    assert plane.run_all("w") == ["critical", "high", "n1", "n2", "n3", "low"]


def test_names_share_one_order_of_age(plane: Plane) -> None:
    plane.join("w", WORK, FunctionInfo("other", "thread"))
    for number in range(3):
        plane.submit(f"work{number}")
        plane.submit(f"other{number}", name="other")
    assert plane.run_all("w") == ["work0", "other0", "work1", "other1", "work2", "other2"]


def test_a_name_that_nobody_here_runs_delays_nobody(plane: Plane) -> None:
    plane.join("w", WORK, ASYNC)
    plane.join("x", ASYNC)
    plane.submit("a", priority=CRITICAL)
    plane.submit("b", name="fetch", priority=LOW)
    assert plane.give("x") == {"x": ["b"]}


def test_the_least_loaded_gets_the_next_task(plane: Plane) -> None:
    plane.join("w", slots=4)
    plane.join("x", slots=4)
    plane.submit("a", "b", "c")
    plane.give("w")
    plane.submit("d", "e", "f")
    given = plane.give("w", "x")
    assert given == {"w": [], "x": ["d", "e", "f"]}


def test_a_larger_subworker_counts_as_less_loaded(plane: Plane) -> None:
    plane.join("small", slots=1)
    plane.join("large", slots=3)
    plane.submit("a", "b", "c", "d")
    given = plane.give("small", "large")
    assert (len(given["small"]), len(given["large"])) == (1, 3)


def test_a_subworker_that_joins_gets_work_at_once(plane: Plane) -> None:
    plane.join("w")
    plane.submit("a", "b", "c")
    plane.give("w")
    plane.join("x")
    assert plane.give("w", "x") == {"w": [], "x": ["b"]}


def test_a_draining_subworker_gets_nothing(plane: Plane) -> None:
    plane.join("w")
    plane.capacity("w", {"thread": 4}, draining=True)
    plane.submit("a")
    assert plane.give("w") == {"w": []}


def test_a_batch_is_cut_and_the_rest_stays(plane: Plane) -> None:
    plane.join("w", slots=100)
    payload = bytes(400_000)
    specs = [TaskSpec(f"t{n}", "work", NORMAL, 1, payload, 0.0) for n in range(5)]
    plane.handle(TasksSubmitted(b"ann", specs))
    assert plane.give("w") == {"w": ["t0", "t1", "t2"]}
    assert plane.give("w") == {"w": ["t3", "t4"]}


# --- work ahead -------------------------------------------------------------


def test_only_what_is_known_to_be_short_is_sent_ahead(plane: Plane) -> None:
    plane.join("w", SHORT, WORK)
    plane.submit("a", "b", name="short")
    assert plane.give("w")["w"] == ["a"]  # not known yet: one slot, one task
    plane.end("w", "a", seconds=0.0)
    plane.submit(*(f"s{n}" for n in range(1000)), name="short")
    ahead = plane.give("w")["w"]
    assert len(ahead) == int(0.010 / TASK_OVERHEAD_SECONDS)


def test_behind_a_task_of_unknown_length_nothing_is_sent_ahead(plane: Plane) -> None:
    plane.join("w", SHORT, WORK)
    plane.known_short("w")
    plane.submit("unknown")
    plane.submit("s1", "s2", name="short")
    assert plane.give("w")["w"] == ["unknown"]


def test_to_a_lane_that_handed_work_back_nothing_is_sent_ahead(plane: Plane) -> None:
    plane.join("w", SHORT)
    plane.known_short("w")
    plane.submit("s1", "s2", "s3", name="short")
    assert plane.give("w")["w"] == ["s1", "s2", "s3"]
    plane.hand_back("w", "s2", "s3")
    assert plane.give("w")["w"] == []
    plane.end("w", "s1", seconds=0.0)
    assert plane.give("w")["w"] == ["s2", "s3"]


def test_short_tasks_without_end_keep_no_urgent_task_of_unknown_length_out(
    plane: Plane,
) -> None:
    """S14: sent ahead again and again, they would never let the lane run empty."""
    plane.join("w", SHORT, WORK)
    plane.known_short("w", seconds=0.0009)
    plane.submit(*(f"s{n}" for n in range(100)), name="short", priority=LOW)
    running = plane.give("w")["w"]
    assert len(running) == 10
    plane.submit("urgent", priority=CRITICAL)
    for _ in range(10):
        plane.end("w", running.pop(0), seconds=0.0009)
        running += plane.give("w")["w"]
    assert running == ["urgent"]


def test_what_may_run_only_once_is_never_sent_ahead(plane: Plane) -> None:
    plane.join("w", ONCE)
    plane.known_short("w", "pay")
    plane.submit("a", "b", name="pay")
    assert plane.give("w")["w"] == ["a"]


def test_an_estimate_rises_at_once_and_falls_slowly() -> None:
    worker = SubworkerRecord(b"k", "w", "", [SHORT], 1)
    worker.measure("short", 0.001)
    worker.measure("short", 0.5)
    assert worker.estimates["short"] == 0.5 + TASK_OVERHEAD_SECONDS
    worker.measure("short", 0.001)
    assert worker.estimates["short"] == pytest.approx(0.5 - 0.499 * ESTIMATE_DECAY, rel=1e-3)
    for _ in range(200):
        worker.measure("short", 0.001)
    assert worker.estimates["short"] == pytest.approx(0.001, rel=0.1)


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), -1e9, 1e300])
def test_a_duration_that_is_none_harms_nobody(plane: Plane, seconds: float) -> None:
    plane.join("w", SHORT)
    plane.submit("a", name="short")
    plane.give("w")
    plane.end("w", "a", seconds=seconds)
    plane.submit(*(f"s{n}" for n in range(2000)), name="short")
    assert len(plane.give("w")["w"]) <= 667
    assert plane.scheduler._workers[b"w"].estimates["short"] <= 1.0


# --- death ------------------------------------------------------------------


def test_a_task_that_kills_its_worker_three_times_alone_is_a_failure(plane: Plane) -> None:
    """S9: the first time it was beside others, and that does not count."""
    plane.join("w0", slots=2)
    plane.submit("killer", "innocent")
    plane.give("w0")
    plane.lose("w0")
    for number in range(1, 4):
        plane.join(f"w{number}", slots=2)
        assert plane.give(f"w{number}") == {f"w{number}": ["killer"]}
        plane.lose(f"w{number}")
    outcome = plane.scheduler.describe("killer", now=plane.now)
    assert outcome.status is WireStatus.FAILURE
    assert "died 3 times while it ran alone" in outcome.error
    assert all(f"w{number} lost its connection" in outcome.error for number in (1, 2, 3))
    assert (outcome.attempts, outcome.worker_id) == (3, "w3")


def test_its_innocent_sibling_runs_alone_once_and_is_done(plane: Plane) -> None:
    plane.join("w0", slots=2)
    plane.submit("killer", "innocent")
    plane.give("w0")
    plane.lose("w0")
    plane.join("w1", slots=2)
    plane.join("w2", slots=2)
    assert plane.give("w1", "w2") == {"w1": ["killer"], "w2": ["innocent"]}
    plane.end("w2", "innocent")
    assert plane.status("innocent") is WireStatus.SUCCESS
    assert plane.scheduler.describe("innocent", now=plane.now).attempts == 1


def test_while_a_suspect_runs_its_worker_gets_nothing_else(plane: Plane) -> None:
    plane.join("w0", slots=2)
    plane.submit("suspect")
    plane.give("w0")
    plane.lose("w0")
    plane.join("w1", slots=2)
    plane.submit("other")
    assert plane.give("w1") == {"w1": ["suspect"]}
    assert plane.give("w1") == {"w1": []}
    plane.end("w1", "suspect")
    assert plane.give("w1") == {"w1": ["other"]}


def test_a_worker_is_kept_free_for_a_suspect_until_it_is_idle(plane: Plane) -> None:
    plane.join("w0")
    plane.join("w1", slots=2)
    plane.submit("suspect")
    plane.give("w0")
    plane.submit("running")
    plane.give("w1")
    plane.lose("w0")
    plane.submit("later")
    assert plane.give("w1") == {"w1": []}
    plane.end("w1", "running")
    assert plane.give("w1") == {"w1": ["suspect"]}


def test_a_worker_that_is_kept_free_takes_what_its_own_tasks_wait_for(plane: Plane) -> None:
    """Else they would never end, and the suspect never run: found by simulated seed 5092."""
    plane.join("w0")
    plane.join("w1", slots=2)
    plane.submit("suspect")
    plane.give("w0")
    plane.submit("family")
    plane.give("w1")
    plane.lose("w0")
    plane.submit("later")
    assert plane.give("w1") == {"w1": []}
    plane.submit("child", options=CallOptions(parent="family"))
    assert plane.give("w1") == {"w1": ["child"]}
    plane.end("w1", "child")
    plane.end("w1", "family")
    assert plane.give("w1") == {"w1": ["suspect"]}


def test_a_suspect_that_waits_for_its_own_tasks_has_them_beside_it(plane: Plane) -> None:
    plane.join("w0", slots=2)
    plane.submit("suspect")
    plane.give("w0")
    plane.lose("w0")
    plane.join("w1", slots=2)
    assert plane.give("w1") == {"w1": ["suspect"]}
    plane.submit("other")
    plane.submit("child", options=CallOptions(parent="suspect"))
    assert plane.give("w1") == {"w1": ["child"]}
    plane.end("w1", "child")
    assert plane.give("w1") == {"w1": []}  # it still has the worker to itself
    plane.end("w1", "suspect")
    assert plane.give("w1") == {"w1": ["other"]}


def test_a_suspect_runs_beside_whoever_waits_for_it_where_no_other_place_is(
    plane: Plane,
) -> None:
    plane.join("w0", slots=2)
    plane.join("w1", slots=2)
    plane.submit("family")
    plane.give("w1")
    plane.submit("child", options=CallOptions(parent="family"))
    plane.give("w0")
    plane.lose("w0")
    assert plane.give("w1") == {"w1": ["child"]}
    plane.end("w1", "child")
    plane.end("w1", "family")
    assert plane.status("family") is WireStatus.SUCCESS


def test_a_suspect_waits_for_tasks_of_higher_priority(plane: Plane) -> None:
    plane.join("w0")
    plane.submit("suspect", priority=LOW)
    plane.give("w0")
    plane.lose("w0")
    plane.join("w1")
    plane.submit("urgent", priority=CRITICAL)
    assert plane.run_all("w1") == ["urgent", "suspect"]


def test_nothing_is_kept_free_for_a_suspect_that_cannot_run_there(plane: Plane) -> None:
    plane.join("w0")
    plane.join("w1", WORK, ASYNC)
    plane.submit("suspect", "running")
    plane.give("w0")
    plane.give("w1")
    plane.lose("w0")
    plane.give("w1")  # from here on w1 is kept free
    plane.capacity("w1", {"thread": 0, "loop": 1})
    plane.submit("fetching", name="fetch")
    assert plane.give("w1") == {"w1": ["fetching"]}


def test_a_killer_among_tasks_sent_ahead_is_found(plane: Plane) -> None:
    """S9: the first in the ledger have ended long ago, and cannot have been it."""
    plane.join("w0", SHORT)
    plane.known_short("w0")
    plane.submit(*(f"s{n}" for n in range(100)), name="short")
    plane.give("w0")
    deaths, number = 0, 0
    while plane.status("s70") is not WireStatus.FAILURE:
        key = f"w{number}"
        if any(
            record.state.value == "ready"
            for record in plane.scheduler.open_tasks.by_id.values()
        ):
            plane.give(key)
        held = [
            task_id
            for task_id, record in plane.scheduler.open_tasks.by_id.items()
            if record.worker is not None and record.worker.key == key.encode()
        ]
        if "s70" in held:
            deaths += 1
            plane.lose(key)
            number += 1
            plane.join(f"w{number}", SHORT)
        else:
            plane.end(key, *held, seconds=0.0)
    assert deaths == 5  # ahead, in the slot, and three times alone
    statistics = plane.scheduler.statistics()
    assert (statistics.failed, sum(statistics.ready), statistics.leased) == (1, 29, 0)


def test_what_a_lost_worker_had_not_begun_goes_back_uncounted(plane: Plane) -> None:
    plane.join("w", SHORT)
    plane.known_short("w")
    plane.submit("s1", "s2", "s3", name="short")
    plane.give("w")
    plane.lose("w")
    plane.join("x", SHORT, slots=3)
    assert plane.give("x") == {"x": ["s1"]}  # the suspect, alone
    plane.end("x", "s1")
    assert plane.give("x") == {"x": ["s2", "s3"]}
    plane.end("x", "s2", "s3")
    for task_id in ("s1", "s2", "s3"):
        assert plane.scheduler.describe(task_id, now=plane.now).attempts == 1


def test_a_goodbye_makes_nobody_a_suspect(plane: Plane) -> None:
    plane.join("w")
    plane.submit("a", "b")
    plane.give("w")
    plane.lose("w", is_clean=True)
    plane.join("x", slots=2)
    assert plane.give("x") == {"x": ["a", "b"]}


def test_a_client_hears_that_a_started_task_waits_again(plane: Plane) -> None:
    plane.join("w")
    plane.submit("a")
    plane.give("w")
    plane.start("w", "a")
    plane.lose("w")
    assert [event.status for event in plane.news] == [WireStatus.STARTED, WireStatus.PENDING]


@pytest.mark.parametrize("is_clean", [True, False])
@pytest.mark.parametrize("is_started", [True, False])
def test_at_most_once_is_a_failure_when_the_worker_is_lost(
    plane: Plane, is_clean: bool, is_started: bool
) -> None:
    plane.join("w", ONCE)
    plane.submit("a", name="pay")
    plane.give("w")
    if is_started:
        plane.start("w", "a")
    plane.capacity("w", {"thread": 0})
    plane.lose("w", is_clean=is_clean)
    outcome = plane.scheduler.describe("a", now=plane.now)
    assert outcome.status is WireStatus.FAILURE
    assert "w lost its connection; it is not run again" in outcome.error


def test_at_most_once_holds_for_every_task_that_was_leased(plane: Plane) -> None:
    """Also for those that the shrunken capacity would not count as begun."""
    plane.join("w", ONCE, slots=3)
    plane.submit("a", "b", "c", name="pay")
    plane.give("w")
    plane.capacity("w", {"thread": 1})
    plane.lose("w")
    assert [plane.status(i) for i in ("a", "b", "c")] == [WireStatus.FAILURE] * 3


# --- unknown names ----------------------------------------------------------


def test_a_name_unknown_at_start_up_is_held_then_refused_with_near_matches(
    plane: Plane,
) -> None:
    assert plane.submit("a", name="wrok").held == [0]
    plane.join("w")
    plane.wait(4.9)
    assert plane.status("a") is WireStatus.HELD
    plane.wait(0.1)
    assert plane.news[-1].status is WireStatus.REFUSED
    assert plane.news[-1].error == "unknown task 'wrok'; did you mean 'work'?"
    assert plane.status("a") is WireStatus.UNKNOWN


def test_a_held_task_is_accepted_when_a_worker_registers_its_name(plane: Plane) -> None:
    plane.submit("a", "b")
    plane.join("w", slots=2)
    assert [event.status for event in plane.news] == [WireStatus.PENDING] * 2
    assert plane.give("w") == {"w": ["a", "b"]}


def test_each_held_task_waits_its_own_time(plane: Plane) -> None:
    plane.submit("a", name="ghost")
    plane.wait(3.0)
    plane.submit("b", name="ghost")
    plane.wait(2.0)
    assert [event.task_id for event in plane.news] == ["a"]
    plane.wait(3.0)
    assert [event.task_id for event in plane.news] == ["a", "b"]


def test_later_an_unknown_name_is_refused_at_once(plane: Plane) -> None:
    plane.join("w")
    plane.wait(5.0)
    refusal = plane.submit("a", name="nothing-like-it").refusals[0]
    assert refusal.code is RefusalCode.UNKNOWN_TASK
    assert refusal.message == "unknown task 'nothing-like-it'; the workers know work"


def test_a_known_name_whose_workers_are_gone_waits(plane: Plane) -> None:
    plane.join("w")
    plane.lose("w")
    plane.wait(60.0)
    assert plane.submit("a") == SubmitReply()
    assert plane.status("a") is WireStatus.PENDING


@pytest.mark.parametrize("name", ["\x00" * 256, "wor\x00" * 64])
def test_names_from_outside_make_no_message_that_the_wire_refuses(
    plane: Plane, name: str
) -> None:
    """S21: a peer that cannot read an answer would ask for it for ever."""
    others = [FunctionInfo(chr(n) * 256, "thread") for n in range(1, 20)]
    others += [FunctionInfo(name[:-1] + end, "thread") for end in "!?."]
    plane.join("w" * 256, *others)
    plane.handle(SubworkerJoined(b"other", "w" * 256, "", others))
    plane.wait(6.0)
    refusal = plane.submit("a", name=name).refusals[0]
    assert len(refusal.message) <= 4096
    labels = [status.label for status in plane.scheduler.statistics().subworkers]
    assert len(set(labels)) == 2
    assert all(len(label) <= 256 for label in labels)


# --- submitting twice, cancelling -------------------------------------------


@pytest.mark.parametrize("moment", ["ready", "leased", "ended"])
def test_a_submit_may_be_repeated_at_any_time(plane: Plane, moment: str) -> None:
    """S4."""
    plane.join("w")
    plane.submit("a")
    if moment != "ready":
        plane.give("w")
    if moment == "ended":
        plane.end("w", "a")
    assert plane.submit("a") == SubmitReply()
    assert plane.submit("a", priority=LOW).refusals[0].code is RefusalCode.CONFLICT
    assert plane.scheduler.statistics().submitted == 1


def test_a_cancel_before_the_lease_is_final_at_once(plane: Plane) -> None:
    """S10."""
    plane.submit("held", name="ghost")
    plane.join("w")
    plane.submit("ready")
    assert plane.cancel("held", "ready") == [WireStatus.CANCELLED] * 2
    assert plane.give("w") == {"w": []}
    plane.wait(10.0)
    assert plane.status("held") is WireStatus.CANCELLED


@pytest.mark.parametrize("is_started", [True, False])
@pytest.mark.parametrize(
    ("reported", "final"),
    [
        (WireStatus.SUCCESS, WireStatus.SUCCESS),
        (WireStatus.FAILURE, WireStatus.FAILURE),
        (WireStatus.CANCELLED, WireStatus.CANCELLED),
    ],
)
def test_a_cancel_after_the_lease_asks_the_worker_and_takes_its_word(
    plane: Plane, is_started: bool, reported: WireStatus, final: WireStatus
) -> None:
    plane.join("w")
    plane.submit("a")
    plane.give("w")
    if is_started:
        plane.start("w", "a")
    plane.cancel("a")
    plane.cancel("a")
    assert plane.stops("w") == ["a"]
    assert plane.stops("w") == []
    plane.end("w", "a", outcome=reported)
    assert plane.status("a") is final


def test_a_cancelled_task_that_comes_back_unstarted_is_cancelled(plane: Plane) -> None:
    plane.join("w")
    plane.submit("a")
    plane.give("w")
    plane.cancel("a")
    plane.hand_back("w", "a")
    assert plane.status("a") is WireStatus.CANCELLED


def test_a_cancelled_task_whose_worker_dies_is_not_run_again(plane: Plane) -> None:
    plane.join("w")
    plane.submit("a")
    plane.give("w")
    plane.cancel("a")
    plane.lose("w")
    assert plane.status("a") is WireStatus.CANCELLED


def test_a_cancelled_suspect_frees_the_worker_that_was_kept_for_it(plane: Plane) -> None:
    plane.join("w0")
    plane.join("w1", slots=2)
    plane.submit("suspect")
    plane.give("w0")
    plane.submit("running")
    plane.give("w1")
    plane.lose("w0")
    plane.submit("later")
    assert plane.give("w1") == {"w1": []}
    plane.cancel("suspect")
    assert plane.give("w1") == {"w1": ["later"]}


def test_cancelling_an_ended_task_changes_nothing(plane: Plane) -> None:
    plane.join("w")
    plane.submit("a")
    plane.give("w")
    plane.end("w", "a")
    assert plane.cancel("a", "never heard of") == [WireStatus.SUCCESS, WireStatus.UNKNOWN]


def test_a_task_that_nobody_cancelled_and_ends_so_is_a_failure(plane: Plane) -> None:
    plane.join("w")
    plane.submit("a")
    plane.give("w")
    plane.end("w", "a", outcome=WireStatus.CANCELLED)
    assert plane.status("a") is WireStatus.FAILURE


def test_a_client_that_is_gone_takes_its_attached_tasks_along(plane: Plane) -> None:
    plane.join("w")
    plane.submit("running", "waiting", attached=True)
    plane.submit("detached")
    plane.submit("of-bob", owner=b"bob", attached=True)
    plane.give("w")
    plane.handle(OwnerGone(b"ann"))
    assert plane.stops("w") == ["running"]
    assert plane.status("waiting") is WireStatus.CANCELLED
    plane.end("w", "running", outcome=WireStatus.CANCELLED)
    assert plane.run_all("w") == ["detached", "of-bob"]


# --- cost -------------------------------------------------------------------


def count_steps(action: Callable[[], object]) -> int:
    """How many lines and calls of Python an action takes."""
    steps = 0

    def trace(*_: object) -> object:
        nonlocal steps
        steps += 1
        return trace

    before = sys.gettrace()
    sys.settrace(trace)  # type: ignore[arg-type]
    try:
        action()
    finally:
        sys.settrace(before)
    return steps


def test_a_hundred_thousand_tasks_that_nobody_can_run_cost_nothing() -> None:
    def round_trip(backlog: int) -> int:
        plane = Plane()
        scheduler = plane.scheduler
        plane.join("gone", FunctionInfo("orphan", "thread"))
        plane.lose("gone")
        plane.join("w")
        specs = [TaskSpec(f"o{n}", "orphan", CRITICAL, 1, b"", 0.0) for n in range(backlog)]
        scheduler.handle(TasksSubmitted(b"ann", specs), now=plane.now)
        plane.submit("a") if backlog < 10 else scheduler.handle(
            TasksSubmitted(b"ann", [TaskSpec("a", "work", LOW, 1, b"", 0.0)]), now=plane.now
        )

        def work() -> None:
            scheduler.handle(Dispatch([b"w"]), now=plane.now)
            ended = EndedAttempt("a", 1, WireStatus.SUCCESS, 0.0, 0.0, 0.0)
            report = AttemptsReported(b"w", Report(EPOCH, ended=[ended]))
            scheduler.handle(report, now=plane.now)
            scheduler.statistics()

        steps = count_steps(work)
        assert scheduler.statistics().succeeded == 1
        return steps

    assert round_trip(100_000) == round_trip(1)


def test_thousands_of_tasks_come_back_in_steps_that_do_not_grow_with_each() -> None:
    """They stand in the middle of the queue, and in no particular order."""

    def hand_back(count: int) -> float:
        plane = Plane()
        scheduler = plane.scheduler
        plane.join("w", slots=count)
        specs = [TaskSpec(f"t{n}", "work", NORMAL, 1, b"", 0.0) for n in range(2 * count)]
        scheduler.handle(TasksSubmitted(b"ann", specs), now=plane.now)
        scheduler.handle(Dispatch([b"w"]), now=plane.now)
        back = [HandedBack(f"t{n}", 1) for n in range(0, count, 2)]
        back += [HandedBack(f"t{n}", 1) for n in range(1, count, 2)]
        event = AttemptsReported(b"w", Report(EPOCH, handed_back=back))
        return count_steps(lambda: scheduler.handle(event, now=plane.now)) / count

    assert hand_back(2000) < 1.2 * hand_back(100)
