"""What users have of simulations: a decorator, a fixture, a command."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fastworker._registry import Registry
from fastworker.cli import main
from fastworker.testing import Simulation, SimulationFailed, simulate

TASKS = """
import itertools

from fastworker import task

calls = itertools.count()


@task(name="simulated_add")
def add(a: int, b: int) -> int:
    return a + b


async def sound(sim):
    async with sim.client() as client:
        result = await client.submit_task("simulated_add", (1, 2))
        assert result.result == 3, result


async def unsound(sim):
    async with sim.client() as client:
        result = await client.submit_task("simulated_add", (1, 2))
        assert result.result == 4, result
"""


def a_registry() -> Registry:
    registry = Registry()

    def add(a: int, b: int) -> int:
        return a + b

    registry.register(add, name="add")
    return registry


REGISTRY = a_registry()


async def add_in_every_weather(sim: Simulation) -> None:
    async with sim.client() as client:
        for number in range(5):
            result = await client.submit_task("add", (number, 1))
            assert result.result in (number + 1, None)


def test_a_sound_scenario_passes_with_every_seed() -> None:
    simulate(seeds=5, workers=2, registry=REGISTRY)(add_in_every_weather)()


def test_a_broken_assertion_names_the_seed_and_what_it_said() -> None:
    async def wrong(sim: Simulation) -> None:
        async with sim.client() as client:
            result = await client.submit_task("add", (1, 2))
            assert result.result == 4, "two and one"

    with pytest.raises(SimulationFailed, match="two and one") as caught:
        simulate(seeds=[7], faults=(), registry=REGISTRY)(wrong)()
    assert caught.value.result.plan.seed == 7


def test_what_is_decorated_keeps_its_name_and_asks_for_nothing() -> None:
    run = simulate(seeds=1, registry=REGISTRY)(add_in_every_weather)
    assert run.__name__ == "add_in_every_weather"
    run()


def test_the_fixture_runs_a_scenario_in_which_nothing_goes_wrong(
    fastworker_cluster: object,
) -> None:
    from fastworker.testing._cluster import Cluster

    assert isinstance(fastworker_cluster, Cluster)

    async def scenario(sim: Simulation) -> None:
        async with sim.client() as client:
            assert (await client.submit_task("add", (1, 2))).result == 3

    result = Cluster(REGISTRY).run(scenario, workers=2)
    assert result.is_sound


# --- the command ---


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(
        main, ["simulate", "--task-modules", "simulated_tasks", *arguments]
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all, as a module is imported once."""
    folder = tmp_path_factory.mktemp("simulated")
    (folder / "simulated_tasks.py").write_text(TASKS)
    return folder


@pytest.fixture(autouse=True)
def _in_its_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))


def test_the_command_runs_seeds_and_says_that_all_is_well() -> None:
    found = invoke(
        "--seeds", "2", "--first", "5", "--workers", "2", "--clients", "1", "--store", "durable"
    )
    assert (found.exit_code, found.stdout) == (0, "2 seeds: all is well\n")


def test_a_failing_seed_is_told_with_the_command_that_repeats_it() -> None:
    wrong = ("--scenario", "simulated_tasks:unsound", "--faults", "crash")
    found = invoke("--seeds", "1", *wrong)
    assert found.exit_code == 1
    assert found.stdout.endswith("1 seed, 1 failing: 0\n")
    assert (
        "fastworker simulate --task-modules simulated_tasks --scenario "
        "simulated_tasks:unsound --faults crash --seed 0" in found.output
    )
    again = invoke("--seed", "0", "--keep", "none", *wrong)
    assert again.exit_code == 1
    assert "violations" in again.stdout
    assert "result=3" in again.stdout or "success" in again.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--scenario", "simulated_tasks:nothing"), "there is no such function"),
        (("--seed", "0", "--keep", "999"), "but no '999'"),
    ],
)
def test_what_cannot_be_simulated_is_said(arguments: tuple[str, ...], words: str) -> None:
    found = invoke(*arguments)
    assert found.exit_code == 78
    assert words in found.output


def test_a_seed_has_the_same_history_twice() -> None:
    first = invoke("--seed", "3", "--scenario", "simulated_tasks:sound")
    second = invoke("--seed", "3", "--scenario", "simulated_tasks:sound")
    assert first.exit_code == second.exit_code == 0
    assert first.stdout == second.stdout
