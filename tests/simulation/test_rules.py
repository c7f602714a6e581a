"""The rules that only simulations are judged by: handmade histories, each wrong in one way."""

from __future__ import annotations

from typing import Any

from fastworker.testing._checker import check
from fastworker.testing._history import Event, Kind
from fastworker.testing._rules import Expected, Rules

FUNCTIONS = {
    "work": Expected(lane="thread"),
    "nap": Expected(lane="trio", is_endable=True),
    "once": Expected(lane="thread", runs_once=True),
    "flaky": Expected(lane="thread", retries=2, retry_delay=2.0),
    "numbers": Expected(lane="trio", is_stream=True),
}
RULES = Rules(
    durable=True, lease=10.0, slack=1.0, functions=FUNCTIONS, has_store=True, max_queued=3
)
MEMORY = Rules(durable=False, lease=10.0, slack=1.0, functions=FUNCTIONS, has_store=True)


class Past:
    """A history in which nothing goes wrong by itself; one second for each thing."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.at = 0.0
        for pid, process in enumerate(("control", "w1", "w2", "l1", "c1"), 1):
            self.add(Kind.SPAWN, process=process, pid=pid)
            self.add(Kind.LINK, process=process, pid=pid, what="open")

    def add(self, kind: Kind, *, after: float = 0.001, **fields: Any) -> Past:
        self.at += after
        self.events.append(Event(kind, self.at, **fields))
        return self

    def control(self, kind: Kind, task: str, **fields: Any) -> Past:
        return self.add(kind, process="control", pid=1, task=task, **fields)

    def submit(self, task: str, name: str = "work", **fields: Any) -> Past:
        known = {"process": "c1", "pid": 5, "task": task, "name": name, "mode": "delay"}
        self.add(Kind.SUBMIT, digest="d", **{**known, **fields})
        self.control(Kind.KEPT, task)
        fields = {name: fields[name] for name in ("process", "pid", "mode") if name in fields}
        return self.add(Kind.ACK, **{**known, **fields})

    def ready(self, task: str, name: str = "work", **fields: Any) -> Past:
        known = {"name": name, "what": "normal", "order": int(task[1:])}
        return self.control(Kind.READY, task, **{**known, **fields})

    def give(self, task: str, worker: str = "w1", attempt: int = 1, **fields: Any) -> Past:
        fields = {"epoch": 1, "attempt": attempt, "what": worker, **fields}
        return self.control(Kind.GIVEN, task, **fields)

    def run(
        self,
        task: str,
        name: str = "work",
        attempt: int = 1,
        how: str = "return",
        error: str = "",
        **where: Any,
    ) -> Past:
        run = f"{task}/{attempt}"
        fields = {"process": "w1", "pid": 2, **where, "task": task, "run": run}
        self.add(
            Kind.START, **fields, name=name, epoch=1, attempt=attempt, digest="d", after=0.5
        )
        return self.add(Kind.END, **fields, what=how, error=error, value="v", after=0.5)

    def end(self, task: str, attempt: int = 1, status: str = "success", **fields: Any) -> Past:
        fields = {"epoch": 1, "attempt": attempt, "status": status, **fields}
        if status == "success":
            fields = {"run": f"{task}/{attempt}", "value": "v", **fields}
        self.control(Kind.TERMINAL, task, **fields)
        seen = {
            key: fields[key] for key in ("status", "run", "value", "error") if key in fields
        }
        return self.add(Kind.OBSERVE, process="program", pid=9, task=task, **seen)

    def whole(self, task: str, name: str = "work", **fields: Any) -> Past:
        """A task that nothing is wrong with."""
        self.submit(task, name, **fields).ready(task, name).give(task)
        return self.run(task, name).end(task)

    def broken(self, rules: Rules = RULES) -> list[str]:
        violations = check([*self.events, Event(Kind.SETTLED, self.at)], rules)
        for violation in violations:
            assert violation.invariant in str(violation)
            assert violation.events
        return sorted({violation.invariant for violation in violations})


def test_a_sound_history_breaks_nothing() -> None:
    assert Past().whole("t1").whole("t2").broken() == []


# --- S5, S14, S15: the order of leases ---


def two(first: dict[str, Any], second: dict[str, Any], **names: str) -> Past:
    """The second is leased although the first waits."""
    past = Past()
    one, other = names.get("one", "work"), names.get("other", "work")
    past.submit("t1", one).submit("t2", other)
    past.ready("t1", one, **first).ready("t2", other, **second)
    past.give("t2").run("t2", other).end("t2")
    return past.give("t1").run("t1", one).end("t1")


def test_s14_a_task_that_is_less_urgent_goes_first() -> None:
    assert two({"what": "high"}, {"what": "normal"}).broken() == ["S14"]
    assert two({"what": "normal"}, {"what": "high"}).broken() == []


def test_s14_what_runs_in_another_lane_may_go_first() -> None:
    assert two({"what": "high"}, {"what": "low"}, other="nap").broken() == []


def test_s14_what_runs_alone_or_once_waits_for_more_than_its_turn() -> None:
    assert two({"what": "high", "mode": "alone"}, {"what": "low"}).broken() == []
    assert two({"what": "high"}, {"what": "low"}, one="once").broken() == []


def test_s14_who_is_waited_for_may_go_first_where_nothing_else_may() -> None:
    past = Past().submit("t1").submit("t2").ready("t1", what="high").ready("t2")
    past.give("t2", mode="kept").run("t2").end("t2").give("t1").run("t1").end("t1")
    assert past.broken() == []


def test_s15_a_task_that_came_later_goes_first() -> None:
    assert two({}, {}).broken() == ["S15"]


def test_s15_who_was_taken_out_is_not_overtaken() -> None:
    past = Past().submit("t1").submit("t2").ready("t1").ready("t2")
    past.add(Kind.CANCEL, process="c1", pid=5, task="t1").control(Kind.UNREADY, "t1")
    past.give("t2").run("t2").end("t2").end("t1", status="cancelled")
    assert past.broken() == []


def test_s15_what_is_given_at_once_has_no_order() -> None:
    past = Past().submit("t1").submit("t2").ready("t1").ready("t2").give("t2").give("t1", "w2")
    past.run("t1").run("t2").end("t1").end("t2")
    assert past.broken() == []


def test_s5_a_lease_of_what_was_not_waiting_for_one() -> None:
    past = Past().whole("t1").submit("t2").give("t2").run("t2").end("t2")
    assert past.broken() == ["S5"]


# --- S17 ---


def retried(after: float) -> Past:
    past = Past().submit("t1", "flaky").ready("t1", "flaky").give("t1")
    past.run("t1", "flaky", how="raise").ready("t1", "flaky", after=after)
    return past.give("t1", attempt=2).run("t1", "flaky", 2).end("t1", 2)


def test_s17_a_retry_before_its_time() -> None:
    assert retried(1.9).broken() == ["S17"]
    assert retried(2.1).broken() == []


# --- S19 ---


def test_s19_what_is_durable_follows_its_path() -> None:
    def past(*kinds: Kind, fences: tuple[int, ...] = (1, 2, 3)) -> Past:
        past = Past().submit("t1").ready("t1").give("t1").run("t1")
        for kind, fence in zip(kinds, fences, strict=False):
            past.control(kind, "t1", epoch=1, attempt=fence)
        return past.end("t1")

    assert past().broken() == []
    assert past(Kind.LEASED).broken() == []
    assert past(Kind.LEASED, Kind.LEASED).broken() == []
    assert past(Kind.LEASED, Kind.KEPT).broken() == ["S19"]
    assert past(Kind.LEASED, Kind.LEASED, fences=(2, 2)).broken() == ["S5"]
    lost = past()
    lost.events = [event for event in lost.events if event.kind is not Kind.KEPT]
    assert "S19" in lost.broken()
    late = past().control(Kind.LEASED, "t1", epoch=1, attempt=2)
    assert late.broken() == ["S19"]


# --- S8 ---


def test_s8_a_failure_of_an_old_lease() -> None:
    def past(attempt: int) -> Past:
        past = Past().submit("t1").ready("t1").give("t1")
        past.run("t1", how="raise", error="ValueError: no")
        past.add(Kind.FAULT, process="w1", what="reset").add(Kind.HEAL, process="w1")
        past.ready("t1").give("t1", "w2", attempt=2).run("t1", attempt=2, process="w2", pid=3)
        return past.end("t1", attempt, "failure", error="ValueError: no")

    assert past(1).broken() == []
    assert past(2).broken() == ["S8"]


# --- S10 ---


def test_s10_a_child_that_is_leased_although_its_parent_was_cancelled() -> None:
    def past(at: float) -> Past:
        past = Past().submit("t1").ready("t1").give("t1")
        past.submit("t2", parent="t1").ready("t2")
        past.add(Kind.CANCEL, process="c1", pid=5, task="t1")
        before = past.events[:]
        past.end("t1", status="cancelled").give("t2", after=at).run("t2").end("t2")
        if at < 0:
            moved = [event for event in past.events if event not in before]
            past.events = before + sorted(moved, key=lambda event: event.at)
        return past

    assert past(0.5).broken() == ["S10"]
    assert past(-0.0025).broken() == []


# --- L5 ---


def drained(seconds: float, given_after: float | None = None) -> Past:
    past = Past().add(Kind.FAULT, process="w1", what="drain", run="drain 2")
    if given_after is not None:
        past.submit("t1").ready("t1").give("t1", after=given_after)
        past.ready("t1").give("t1", "w2", attempt=2)
        past.run("t1", attempt=2, process="w2", pid=3).end("t1", 2)
    past.add(Kind.EXIT, process="w1", pid=2, what="drained", after=seconds)
    return past.add(Kind.HEAL, process="w1", run="drain 2")


def test_l5_a_process_that_does_not_end_when_it_is_asked_to() -> None:
    assert drained(32.0).broken() == []
    assert drained(34.0).broken() == ["L5"]


def test_l5_work_for_a_process_that_is_ending() -> None:
    assert drained(10.0, 1.0).broken() == []
    assert drained(10.0, 3.0).broken() == ["L5"]


def test_l5_a_process_that_is_ending_starts_nothing() -> None:
    past = Past().submit("t1").ready("t1").give("t1")
    past.add(Kind.FAULT, process="w1", what="drain", run="drain 2").run("t1").end("t1")
    past.add(Kind.EXIT, process="w1", pid=2, what="drained")
    past.add(Kind.HEAL, process="w1", run="drain 2")
    assert past.broken() == ["L5"]


# --- L6 ---


def called(**fields: Any) -> Past:
    past = Past().whole("t1", callback="e1")
    told = {"status": "success", "callback": "e1", "attempt": 1, **fields}
    return past.add(Kind.CALLED, process="l1", pid=4, task="t1", **told)


def test_l6_a_listener_that_is_told_right() -> None:
    assert called().broken() == []


def test_l6_a_listener_that_is_told_of_another_end() -> None:
    assert called(status="failure").broken() == ["L6"]


def test_l6_an_event_that_nobody_has_asked_for() -> None:
    assert called(callback="e2").broken() == ["L6"]


def test_l6_a_listener_that_is_told_before_the_end_is_durable() -> None:
    past = Past().submit("t1", callback="e1").ready("t1").give("t1").run("t1")
    past.add(Kind.CALLED, process="l1", task="t1", status="success", callback="e1").end("t1")
    assert past.broken() == ["L6"]


def test_l6_a_listener_that_is_told_nothing() -> None:
    assert Past().whole("t1", callback="e1").broken() == ["L6"]
    parked = Past().whole("t1", callback="e1").control(Kind.PARKED, "t1", attempt=10)
    assert parked.broken() == []
    tried = Past().whole("t1", callback="e1").control(Kind.PARKED, "t1", attempt=11)
    assert tried.broken() == ["L6"]


def test_l6_a_callback_is_lost_with_the_memory_of_its_control_plane_alone() -> None:
    past = Past().whole("t1", callback="e1").add(Kind.EXIT, process="control", pid=1)
    assert past.broken(MEMORY) == []
    assert past.broken() == ["L6"]


def test_l6_what_is_taken_for_told_was_heard_unless_its_listener_was_in_trouble() -> None:
    past = Past().whole("t1", callback="e1").control(Kind.DELIVERED, "t1")
    assert past.broken() == ["L6"]
    assert past.add(Kind.EXIT, process="l1", pid=4).broken() == []


# --- streams ---


def stream(*orders: int, values: str = "abc", other: str = "") -> Past:
    past = Past().submit("t1", "numbers", mode="handle").ready("t1", "numbers").give("t1")
    fields = {"process": "w1", "pid": 2, "task": "t1"}
    past.add(Kind.START, **fields, name="numbers", run="t1/1", epoch=1, attempt=1, digest="d")
    for order, value in enumerate("abc"):
        past.add(Kind.YIELD, **fields, run="t1/1", order=order, value=value)
    for order, value in enumerate(other):
        past.add(Kind.YIELD, **fields, run="t1/2", order=order, value=value)
    for order in orders:
        past.add(Kind.ITEM, process="c1", pid=5, task="t1", order=order, value=values[order])
    past.add(Kind.END, **fields, run="t1/1", what="return", value="v")
    past.end("t1")
    fields = {"status": "success", "run": "t1/1", "value": "v", "mode": "handle"}
    return past.add(Kind.OUTCOME, process="c1", pid=5, task="t1", name="numbers", **fields)


def test_s12_a_reader_has_each_value_once_and_in_order() -> None:
    assert stream(0, 1, 2).broken() == []
    assert stream(0, 2, 1).broken() == ["S12"]
    assert stream(0, 1, 1, 2).broken() == ["S12"]
    assert stream(1, 2).broken() == ["S12"]


def test_s12_a_reader_that_is_told_of_success_has_had_everything() -> None:
    assert stream(0, 1).broken() == ["S12"]


def test_s11_a_value_that_was_changed() -> None:
    assert stream(0, 1, 2, values="abx").broken() == ["S11"]


def test_s11_values_of_two_attempts() -> None:
    assert stream(0, 1, 2, values="axy", other="xxy").broken() == ["S11"]


# --- B1, B2 ---


def refused(others: int) -> Past:
    past = Past()
    for number in range(1, others + 1):
        past.submit(f"t{number}")
    fields = {"process": "c1", "pid": 5, "task": "t9", "name": "work", "mode": "delay"}
    past.add(Kind.SUBMIT, **fields, digest="d").add(Kind.REJECT, **fields, what="queue_full")
    for number in range(1, others + 1):
        past.ready(f"t{number}").give(f"t{number}").run(f"t{number}").end(f"t{number}")
    return past


def test_b1_a_queue_that_refuses_although_there_is_room() -> None:
    assert refused(3).broken() == []
    assert refused(2).broken() == ["B1"]


def test_b2_what_is_left_when_all_is_quiet() -> None:
    past = Past().whole("t1")
    assert past.broken() == []
    past.add(Kind.HOLDS, process="control", what="bytes of tasks", order=120)
    assert past.broken() == ["B2"]
