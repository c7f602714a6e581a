"""The rules that only simulated runs have events for: handmade histories, right and wrong."""

from __future__ import annotations

from typing import Any

import pytest

from fastworker.testing._checker import check
from fastworker.testing._history import Event, Kind
from fastworker.testing._rules import Expected, Rules
from fastworker.testing._story import READER_CUT_OFF

RULES = Rules(
    durable=True,
    lease=10.0,
    slack=1.0,
    has_store=True,
    slots=1,
    functions={
        "job": Expected(lane="thread", retry_delay=1.0),
        "once": Expected(lane="thread", runs_once=True),
        "slow": Expected(lane="trio"),
        "flow": Expected(lane="trio", is_stream=True),
    },
)


class Past:
    """A history of a control plane, a worker and a client, all well and connected."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        for pid, process in enumerate(("control", "w1", "c1"), 1):
            self.add(0.0, Kind.SPAWN, process=process, pid=pid)
            self.add(0.5, Kind.LINK, process=process, pid=pid, what="open")

    def add(self, at: float, kind: Kind, **fields: Any) -> Past:
        self.events.append(Event(kind, at, **fields))
        return self

    def keep(self, at: float, task: str, name: str = "job", priority: int = 2) -> Past:
        """A client submits a task, and it becomes durable."""
        about = {"task": task, "name": name}
        self.add(at, Kind.SUBMIT, process="c1", pid=3, mode="delay", digest="d", **about)
        self.add(at, Kind.KEPT, process="control", pid=1, priority=priority, **about)
        return self.add(at, Kind.ACK, process="c1", pid=3, mode="delay", **about)

    def assign(self, at: float, task: str, attempt: int = 1, priority: int = 2) -> Past:
        """It is leased to the worker, and that is durable."""
        lease: dict[str, Any] = {"task": task, "epoch": 1, "attempt": attempt, "pid": 1}
        self.add(at, Kind.ASSIGN, process="control", what="w1", priority=priority, **lease)
        return self.add(at, Kind.LEASED, process="control", **lease)

    def run(
        self, since: float, until: float, task: str, attempt: int = 1, **fields: Any
    ) -> Past:
        """The worker runs an attempt; ``what`` is how it ended."""
        what = fields.pop("what", "return")
        run = f"{task}/{attempt}"
        known = {"name": "job", "process": "w1", "pid": 2, "digest": "d", **fields}
        self.add(since, Kind.START, task=task, run=run, epoch=1, attempt=attempt, **known)
        return self.add(until, Kind.END, task=task, run=run, what=what, process="w1", pid=2)

    def end(self, at: float, task: str, attempt: int = 1, status: str = "success") -> Past:
        """Its end becomes durable."""
        return self.add(
            at, Kind.TERMINAL, task=task, epoch=1, attempt=attempt, status=status, pid=1
        )

    def call_back(self, at: float, task: str, **fields: Any) -> Past:
        known = {"run": "id", "status": "success", "attempt": 1}
        return self.add(at, Kind.CALLBACK, task=task, process="listener", **{**known, **fields})

    def broken(self, invariant: str, rules: Rules = RULES) -> list[str]:
        """What is wrong, of one invariant."""
        events = sorted(self.events, key=lambda event: event.at)
        return [v.message for v in check(events, rules) if v.invariant == invariant]


# --- S14, S15: the order in which tasks are handed out ---


def a_queue(urgent_at: float = 2.0, **fields: Any) -> Past:
    """A normal task is handed out at 5 while another one waits."""
    return Past().keep(1.0, "n").keep(urgent_at, "u", **fields).assign(5.0, "n")


def test_s14_a_task_that_goes_before_a_more_urgent_one() -> None:
    assert a_queue(priority=0).broken("S14") == ["it was handed out before u (job)"]


@pytest.mark.parametrize(
    "past",
    [
        a_queue(priority=3),
        a_queue(urgent_at=4.96, priority=0),
        a_queue(priority=0, name="slow"),
        a_queue(priority=0, name="once"),
        a_queue(priority=0).add(3.0, Kind.CANCEL, task="u", process="c1"),
        a_queue(priority=0).end(3.0, "u", status="cancelled"),
        a_queue(priority=0).assign(4.0, "u", priority=0).run(4.0, 4.5, "u"),
        a_queue(priority=0).add(3.0, Kind.EXIT, process="control", pid=1),
        a_queue(urgent_at=4.0, priority=0).keep(2.5, "x").assign(3.0, "x").run(3.0, 9.0, "x"),
    ],
    ids=[
        "less urgent",
        "hardly there",
        "another lane",
        "waits for the disk",
        "cancelled",
        "ended",
        "handed out before",
        "after a restart",
        "leased ahead",
    ],
)
def test_s14_reasons_why_a_less_urgent_task_may_go_first(past: Past) -> None:
    assert past.broken("S14") == []


def test_s15_a_task_that_goes_before_an_older_one() -> None:
    past = Past().keep(1.0, "old").keep(2.0, "young").assign(5.0, "young")
    assert past.broken("S15") == ["it was handed out before old (job)"]
    past = Past().keep(1.0, "old").keep(2.0, "young").assign(5.0, "old")
    assert past.broken("S15") == []


# --- S17: retries ---


def a_failure(again_at: float) -> Past:
    past = Past().keep(1.0, "t").assign(2.0, "t").run(2.0, 3.0, "t", what="raise")
    return past.assign(again_at, "t", 2).run(again_at, again_at + 1, "t", 2)


def test_s17_a_retry_that_does_not_wait() -> None:
    assert a_failure(3.5).broken("S17") == ["it was tried again after 0.50 s (job)"]
    assert a_failure(4.0).broken("S17") == []


def test_s17_what_a_lost_worker_ran_need_not_wait() -> None:
    past = a_failure(3.5).add(2.5, Kind.FAULT, process="w1", what="unplug", run="1")
    assert past.broken("S17") == []


# --- S19, S5: what becomes durable ---


def test_s19_states_that_do_not_follow_each_other() -> None:
    kept = Past().keep(1.0, "t")
    assert kept.assign(2.0, "t").end(3.0, "t").broken("S19") == []
    assert kept.assign(4.0, "t", 2).broken("S19") == ["something came after its end (job)"]
    assert Past().assign(2.0, "t").broken("S19") == ["it was never kept ()"]
    assert Past().keep(1.0, "t").keep(2.0, "t").broken("S19") == ["it was kept twice (job)"]


def test_s5_a_fence_that_does_not_grow() -> None:
    past = Past().keep(1.0, "t").assign(2.0, "t", 2).assign(3.0, "t", 1)
    assert past.broken("S5") == ["its fence has not grown (job)"]


# --- S8, S10: what was decided when ---


def test_s8_a_lease_that_died_with_its_control_plane_is_not_newer() -> None:
    past = Past().keep(1.0, "t").assign(2.0, "t").run(2.0, 9.0, "t").run(5.0, 6.0, "t", 2)
    past.add(10.0, Kind.OUTCOME, task="t", status="success", run="t/1", digest="d")
    assert past.broken("S8") == ["the outcome is of an old lease (job)"]
    past.add(7.0, Kind.EXIT, process="control", pid=1)
    assert past.broken("S8") == []
    past.assign(5.0, "t", 2)
    assert past.broken("S8") == ["the outcome is of an old lease (job)"]


def test_s10_who_is_given_up_after_its_grace_has_not_completed() -> None:
    def past(ended_at: float, error: str) -> Past:
        past = Past().keep(1.0, "t").assign(2.0, "t").run(2.0, ended_at, "t")
        past.add(3.0, Kind.CANCEL, task="t", process="c1")
        end = {"task": "t", "epoch": 1, "attempt": 1, "status": "cancelled", "error": error}
        return past.add(9.0, Kind.TERMINAL, **end)

    assert past(8.5, "abandoned: it may go on").broken("S10") == []
    for wrong in (past(7.5, "abandoned: it may go on"), past(8.5, "cancelled")):
        assert wrong.broken("S10") == ["it had completed, and was cancelled (job)"]


# --- S11: readers of streams ---


def test_s11_a_reader_that_is_cut_off_for_no_reason() -> None:
    def past(name: str) -> Past:
        cut_off = {"status": "failure", "error": READER_CUT_OFF, "process": "c1"}
        return Past().keep(1.0, "t", name).add(20.0, Kind.OUTCOME, task="t", **cut_off)

    assert past("flow").broken("S11") == ["its reader was cut off for no reason (flow)"]
    lost = {"process": "control", "pid": 1}
    assert past("flow").add(19.0, Kind.EXIT, **lost).broken("S11") == []
    assert past("job").add(19.0, Kind.EXIT, **lost).broken("S11") != []


# --- L5: workers that are told to end ---


def test_l5_what_starts_on_a_worker_that_was_told_to_end() -> None:
    past = Past().keep(1.0, "t").add(2.0, Kind.TERM, process="w1", pid=2)
    assert past.run(6.0, 7.0, "t").broken("L5") == [
        "it was started on a worker that ends (job)"
    ]


def test_l5_a_worker_that_does_not_end() -> None:
    past = Past().add(2.0, Kind.TERM, process="w1", pid=2).add(40.0, Kind.SETTLED)
    assert past.broken("L5") == ["w1 does not end"]
    assert past.add(34.0, Kind.EXIT, process="w1", pid=2, what="ended").broken("L5") == []


# --- L6: callbacks ---


def told(**fields: Any) -> Past:
    past = Past().keep(1.0, "t")
    past.add(1.0, Kind.SUBMIT, task="t", name="job", process="c1", pid=3, what="callback")
    past.assign(2.0, "t").run(2.0, 3.0, "t").end(4.0, "t")
    return past.add(60.0, Kind.SETTLED, **fields)


def test_l6_a_callback_that_never_comes() -> None:
    assert told().broken("L6") == ["nobody was called back (job)"]
    assert told().call_back(5.0, "t").broken("L6") == []


def test_l6_what_the_network_has_dropped_no_sender_knows_of() -> None:
    storm = told().add(1.0, Kind.FAULT, process="control", what="messages")
    assert storm.broken("L6") == []


def test_l6_callbacks_that_tell_something_else() -> None:
    early = told().call_back(3.5, "t")
    assert early.broken("L6") == ["a callback came before its end was kept (job)"]
    wrong = told().call_back(5.0, "t", status="failure")
    assert wrong.broken("L6") == ["its callback tells of another end (job)"]
    twice = told().call_back(5.0, "t").call_back(6.0, "t", attempt=2)
    assert twice.broken("L6") == []
    assert twice.call_back(7.0, "t", run="other").broken("L6") == [
        "its callback has two ids (job)"
    ]


# --- B2: what is left ---


def test_b2_what_is_left_when_all_is_quiet() -> None:
    past = Past().add(60.0, Kind.REST, process="control", error="1 leased")
    assert past.broken("B2") == ["all is quiet, and control has 1 leased"]
