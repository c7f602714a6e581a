"""The checker of the chaos runs: handmade histories, each wrong in one way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fastworker.testing._checker import check
from fastworker.testing._history import Event, Journal, Kind, read_history
from fastworker.testing._rules import LOST_WITH_MEMORY, Rules
from tests.chaos.chaos_tasks import EXPECTED

DURABLE = Rules(durable=True, lease=10.0, slack=1.0, functions=EXPECTED)
MEMORY = Rules(durable=False, lease=10.0, slack=1.0, functions=EXPECTED)
POISONED = "lost: its worker died 3 times while it ran alone there (a; b; c)"


class Past:
    """A history of one task ``t`` that runs once, on ``w1``, from 101 to 102.

    Words are times: ``past.add(101.5, Kind.STOP, process="w1")``.
    """

    def __init__(self, name: str = "chaos_nap", mode: str = "handle") -> None:
        self.name = name
        self.mode = mode
        self.events: list[Event] = []
        for pid, process in enumerate(("control", "w1", "w2", "c1")):
            self.add(0.0, Kind.SPAWN, process=process, pid=pid)
            self.add(1.0, Kind.LINK, process=process, pid=pid, what="open")
        self.submit(100.0)
        self.say(100.1, Kind.ACK)

    def add(self, at: float, kind: Kind, **fields: Any) -> Past:
        self.events.append(Event(kind, at, **fields))
        return self

    def submit(self, at: float, **fields: Any) -> Past:
        return self.say(at, Kind.SUBMIT, **{"digest": "d", **fields})

    def say(self, at: float, kind: Kind, **fields: Any) -> Past:
        """Something between the client ``c1`` and its task."""
        known = {"process": "c1", "pid": 3, "task": "t", "name": self.name, "mode": self.mode}
        return self.add(at, kind, **{**known, **fields})

    def run(
        self, since: float, until: float | None = None, *, attempt: int = 1, **fields: Any
    ) -> Past:
        how = fields.pop("how", "return")
        known = {
            "task": "t",
            "name": self.name,
            "run": f"r{attempt}",
            "process": "w1",
            "pid": 1,
            "epoch": 1,
            "attempt": attempt,
            "digest": "d",
        }
        self.add(since, Kind.START, **{**known, **fields})
        if until is not None:
            run = fields.get("run", f"r{attempt}")
            self.add(until, Kind.END, task="t", run=run, what=how)
        return self

    def tell(self, at: float, attempt: int = 1, **fields: Any) -> Past:
        """The client hears how it ended."""
        known = {"status": "success", "run": f"r{attempt}", "digest": "d"}
        return self.say(at, Kind.OUTCOME, **{**known, **fields})

    def settle(self, at: float = 150.0, attempt: int = 1, **fields: Any) -> Past:
        """All is quiet, and the task was looked for."""
        known = {"status": "success", "run": f"r{attempt}", "digest": "d", "process": "audit"}
        self.say(at - 1, Kind.OBSERVE, **{**known, **fields})
        return self.add(at, Kind.SETTLED)

    def broken(self, rules: Rules = DURABLE) -> list[str]:
        violations = check(sorted(self.events, key=lambda event: event.at), rules)
        for violation in violations:
            assert violation.task in ("", "t")
            assert violation.invariant in str(violation)
        return sorted({violation.invariant for violation in violations})


def sound() -> Past:
    return Past().run(101, 102).tell(102.1).settle()


def killed(process: str, at: float, what: str = "killed") -> dict[str, Any]:
    return {"at": at, "kind": Kind.EXIT, "process": process, "what": what}


def test_a_sound_history_breaks_nothing() -> None:
    assert sound().broken() == []
    assert sound().broken(MEMORY) == []
    assert check([], DURABLE) == []


def test_a_violation_names_its_invariant_its_task_and_its_events() -> None:
    past = Past().run(101, 102).tell(102.1).settle(status="unknown", run="")
    [violation] = check(sorted(past.events, key=lambda event: event.at), DURABLE)
    text = str(violation)
    assert text.startswith("S1 of task t: it was acknowledged, and is unknown now (chaos_nap)")
    assert "100.100 ack process=c1 pid=3 task=t" in text


# --- S ------------------------------------------------------------------------


def test_s1_an_acknowledged_task_that_is_gone() -> None:
    assert Past(mode="delay").settle(status="unknown", run="").broken() == ["S1"]
    assert Past().add(150, Kind.SETTLED).broken() == ["S1", "S12"]


def test_s1_arguments_that_were_changed() -> None:
    assert "S1" in Past().run(101, 102, digest="e").tell(102.1, digest="e").settle().broken()


def test_a_task_may_be_lost_only_with_a_store_in_memory_and_its_control_plane() -> None:
    def past(at: float) -> Past:
        past = Past().tell(105, status="failure", run="", error=LOST_WITH_MEMORY)
        return past.settle(status="unknown", run="").add(**killed("control", at))

    assert past(104).broken(MEMORY) == []
    assert past(104).broken(DURABLE) == ["S1", "S11"]
    assert past(99).broken(MEMORY) == ["S1", "S11"]


def test_s2_a_task_that_has_no_end() -> None:
    past = Past(mode="delay").settle(status="pending", run="")
    assert past.broken() == ["S2"]


def test_s2_two_who_are_told_of_two_ends() -> None:
    past = Past().run(101, 102).tell(102.1)
    past.add(**killed("w1", 101.5)).settle(status="failure", run="", error="lost: x")
    assert "S2" in past.broken()


def test_s2_a_start_after_the_end_was_told() -> None:
    past = Past().tell(105, status="failure", run="", error=POISONED)
    past.run(120, 121).settle(status="failure", run="", error=POISONED)
    assert "S2" in past.broken()


def test_s3_what_nobody_has_submitted() -> None:
    assert "S3" in sound().add(101, Kind.START, task="t", name="chaos_work", run="x").broken()
    assert Past().tell(102.1).settle().broken() == ["S3"]
    past = Past()
    past.events = [event for event in past.events if event.kind is not Kind.SUBMIT]
    assert past.run(101, 102).settle().broken() == ["S3", "S4"]


def test_s4_more_answers_than_questions() -> None:
    assert sound().say(100.2, Kind.ACK).broken() == ["S4"]
    assert sound().submit(100.15).say(100.2, Kind.ACK).tell(102.2).broken() != ["S4"]


def test_s4_one_id_with_two_sets_of_arguments() -> None:
    past = Past(mode="delay").submit(100.2, digest="e").say(100.3, Kind.ACK)
    past.run(101, 102).run(103, 104, attempt=2, digest="e").settle(attempt=2)
    assert "S4" in past.broken()


def test_s5_one_lease_that_is_executed_twice() -> None:
    past = Past().run(101, 102).run(103, 104, run="again").tell(104.1, run="again")
    assert "S5" in past.settle(run="again").broken()


def test_s5_an_older_lease_that_starts_after_a_newer_one() -> None:
    def past() -> Past:
        return Past().run(101, 102, attempt=2, process="w2").run(103, 104).tell(102.1, 2)

    assert "S5" in past().settle(attempt=2).broken()
    stopped = past().add(100.5, Kind.STOP, process="w1").add(102.9, Kind.CONT, process="w1")
    assert stopped.settle(attempt=2).broken() == []


@pytest.mark.parametrize(
    ("trouble", "is_excuse"),
    [
        ([(101.5, Kind.STOP, "w1"), (110, Kind.CONT, "w1")], True),
        ([(101.5, Kind.FAULT, "w1"), (110, Kind.HEAL, "w1")], True),
        ([(101.5, Kind.EXIT, "control")], True),
        ([(95, Kind.FAULT, "w1"), (96, Kind.HEAL, "w1")], True),  # it may work on
        ([(80, Kind.FAULT, "w1"), (81, Kind.HEAL, "w1")], False),
        ([(101.5, Kind.STOP, "w2"), (110, Kind.CONT, "w2")], False),
        ([(112, Kind.STOP, "w1"), (113, Kind.CONT, "w1")], False),
        ([], False),
    ],
)
def test_s6_two_executions_at_once(
    trouble: list[tuple[float, Kind, str]], is_excuse: bool
) -> None:
    past = Past("chaos_work").run(101, 114).run(111, 112, attempt=2, process="w2")
    for at, kind, process in trouble:
        past.add(at, kind, process=process, what="x")
    past.tell(112.1, 2).settle(attempt=2)
    assert past.broken() == ([] if is_excuse else ["S6", "S9"])


def test_s7_an_attempt_that_goes_on_after_its_lease() -> None:
    def past(until: float, name: str = "chaos_nap") -> Past:
        past = Past(name).run(101, until).run(103, 104, attempt=2, process="w2")
        past.add(101.5, Kind.FAULT, process="w1", what="messages")
        return past.add(160, Kind.HEAL, process="w1").tell(104.1, 2).settle(170, attempt=2)

    assert past(113).broken() == []
    assert past(115).broken() == ["S7"]
    assert past(115, "chaos_work").broken() == []  # a thread cannot be ended
    frozen = past(115).add(105, Kind.STOP, process="w1", what="x")
    assert frozen.add(114, Kind.CONT, process="w1").broken() == []


def test_s7_a_worker_that_is_cut_off_and_does_not_stop() -> None:
    def past(until: float, what: str = "partition up=0") -> Past:
        past = Past().add(101.5, Kind.FAULT, process="w1", what=what).run(101, until)
        past.add(130, Kind.HEAL, process="w1").tell(130.1)
        past.add(102, Kind.FAULT, process="w2", what="x").add(103, Kind.HEAL, process="w2")
        return past.settle()

    assert past(112).broken() == []
    assert past(113).broken() == ["S7"]
    assert past(113, "drop=0.2").broken() == []
    frozen = past(113).add(105, Kind.STOP, process="w1", what="x")
    assert frozen.add(107, Kind.CONT, process="w1").broken() == []


def test_s8_an_outcome_of_an_old_lease() -> None:
    past = Past().run(101, 104).run(103, 105, attempt=2, process="w2").tell(104.1, 1)
    past.add(101.5, Kind.FAULT, process="w1", what="partition").add(
        103.5, Kind.HEAL, process="w1"
    )
    assert past.settle(attempt=1).broken() == ["S8"]


def test_s9_another_attempt_for_no_reason() -> None:
    past = Past().run(101, 102).run(103, 104, attempt=2).tell(104.1, 2).settle(attempt=2)
    assert past.broken() == ["S9"]
    past.add(**killed("w1", 102.5))
    assert past.broken() == []


def test_s9_retries_are_a_reason_as_often_as_was_asked() -> None:
    def past(attempts: int) -> Past:
        past = Past("chaos_flaky")
        for attempt in range(1, attempts + 1):
            how = "return" if attempt == attempts else "raise"
            past.run(100 + attempt, 100.5 + attempt, attempt=attempt, how=how)
        return past.tell(101 + attempts, attempts).settle(attempt=attempts)

    assert past(3).broken() == []
    assert past(4).broken() == ["S9"]


def test_s9_a_failure_whose_report_a_fault_has_lost_uses_up_no_retry() -> None:
    past = Past("chaos_flaky")
    for attempt in range(1, 5):
        how = "return" if attempt == 4 else "raise"
        past.run(100 + attempt, 100.5 + attempt, attempt=attempt, how=how)
    past.add(102.6, Kind.STOP, process="w1", what="x")
    past.add(102.9, Kind.CONT, process="w1")
    assert past.tell(105, 4).settle(attempt=4).broken() == []


def test_s9_poison_that_is_never_given_up() -> None:
    def past(starts: int, what: str = "") -> Past:
        past = Past("chaos_poison")
        for attempt in range(starts):
            past.add(100.2 + attempt, Kind.SPAWN, process="w1", pid=10 + attempt)
            past.run(100.5 + attempt, attempt=attempt + 1)
            past.add(**killed("w1", 100.6 + attempt, what))
        past.tell(110, status="failure", run="", error=POISONED)
        return past.settle(status="failure", run="", error=POISONED)

    assert past(4).broken() == []
    assert past(5).broken() == ["S9"]
    assert past(9, "killed").broken() == []  # those were not its own


def test_s9_at_most_once() -> None:
    past = Past("chaos_once").run(101).add(**killed("w1", 101.5))
    past.run(103, 104, attempt=2, process="w2").tell(104.1, 2).settle(attempt=2)
    assert past.broken() == ["S9"]


def test_s11_a_result_that_was_changed() -> None:
    assert Past().run(101, 102).tell(102.1, digest="e").settle(digest="e").broken() == ["S11"]


@pytest.mark.parametrize(
    "error", ["ValueError: what", "lost: w1 was killed", POISONED, LOST_WITH_MEMORY]
)
def test_s11_a_failure_without_a_reason(error: str) -> None:
    past = Past().tell(102.1, status="failure", run="", error=error)
    assert past.settle(status="failure", run="", error=error).broken() == ["S11"]


def test_s11_a_cancellation_that_nobody_wanted() -> None:
    def past(mode: str) -> Past:
        past = Past(mode=mode).add(100.5, Kind.STOP, process="c1", what="x")
        past.add(120, Kind.CONT, process="c1")
        return past.tell(120.1, status="cancelled", run="").settle(status="cancelled", run="")

    assert past("delay").broken() == ["S11"]
    assert past("handle").broken() == []


def test_s12_an_await_that_ends_twice() -> None:
    assert sound().tell(102.2).broken() == ["S12"]


def test_s12_a_caller_that_waits_for_ever() -> None:
    assert Past().run(101, 102).settle().broken() == ["S12"]
    assert Past(mode="delay").run(101, 102).settle().broken() == []
    dead = Past().run(101, 102).add(**killed("c1", 101)).settle()
    assert dead.broken() == []


def test_s12_an_outcome_that_comes_late() -> None:
    def past() -> Past:
        return Past().run(101, 102).tell(105).settle()

    assert past().broken() == ["S12"]
    partition = past().add(102, Kind.FAULT, process="c1", what="partition")
    assert partition.add(104, Kind.HEAL, process="c1").broken() == []


# --- L ------------------------------------------------------------------------


def calm(since: float = 120.0) -> Past:
    past = Past(mode="delay").add(90, Kind.STORM).add(since, Kind.CALM)
    past.add(95, Kind.START, task="u", name="chaos_nap", run="u", process="w2", digest="d")
    past.add(96, Kind.END, task="u", run="u", what="return")
    past.add(94, Kind.SUBMIT, task="u", name="chaos_nap", digest="d", mode="delay")
    return past


def test_l1_work_that_waits_while_a_worker_idles() -> None:
    assert calm().run(125, 126).settle().broken() == []
    assert calm().run(127, 128).settle().broken() == ["L1"]
    gone = calm().run(127, 128).settle().add(**killed("w2", 119)).add(**killed("w1", 119))
    assert gone.broken() == []


def test_l1_what_may_have_ended_unheard_is_not_ready() -> None:
    raised = calm().run(121, 122, how="raise").settle(attempt=1)
    assert "L1" not in raised.broken()
    assert "L1" not in calm().settle(status="cancelled", run="").broken()


def test_l1_what_was_lost_with_a_store_in_memory_is_not_ready() -> None:
    past = calm().run(127, 128).settle().add(**killed("control", 110))
    assert past.broken(MEMORY) == []
    assert past.broken(DURABLE) == ["L1"]


def test_l1_a_worker_that_is_not_connected_does_not_idle() -> None:
    past = calm().run(127, 128).settle()
    for process in ("w1", "w2"):
        past.add(119, Kind.LINK, process=process, what="down")
        past.add(125.5, Kind.LINK, process=process, what="open")
    assert past.broken() == []


def test_l2_what_was_lost_waits_while_all_others_run_something_long() -> None:
    past = Past("chaos_work", mode="delay").run(101).add(**killed("w1", 101.5))
    past.run(110, 111, attempt=2, process="w2").settle(attempt=2)
    past.add(90, Kind.SUBMIT, task="u", name="chaos_nap", digest="d", mode="delay")
    past.add(91, Kind.START, task="u", name="chaos_nap", run="u", process="w2", digest="d")
    past.add(109, Kind.END, task="u", run="u", what="return")
    assert past.broken() == []


def test_l2_what_a_dead_worker_ran_starts_again_at_once() -> None:
    def past(again: float) -> Past:
        past = Past(mode="delay").run(101).add(**killed("w1", 101.5))
        return past.run(again, again + 1, attempt=2, process="w2").settle(attempt=2)

    assert past(103).broken() == []
    assert past(104).broken() == ["L2"]
    assert past(104).add(102, Kind.FAULT, process="w2", what="x").broken() == []


@pytest.mark.parametrize("silence", [(Kind.STOP, Kind.CONT), (Kind.FAULT, Kind.HEAL)])
def test_l2_what_a_silent_worker_ran_starts_again_after_its_lease(
    silence: tuple[Kind, Kind],
) -> None:
    def past(again: float) -> Past:
        past = Past("chaos_work", mode="delay").run(101, 140.1)
        past.add(101.5, silence[0], process="w1", what="partition")
        past.add(140, silence[1], process="w1")
        return past.run(again, again + 1, attempt=2, process="w2").settle(attempt=2)

    assert past(113).broken() == []
    assert past(114).broken() == ["L2"]


def test_l3_a_peer_that_does_not_come_back() -> None:
    def past(back: float) -> Past:
        past = sound().add(110, Kind.STORM).add(119, Kind.LINK, process="w1", what="down")
        past.add(120, Kind.CALM).add(back, Kind.LINK, process="w1", what="open")
        return past

    assert past(125.9).broken() == []
    assert past(126.1).broken() == ["L3"]


# --- the history itself -----------------------------------------------------------


def test_what_is_written_is_read_in_the_order_of_time(tmp_path: Path) -> None:
    journals = [Journal(tmp_path, "a"), Journal(tmp_path, "b")]
    for number in range(4):
        journals[number % 2].write(Kind.ACK, task=str(number))
    for journal in journals:
        journal.close()
    events = read_history(tmp_path)
    assert [event.task for event in events] == ["0", "1", "2", "3"]
    assert {event.kind for event in events} == {Kind.ACK}
