"""Tasks that wait for room: how often they are tried, and in which order."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from fastworker._core._waiting_room import FIRST_PAUSE, LONGEST_PAUSE, WaitingRoom


def drain(room: WaitingRoom, now: float, until: float, rate: float) -> tuple[list[str], int]:
    """A queue in which ``rate`` places a second become free; who got one, and tries."""
    taken: list[str] = []
    begin, tries = now, 0
    while len(room) and (now := max(now, room.next_try())) <= until:
        for task_id in room.leave(now):
            tries += 1
            if len(taken) < (now - begin) * rate:
                taken.append(task_id)
                room.note_taken(task_id, now)
            else:
                room.enter(task_id, now)
            room.check()
    return taken, tries


def full_of(count: int) -> tuple[WaitingRoom, list[str]]:
    room, ids = WaitingRoom(), [f"t{number}" for number in range(count)]
    for task_id in ids:
        room.enter(task_id, 0.0)
    return room, ids


def test_a_queue_that_stays_full_is_asked_once_a_second_about_one_task() -> None:
    room, _ = full_of(10_000)
    taken, tries = drain(room, 0.0, 1000.0, 0.0)
    assert taken == []
    assert 1000 / LONGEST_PAUSE <= tries <= 1000 / LONGEST_PAUSE + 10


def test_a_queue_that_empties_is_filled_in_order_with_few_tries_in_vain() -> None:
    room, ids = full_of(10_000)
    taken, tries = drain(room, 0.0, 15.0, 1_000.0)
    assert taken == ids
    assert tries < 2 * len(ids)


def test_with_plenty_of_room_all_are_in_at_once() -> None:
    room, ids = full_of(10_000)
    assert drain(room, 0.0, 0.1, 1e9) == (ids, len(ids))


class RoomModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.room = WaitingRoom()
        self.now = 0.0
        self.count = 0
        self.waiting: list[str] = []  # in their order
        self.tried: list[str] = []
        self.refused: list[str] = []

    @rule()
    def come(self) -> None:
        self.count += 1
        self.waiting.append(f"t{self.count}")
        self.room.enter(self.waiting[-1], self.now)

    @rule(seconds=st.floats(0, 2))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        ids = self.room.leave(self.now)
        if ids:
            assert not self.tried
            line = self.refused + self.waiting
            assert ids == line[: len(ids)], "out of order"
            self.tried, self.waiting, self.refused = ids, line[len(ids) :], []
        elif not self.tried and (self.waiting or self.refused):
            assert self.now < self.room.next_try() <= self.now + LONGEST_PAUSE
        assert self.room.next_try() > self.now, "it would spin"

    @rule(is_taken=st.booleans())
    def answer(self, is_taken: bool) -> None:
        if self.tried:
            task_id = self.tried.pop(0)
            if is_taken:
                self.room.note_taken(task_id, self.now)
            else:
                self.refused.append(task_id)
                self.room.enter(task_id, self.now)

    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        everybody = self.waiting + self.tried + self.refused
        if everybody:
            task_id = data.draw(st.sampled_from(everybody))
            for ids in (self.waiting, self.tried, self.refused):
                if task_id in ids:
                    ids.remove(task_id)
            self.room.forget(task_id, self.now)

    @invariant()
    def they_agree(self) -> None:
        self.room.check()
        assert list(self.room) == self.refused + self.waiting
        assert FIRST_PAUSE > 0


TestRoomModel = RoomModel.TestCase
TestRoomModel.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
