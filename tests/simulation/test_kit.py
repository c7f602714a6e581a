"""What the simulation kit promises to those who use it."""

from __future__ import annotations

import random
import time

import pytest
import trio

from fastworker import ConfigurationError, TaskStatus
from fastworker._registry import Registry
from fastworker._task_options import TaskOptions
from fastworker.testing import (
    Event,
    Fault,
    Kind,
    Plan,
    Result,
    Simulation,
    SimulationFailed,
    draw_plan,
    run_plan,
    simulate,
)
from fastworker.testing._cluster import Cluster
from fastworker.testing._virtual_time import WALL_AT_START
from tests.simulation.sim_tasks import make_registry


def run(
    scenario: object, registry: Registry | None = None, *faults: Fault, **fields: object
) -> Result:
    """Run a scenario with these faults and no others; nothing may be wrong with it."""
    settings: dict[str, object] = {"clients": 0, "storm": 10.0, "slots": 1, **fields}
    plan = Plan(1, faults=faults, **settings)  # type: ignore[arg-type]
    result = run_plan(plan, scenario, registry=registry or make_registry())  # type: ignore[arg-type]
    assert result.is_sound, str(result)
    return result


def of(result: Result, kind: Kind, **fields: object) -> list[Event]:
    return [
        event
        for event in result.events
        if event.kind is kind and all(getattr(event, n) == v for n, v in fields.items())
    ]


# --- time, chance and threads ---


def test_an_hour_takes_no_time_and_sleep_takes_a_slot() -> None:
    def sleep(seconds: int) -> None:
        time.sleep(seconds)

    registry = Registry()
    registry.register(sleep)
    ended_at: list[float] = []

    async def scenario(sim: Simulation) -> None:
        async with sim.client() as client:
            for _ in range(2):
                await client.submit_task("sleep", (3600,))
                ended_at.append(sim.now)

    begun = time.monotonic()
    run(scenario, registry, workers=1, settle=10_000.0)
    assert time.monotonic() - begun < 60
    assert 7200 < ended_at[1] < 7210


def test_what_a_program_does_to_time_and_chance_is_as_before_afterwards() -> None:
    random.seed(7)
    before = random.random(), time.sleep, trio.to_thread.run_sync
    random.seed(7)
    run_plan(draw_plan(3), registry=make_registry())
    assert (random.random(), time.sleep, trio.to_thread.run_sync) == before


def test_a_call_in_a_thread_takes_virtual_time() -> None:
    async def scenario(sim: Simulation) -> None:
        before = sim.now
        assert await trio.to_thread.run_sync(lambda: 5) == 5
        assert before < sim.now < before + 1

    run(scenario)


def test_wall_clocks_may_be_wrong() -> None:
    async def scenario(sim: Simulation) -> None:
        async with sim.client() as client:
            result = await client.submit_task("nap", (1.0,))
            assert result.status is TaskStatus.SUCCESS

    result = run(scenario, skew=3600.0)
    assert abs(of(result, Kind.START)[0].wall - WALL_AT_START) > 60


# --- faults ---


async def nap_once(sim: Simulation) -> None:
    async with sim.client() as client:
        result = await client.submit_task("nap", (5.0,))
        assert result.status is TaskStatus.SUCCESS


def test_a_crashed_worker_says_nothing_and_its_task_runs_elsewhere() -> None:
    result = run(nap_once, None, Fault(2.0, "crash", "w1"), Fault(2.0, "crash", "w2"))
    first, second = of(result, Kind.START)
    assert first.pid != second.pid
    assert len(of(result, Kind.END)) == 1
    assert 2.0 < second.at < 3.0


def test_a_silent_crash_is_noticed_when_the_machine_is_back() -> None:
    result = run(nap_once, None, Fault(2.0, "silent crash", "w1", 6.0), workers=1)
    _, second = of(result, Kind.START)
    assert 8.0 <= second.at < 10.0


def test_a_paused_worker_goes_on_where_it_was() -> None:
    result = run(nap_once, None, Fault(2.0, "pause", "w1", 6.0), workers=1)
    [start] = of(result, Kind.START)
    [end] = of(result, Kind.END)
    assert (start.at, end.at) == (pytest.approx(0.0, abs=0.2), pytest.approx(8.0, abs=0.2))


def test_nothing_arrives_on_a_way_that_is_cut() -> None:
    result = run(
        nap_once, None, Fault(2.0, "partition one way", "w1", 6.0, "control"), workers=1
    )
    [end] = of(result, Kind.END)
    [outcome] = of(result, Kind.OUTCOME)
    assert end.at == pytest.approx(5.0, abs=0.2)
    assert outcome.at >= 8.0


def test_an_unplugged_worker_loses_its_leases_at_once() -> None:
    result = run(nap_once, None, Fault(2.0, "unplug", "w1", 6.0, "control"), workers=2)
    if of(result, Kind.START)[0].process == "w1":
        assert of(result, Kind.START, process="w2")[0].at < 3.5


def test_a_control_plane_that_crashes_in_a_write_loses_nothing_that_was_acknowledged() -> None:
    for steps in (0, 1):  # before the transaction is on the disk, and just after
        result = run(nap_once, None, Fault(0.0, "store torn", "control", 0.5, steps=steps))
        assert len(of(result, Kind.EXIT, process="control")) == 1
        assert len(of(result, Kind.TERMINAL)) == 1


def test_a_process_of_a_task_can_die() -> None:
    async def scenario(sim: Simulation) -> None:
        async with sim.client() as client:
            result = await client.submit_task("apart", (1,))
            assert result.error == "ProcessDied: its process was killed by the simulation"

    run(scenario, deaths=1.0)


def test_a_scenario_says_itself_what_goes_wrong() -> None:
    async def scenario(sim: Simulation) -> None:
        async with sim.client() as client:
            handle = await client.submit("nap", 5.0)
            await trio.sleep(1)
            sim.crash("w1")
            await trio.sleep(1)
            sim.restart("w1")
            assert await handle.result() == 5.0

    result = run(scenario, workers=1)
    assert len(of(result, Kind.START)) == 2


def test_a_client_that_crashes_leaves_nothing_that_goes_on() -> None:
    lives: list[float] = []

    async def program(client: object) -> None:
        lives.append(trio.current_time())
        await client.submit_task("nap", (2.0,))  # type: ignore[attr-defined]

    async def scenario(sim: Simulation) -> None:
        sim.run_client("c1", program)

    run(scenario, None, Fault(1.0, "crash", "c1", 0.5), clients=1)
    assert lives == [pytest.approx(0.0, abs=0.2), pytest.approx(1.5, abs=0.2)]


# --- what is told ---


def test_an_asyncio_task_is_refused_and_told_why() -> None:
    async def needs_asyncio() -> None: ...

    registry = Registry()
    registry.register(needs_asyncio, options=TaskOptions(backend="asyncio"))
    with pytest.raises(ConfigurationError, match=r"'needs_asyncio' has backend='asyncio'"):
        run_plan(Plan(1), registry=registry)


def test_a_task_without_annotations_is_refused_and_told_why() -> None:
    class Thing: ...

    def take(thing: Thing) -> None: ...

    take.__annotations__ = {"thing": Thing}
    registry = Registry()
    registry.register(take)
    result = run_plan(Plan(1), registry=registry)
    assert "nothing is known to give as 'thing'" in str(result)


def test_an_assertion_of_a_task_is_a_violation() -> None:
    def check() -> None:
        raise AssertionError("sold twice")

    registry = Registry()
    registry.register(check)

    async def scenario(sim: Simulation) -> None:
        async with sim.client() as client:
            await client.submit_task("check")

    result = run_plan(Plan(1, clients=0, storm=0.0), scenario, registry=registry)
    assert [v.invariant for v in result.violations] == ["TASK"]
    assert "sold twice" in str(result)


def test_a_loop_that_lets_no_time_go_by_is_a_violation() -> None:
    async def scenario(sim: Simulation) -> None:
        while True:
            await trio.lowlevel.checkpoint()

    result = run_plan(Plan(1, clients=0, storm=1.0), scenario, registry=make_registry())
    assert "it goes round and round, and no time goes by" in str(result)


def make_broken_registry() -> tuple[Registry, list[str]]:
    charged: list[str] = []

    def charge(order: str) -> None:
        charged.append(order)

    registry = Registry()
    registry.register(charge)
    return registry, charged


def test_simulate_makes_a_test_that_finds_a_task_which_may_not_run_twice() -> None:
    registry, charged = make_broken_registry()

    @simulate(seeds=60, workers=2, registry=registry)
    async def orders(sim: Simulation) -> None:
        charged.clear()
        async with sim.client() as client, client.open_task_group() as group:
            for number in range(6):
                await group.submit("charge", f"order {number}")
        assert len(set(charged)) == len(charged), "charged twice"

    with pytest.raises(SimulationFailed, match="charged twice") as caught:
        orders()
    assert "run it again with: @simulate(seeds=[" in str(caught.value)
    assert isinstance(caught.value.__cause__, AssertionError)


def test_without_faults_the_same_test_passes() -> None:
    registry, charged = make_broken_registry()

    @simulate(seeds=5, faults=(), registry=registry)
    async def orders(sim: Simulation) -> None:
        charged.clear()
        async with sim.client() as client:
            await client.submit_task("charge", ("one",))
        assert charged == ["one"]

    orders()


def test_the_fixture_runs_a_scenario(fastworker_cluster: Cluster) -> None:
    async def scenario(sim: Simulation) -> None:
        await trio.sleep(100)

    assert fastworker_cluster.run(scenario).seconds >= 100


def test_plans_come_back_from_their_text() -> None:
    plan = draw_plan(11)
    assert Plan.from_json(plan.to_json()) == plan


def test_kinds_of_faults_that_do_not_exist_are_refused() -> None:
    with pytest.raises(
        ConfigurationError, match=r"'flood' is no kind of fault; there are crash"
    ):
        draw_plan(1, kinds=("flood",))
