"""Whatever the link loop asks for, in whatever order, nobody is lost or doubled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from fastworker._lanes._abc import OUTCOME_CANCELLED, OUTCOME_FAILURE, OUTCOME_SUCCESS
from tests.lanes.lane_world import KINDS, World, open_world
from tests.lanes.process_tasks import process_exit, process_pid


def misbehave() -> None:
    raise SystemExit


def trivial(world: World) -> Callable[..., Any]:
    return process_pid if world.kind == "process" else world.function(lambda: None)


def failing(world: World) -> Callable[..., Any]:
    return process_exit if world.kind == "process" else world.function(misbehave)


STEPS = st.one_of(
    st.tuples(st.just("submit trivial"), st.integers(1, 5)),
    st.tuples(st.just("submit failing"), st.integers(1, 3)),
    st.tuples(st.just("submit holding"), st.integers(1, 3)),
    st.tuples(st.just("cancel"), st.integers(0, 30)),
    st.tuples(st.just("take back"), st.just(0)),
    st.tuples(st.just("open"), st.just(0)),
    st.tuples(st.just("let it run"), st.just(0)),
)


async def play(kind: str, slots: int, steps: list[tuple[str, int]]) -> None:
    async with open_world(kind, slots=slots) as world:
        gate = world.gate()
        for step, number in steps:
            match step:
                case "submit trivial":
                    world.submit_many([trivial(world)] * number)
                case "submit failing":
                    world.submit_many([failing(world)] * number)
                case "submit holding":
                    world.submit_many([world.holding(gate)] * number)
                case "cancel" if number < len(world.submitted):
                    world.lane.cancel(world.submitted[number])
                case "take back":
                    world.take_back()
                case "open":
                    gate.open()
                    gate = world.gate()
                case "let it run":
                    await trio.lowlevel.checkpoint()
        world.open_gates()
        await world.all_accounted_for()
        check_kinds(world)


def check_kinds(world: World) -> None:
    for key, ended in world.ended.items():
        assert ended.kind in (OUTCOME_SUCCESS, OUTCOME_FAILURE, OUTCOME_CANCELLED)
        if key not in world.started:
            assert ended.kind == OUTCOME_CANCELLED


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40, deadline=None)
@given(slots=st.integers(1, 4), steps=st.lists(STEPS, max_size=25))
def test_every_attempt_is_taken_back_or_ends_once(
    kind: str, slots: int, steps: list[tuple[str, int]]
) -> None:
    trio.run(play, kind, slots, steps)


@pytest.mark.slow
@settings(max_examples=8, deadline=None)
@given(slots=st.integers(1, 3), steps=st.lists(STEPS, max_size=20))
def test_every_attempt_for_a_process_is_taken_back_or_ends_once(
    slots: int, steps: list[tuple[str, int]]
) -> None:
    trio.run(play, "process", slots, steps)
