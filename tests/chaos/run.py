"""One chaos run: processes, storms of faults, calms, and the check of the history."""

from __future__ import annotations

import os
import random
from collections import Counter, deque
from dataclasses import dataclass, field
from pathlib import Path

import trio

from fastworker.testing._checker import check
from fastworker.testing._history import Event, Journal, Kind, read_history
from fastworker.testing._liveness import RECONNECT_SECONDS, RELEASE_SECONDS
from fastworker.testing._rules import Rules, Violation
from tests.chaos.chaos_tasks import EXPECTED, FOLDER
from tests.chaos.peer import Settings
from tests.chaos.processes import Kept, running
from tests.chaos.proxy import Faults
from tests.ports import free_port

CRASH_POINTS = {
    "control_plane": [
        "message-received",
        *(
            f"{when}-{kind}-reply"
            for when in ("before", "after")
            for kind in ("submit", "poll", "report", "lease", "cancel")
        ),
    ],
    "subworker": ["before-start", "before-report", "after-report"],
    "client": ["acknowledged", "outcome-received"],
}
# What one worker suffers in a calm, a calm each.
PROBES = ["kill", "stop", "partition"]
PROBE_SECONDS = 3.0
START_SECONDS = 60.0
STORE_POINTS = ["before-commit", "after-commit", "in-replay"]
# A memory of its own makes a control plane forget everything with its process.
MEMORY = "memory"


@dataclass(frozen=True)
class Plan:
    """What a run is like; with the same plan it has the same faults.

    ``seconds`` is how long faults and calms go on; then everybody gets
    ``settle`` seconds to end. ``kills_control`` with a store in memory too: its
    losses are allowed then, if they are told.
    """

    seed: int
    seconds: float = 60.0
    store: str = MEMORY
    workers: int = 3
    clients: int = 3
    lease: float = 6.0
    slack: float = 4.0
    settle: float = 90.0
    validate: bool = True
    kills_control: bool = True

    @property
    def is_durable(self) -> bool:
        return self.store != MEMORY

    @property
    def calm(self) -> float:
        """For how many seconds a calm is only watched."""
        return max(self.lease, RECONNECT_SECONDS) + self.slack + 0.5

    @property
    def command(self) -> str:
        """What repeats this run."""
        return (
            f"python -m tests.chaos --seed {self.seed} --seconds {self.seconds:g} "
            f"--store {'memory' if not self.is_durable else 'sqlite'}"
        )


@dataclass
class Result:
    """What came of a run."""

    plan: Plan
    folder: Path
    violations: list[Violation] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    done: Counter[str] = field(default_factory=Counter)

    @property
    def is_sound(self) -> bool:
        return not self.violations and not self.failures

    def __str__(self) -> str:
        counts = ", ".join(f"{name} {count}" for name, count in sorted(self.counts.items()))
        done = ", ".join(f"{name} {count}" for name, count in sorted(self.done.items()))
        lines = [f"seed {self.plan.seed}: {counts}", f"proxies: {done}"]
        if not self.is_sound:
            kinds = Counter(violation.invariant for violation in self.violations)
            lines += [
                *self.failures,
                *(str(violation) for violation in self.violations[:20]),
                f"{len(self.violations)} violations: {dict(kinds)}",
                f"the history is in {self.folder}",
                f"repeat it with: {self.plan.command}",
            ]
        return "\n".join(lines)


class Run:
    """See the module's first lines. The folder must be empty."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        self._plan = plan
        self._folder = folder
        self._rng = random.Random(plan.seed)
        self._probes = deque(self._rng.sample(PROBES, len(PROBES)))
        self._journal = Journal(folder, "supervisor")
        base, discovery, management = free_port(), free_port(), free_port()
        self._base = base
        self._environ = {
            **os.environ,
            FOLDER: str(folder),
            "FASTWORKER_VALIDATE": "1" if plan.validate else "0",
            "FASTWORKER_STORE": str(folder / "store.db") if plan.is_durable else "memory",
        }
        self._control = self._keep("control_plane", "control", 0)
        self._control._settings = Settings(
            str(folder),
            "control",
            port=base,
            discovery=discovery,
            management=management,
            lease=plan.lease,
        )
        self._workers = [
            self._keep("subworker", f"w{number}", base) for number in range(1, plan.workers + 1)
        ]
        self._clients = [
            self._keep("client", f"c{number}", base) for number in range(1, plan.clients + 1)
        ]
        self._kept = [self._control, *self._workers, *self._clients]

    def _keep(self, role: str, name: str, target: int) -> Kept:
        settings = Settings(
            str(self._folder), name, seed=str(self._plan.seed), lease=self._plan.lease
        )
        rng = random.Random(f"{self._plan.seed}/{name}")
        return Kept(role, settings, self._journal, rng, self._environ, target=target)

    # --- the course of it ---

    async def run(self) -> Result:
        """Do it all; every process has ended afterwards."""
        plan = self._plan
        ends_at = trio.current_time() + plan.seconds
        async with running(self._kept):
            await self._wait_running()
            while (left := ends_at - trio.current_time()) > 0:
                await self._storm(min(left, self._rng.uniform(10, 30)))
                if ends_at - trio.current_time() > plan.calm:
                    await self._calm()
            await self._settle()
        self._journal.close()
        return self._result()

    async def _storm(self, seconds: float) -> None:
        self._journal.write(Kind.STORM)
        self._tell("storm")
        with trio.move_on_after(seconds):
            async with trio.open_nursery() as nursery:
                for kept in self._kept:
                    nursery.start_soon(self._trouble, kept)

    async def _calm(self) -> None:
        """Let everybody come back, and lose one worker in the peace after that."""
        await self._wait_running()
        self._tell("calm")
        self._journal.write(Kind.CALM)
        await trio.sleep(self._plan.calm)
        worker = self._rng.choice(self._workers)
        notice = RELEASE_SECONDS + self._plan.slack + 0.5
        match self._probes[0]:
            case "kill":
                worker.kill()
                await trio.sleep(notice)
            case "stop":
                await worker.stop_for(self._plan.lease + notice)
            case _:
                self._tell("probe")  # so that something runs for longer than a lease
                await trio.sleep(PROBE_SECONDS)
                cut = Faults(up=False, down=False)
                await worker.suffer(cut, self._plan.lease + notice + 1, "partition")
        self._probes.rotate(-1)

    async def _settle(self) -> None:
        await self._wait_running()
        self._journal.write(Kind.CALM)
        for client in self._clients:
            client.finish()
        with trio.move_on_after(self._plan.settle):
            for client in self._clients:
                await client.ended.wait()
        settings = Settings(
            str(self._folder), "audit", port=self._base, lease=self._plan.lease, limit=30.0
        )
        auditor = Kept("auditor", settings, self._journal, self._rng, self._environ)
        auditor.finish()
        with trio.move_on_after(60) as scope:
            await auditor.run()
        if scope.cancelled_caught:
            self._control.failures.append("the auditor did not come to an end")
        self._journal.write(Kind.SETTLED)

    async def _wait_running(self) -> None:
        """Until the processes that were killed last have started again.

        How long a busy machine takes for that is no concern of the rules.
        """
        with trio.move_on_after(START_SECONDS):
            while not all(kept.is_up for kept in self._kept):
                await trio.sleep(0.05)

    def _tell(self, weather: str) -> None:
        for client in self._clients:
            client.say(weather)

    # --- troubles ---

    async def _trouble(self, kept: Kept) -> None:
        """One trouble after the other for this process, until the storm is over."""
        rng = kept.rng
        long = self._plan.lease
        while True:
            await trio.sleep(rng.expovariate(1 / 3.0))
            kind, seconds, faults = self._draw(kept)
            match kind:
                case "kill":
                    kept.crash_next = self._draw_crash(kept) if rng.random() < 0.6 else ""
                    kept.kill()
                case "stop":
                    await kept.stop_for(seconds)
                case "stop long":
                    await kept.stop_for(long + rng.uniform(0.5, 3.0))
                case "disconnect":
                    kept.disconnect()
                case _:
                    await kept.suffer(faults, seconds, kind)

    def _draw(self, kept: Kept) -> tuple[str, float, Faults]:
        rng = kept.rng
        is_control = kept is self._control
        kinds = {
            "kill": 3.0 if not is_control or self._plan.kills_control else 0.0,
            "stop": 2.0,
            "stop long": 1.0,
            "disconnect": 0.0 if is_control else 2.0,
            "partition": 0.0 if is_control else 2.0,
            "messages": 0.0 if is_control else 4.0,
        }
        [kind] = rng.choices(list(kinds), list(kinds.values()))
        seconds = rng.choice([0.2, 1.0, 3.0, self._plan.lease + 2.0]) * rng.uniform(0.5, 1.2)
        if kind == "stop":
            seconds = rng.uniform(0.1, 2.0)
        if kind == "partition":
            if rng.random() < 0.5:
                seconds = self._plan.lease + self._plan.slack + rng.uniform(1, 3)
            up, down = rng.choice([(True, False), (False, True), (False, False)])
            return kind, seconds, Faults(up=up, down=down)

        def rate() -> float:
            return rng.choice([0.0, 0.0, 0.02, 0.2])

        faults = Faults(
            drop=rate(),
            double=rate(),
            replay=rate(),
            cut=rate() / 4,
            tear=rate() / 4,
            flip=rate() / 4,
            delay=rng.choice([0.0, 0.01, 0.3]),
        )
        return kind, seconds, faults

    def _draw_crash(self, kept: Kept) -> str:
        points = CRASH_POINTS[kept.role]
        if kept is self._control and self._plan.is_durable:
            points = [*points, *STORE_POINTS * 3]
        point = kept.rng.choice(points)
        number = 1 if point == "in-replay" else int(kept.rng.paretovariate(0.5))
        return f"{point}:{min(number, 500)}"

    # --- what came of it ---

    def _result(self) -> Result:
        events = read_history(self._folder)
        rules = Rules(
            self._plan.is_durable, self._plan.lease, self._plan.slack, functions=EXPECTED
        )
        result = Result(self._plan, self._folder, check(events, rules))
        result.failures = [failure for kept in self._kept for failure in kept.failures]
        result.counts = counts_of(events)
        for kept in self._kept:
            if kept.proxy is not None:
                result.done += kept.proxy.done
        return result


def counts_of(events: list[Event]) -> Counter[str]:
    """How much happened, for people."""
    return Counter(str(event.kind) for event in events)


def run_plan(plan: Plan, folder: Path) -> Result:
    """Carry out one run and check it."""
    folder.mkdir(parents=True, exist_ok=True)
    return trio.run(Run(plan, folder).run)
