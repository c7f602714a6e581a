"""A whole cluster in one Trio loop and in virtual time, with everything that goes wrong in it.

Real clients, a real control plane and real subworkers with the user's tasks, on
a network and a disk that are simulated. First a storm, then all is healed, and the
cluster has to come to rest: each task that was acknowledged ends, and is found.
"""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable
from contextvars import Context
from random import Random
from typing import Any, Final
from uuid import UUID

import trio

from fastworker._client import Client
from fastworker._core._link_requester import REPEAT_INTERVAL
from fastworker._core._stored import Changes
from fastworker._errors import ConfigurationError, ControlPlaneUnreachable, StoreUnavailable
from fastworker._registry import Registry
from fastworker._store._abc import Store
from fastworker._transport._memory import Faults
from fastworker.testing import _plan
from fastworker.testing._control_plane import SimulatedControlPlane
from fastworker.testing._history import History, Kind
from fastworker.testing._lane import Nursery, SimulatedLane
from fastworker.testing._listener import listen
from fastworker.testing._network import SimulatedNetwork
from fastworker.testing._plan import CONTROL, DRAIN, LISTENER, Fault, Plan
from fastworker.testing._process import Process
from fastworker.testing._recording import (
    RecordedSink,
    Recorder,
    SimulatedClient,
    SimulatedSubWorker,
)
from fastworker.testing._store import Disk, RecordedMemoryStore, SimulatedStore
from fastworker.testing._virtual_time import (
    VirtualClock,
    current_process,
    install_run_queue,
)

BASE: Final = "tcp://127.0.0.1:5555"
DISCOVERY: Final = "tcp://127.0.0.1:5550"
MANAGEMENT_PORT: Final = 5560
MANAGEMENT: Final = f"tcp://127.0.0.1:{MANAGEMENT_PORT}"
# Longer than any run: no call may end by a limit of its own.
LONG: Final = 100_000.0
AUDIT_SECONDS: Final = 1200.0
# As long as a callback may be tried, and a client that is gone may be missed.
REST_SECONDS: Final = 900.0
LOOK_SECONDS: Final = 0.5
# Whoever lives has found the control plane by then, and has repeated what it has asked.
HEARD_SECONDS: Final = 2 * REPEAT_INTERVAL

RESTART_SECONDS: Final = 1.0
PROGRAM: Final = "program"

Scenario = Callable[["Simulation"], Awaitable[None]]
ClientProgram = Callable[[Client], Awaitable[None]]


class Simulation:
    """One run, as a scenario sees it.

    Attributes:
      plan: what goes wrong.
      random: for the scenario's own choices.
      registry: the tasks.
      network: may be made worse by hand.
      history: what has happened so far.
      error: what the scenario has raised.
    """

    def __init__(self, plan: Plan, registry: Registry, clock: VirtualClock) -> None:
        self.plan = plan
        self.registry = registry
        self.random = self._stream("scenario")
        self.network = SimulatedNetwork(self._stream("network"))
        self.history = History(trio.current_time)
        self.error: BaseException | None = None
        self.disk = Disk()
        self._recorder = Recorder(self.history)
        self._queue = install_run_queue(clock)
        self._ids = self._stream("ids")
        self._durations = self._stream("durations")
        self._pids = itertools.count(1)
        self._processes: dict[str, Process] = {}
        self._dead: list[Process] = []
        self._programs: dict[str, ClientProgram] = {}
        self._nursery: trio.Nursery
        self._planes: dict[int, SimulatedControlPlane] = {}
        self._programs_left: set[str] = set()
        self._is_calm = trio.Event()
        self._ended = trio.Event()
        self._is_over = False
        self._audited = 0  # events
        self._sought: set[str] = set()  # tasks

    def _stream(self, name: str) -> Random:
        """Random numbers for one purpose: more of one does not change the others."""
        return Random(f"{self.plan.seed}/{name}")  # noqa: S311

    # --- for scenarios ---

    def client(self, **settings: Any) -> Client:
        """Make a client that belongs to the program that calls this.

        ``async with sim.client() as client``. In a scenario it is never faulted; in a
        program of :meth:`run_client` it dies with it.
        """
        process = current_process.get()
        assert process is not None, "only in a scenario, or in a client's program"
        settings.setdefault("timeout", LONG)
        settings.setdefault("retries", 1_000_000)
        settings.setdefault("connect_timeout", LONG)
        return SimulatedClient(
            process,
            self._recorder,
            discovery_address=DISCOVERY,
            auth=False,
            transport=self.network,
            registry=self.registry,
            new_task_id=self._new_task_id,
            new_session_id=self._new_session_id,
            wall_clock=process.wall_clock,
            **settings,
        )

    def run_client(self, name: str, program: ClientProgram) -> None:
        """Start a process that runs ``program(client)``; faults may kill and restart it.

        Started again, it runs the program from its beginning.
        """
        self._programs[name] = program
        self._programs_left.add(name)
        self._spawn(name, "client")

    async def wait_calm(self) -> None:
        """Wait until nothing goes wrong any more."""
        await self._is_calm.wait()

    @property
    def now(self) -> float:
        """Seconds since the beginning."""
        return trio.current_time()

    # --- faults ---

    def crash(self, name: str, *, silently: bool = False, what: str = "crash") -> None:
        """Kill a process: nothing of it runs, is sent or is written from now on."""
        process = self._processes.get(name)
        if process is None or process.is_dead or process.is_done or self._is_over:
            return
        self._recorder.write(process, Kind.EXIT, what="silent" if silently else what)
        process.is_dead = True
        self.network.kill(process, silently=silently)
        self._queue.hold(process)
        self._dead.append(process)

    def restart(self, name: str) -> None:
        """Start a process that was killed."""
        process = self._processes.get(name)
        if process is not None and process.is_dead and not self._is_over:
            self.network.bury(name)
            self._spawn(name, process.role)

    def crash_by_itself(self, name: str) -> None:
        """Kill a process as a task of its own can; it is started again soon."""
        self.crash(name, what="")
        # Not in the context of the task that calls this: nothing of it runs any more.
        Context().run(self._nursery.start_soon, self._restart_later, name)

    def drain(self, name: str) -> None:
        """Have a process end as SIGTERM does; it is started again soon."""
        process = self._processes.get(name)
        if process is None or process.is_dead or process.drain is None or self._is_over:
            return
        if not process.is_draining:
            process.is_draining = True
            self._recorder.write(process, Kind.FAULT, what=DRAIN, run=f"drain {process.pid}")
            process.drain()

    def pause(self, name: str) -> None:
        """Stop a process, as SIGSTOP does."""
        process = self._processes.get(name)
        if process is not None and not process.is_held and not process.is_done:
            self._recorder.write(process, Kind.STOP)
            self._queue.hold(process)

    def resume(self, name: str) -> None:
        """Let it go on."""
        process = self._processes.get(name)
        if process is not None and process.is_held and not process.is_dead:
            self._recorder.write(process, Kind.CONT)
            self._queue.release(process)
            self.network.reconnect()

    # --- the course of it ---

    async def run(self, scenario: Scenario) -> None:
        """Do it all; nothing is left afterwards."""
        check_registry(self.registry)
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            self._queue.on_stuck = self._on_stuck
            self._spawn(CONTROL, "control_plane")
            for name in self.plan.names[1 : 1 + self.plan.workers]:
                self._spawn(name, "subworker")
            if self.plan.listens:
                self._spawn(LISTENER, "listener")
            program = Process(PROGRAM, "client", next(self._pids), 0.0)
            self._processes[PROGRAM] = program
            self.history.write(Kind.SPAWN, process=PROGRAM, pid=program.pid)
            done = trio.Event()
            nursery.start_soon(self._run_scenario, scenario, program, done)
            await self._storm()
            self._calm()
            with trio.move_on_after(self.plan.settle) as scope:
                await done.wait()
                while self._programs_left:
                    await self._ended.wait()
            if scope.cancelled_caught:
                self.history.write(Kind.BROKEN, what="L1", error="the scenario does not end")
            # Tasks call others too, and may not have been heard yet.
            await trio.sleep(HEARD_SECONDS)
            current_process.set(program)
            await self._audit()
            self.history.write(Kind.SETTLED)
            await self._rest()
            # What somebody was still running has submitted others meanwhile.
            await self._audit()
            self._end()

    def _end(self) -> None:
        """Let all that is left unwind; nobody takes notice of it any more."""
        self._is_over = self._recorder.is_over = True
        for process in [*self._processes.values(), *self._dead]:
            process.scope.cancel()
            self._queue.release(process)
        self._nursery.cancel_scope.cancel()

    def _on_stuck(self, what: str) -> None:
        if not self._is_over:
            self.history.write(Kind.BROKEN, what="L1", error=what)
        self._end()

    async def _run_scenario(
        self, scenario: Scenario, program: Process, done: trio.Event
    ) -> None:
        current_process.set(program)
        try:
            await scenario(self)
        except Exception as error:  # noqa: BLE001 - becomes a violation
            self.error = error
            self._note_broken(program, error, what="SCENARIO")
        done.set()

    async def _storm(self) -> None:
        self.history.write(Kind.STORM)
        plan = self.plan
        self.network.faults = plan.messages
        bad = [n for n in plan.names if plan.messages != Faults()]
        for name in bad:
            self.history.write(Kind.FAULT, process=name, what="messages")
        with trio.move_on_after(plan.storm):
            async with trio.open_nursery() as nursery:
                for number, fault in enumerate(plan.faults):
                    nursery.start_soon(self._suffer, number, fault)
                await trio.sleep_forever()

    def _calm(self) -> None:
        self.network.heal_all()
        self.disk.failure = ""
        self.disk.crash_in_write = ""
        for name, process in list(self._processes.items()):
            if process.is_draining:
                self.crash(name)  # its time is over, as a service manager says
            self.history.write(Kind.HEAL, process=name)
            self.resume(name)
            self.restart(name)
        self.history.write(Kind.CALM)
        self._is_calm.set()

    async def _suffer(self, number: int, fault: Fault) -> None:
        await trio.sleep(fault.at)
        for _ in range(fault.steps):
            await trio.lowlevel.checkpoint()
        name, other = fault.process, fault.other
        network = self.network

        def write(kind: Kind, what: str = "") -> None:
            self.history.write(kind, process=name, what=what, run=str(number))

        match fault.kind:
            case _plan.CRASH | _plan.SILENT_CRASH:
                self.crash(name, silently=fault.kind == _plan.SILENT_CRASH)
                await trio.sleep(fault.seconds)
                self.restart(name)
            case _plan.PAUSE:
                self.pause(name)
                await trio.sleep(fault.seconds)
                self.resume(name)
            case _plan.CUT | _plan.ONE_WAY_CUT | _plan.UNPLUG:
                # Unplugged it knows: its pipes are closed, and no other comes up.
                write(Kind.FAULT, fault.kind)
                ways = [(name, other)]
                if fault.kind != _plan.ONE_WAY_CUT:
                    ways.append((other, name))
                for way in ways:
                    network.cut(*way)
                if fault.kind == _plan.UNPLUG:
                    network.reset(name)
                await trio.sleep(fault.seconds)
                for way in ways:
                    network.heal_cut(*way)
                write(Kind.HEAL)
            case _plan.RESET:
                write(Kind.FAULT, "reset")
                network.reset(name)
                write(Kind.HEAL)
            case _plan.SLOW:
                write(Kind.FAULT, "slow")
                network.delays[name] = min(fault.seconds, 2.0)
                await trio.sleep(fault.seconds)
                network.delays.pop(name, None)
                write(Kind.HEAL)
            case _plan.STORE_FULL:
                write(Kind.FAULT, "store full")
                self.disk.failure = "the disk is full"
                await trio.sleep(fault.seconds)
                self.disk.failure = ""
                write(Kind.HEAL)
            case _plan.STORE_TORN:
                before = fault.steps % 2 == 0
                self.disk.crash_in_write = "before" if before else "after"
                await trio.sleep(fault.seconds)
                self.disk.crash_in_write = ""
                self.restart(name)
            case _plan.DRAIN:
                self.drain(name)
            case kind:
                raise AssertionError(kind)

    async def _audit(self) -> None:
        """Look for every task that was acknowledged, until it has ended or time is up."""
        task_id = self._next_acked()
        if task_id is None:
            return
        until = trio.current_time() + AUDIT_SECONDS
        with trio.move_on_at(until + 5):
            async with self.client() as client:
                # Tasks submit others meanwhile.
                while task_id is not None:
                    pause = LOOK_SECONDS
                    while True:
                        try:
                            result = await client.get_task_result(task_id)
                        except ControlPlaneUnreachable:
                            break
                        if result is None or result.status.is_terminal:
                            break
                        if trio.current_time() > until:
                            break
                        await trio.sleep(pause)
                        pause *= 1.5
                    task_id = self._next_acked()

    def _next_acked(self) -> str | None:
        for event in self.history.events[self._audited :]:
            self._audited += 1
            if event.kind is Kind.ACK and event.task not in self._sought:
                self._sought.add(event.task)
                return event.task
        return None

    async def _rest(self) -> None:
        """Wait until nobody holds anything any more, and write down what is left."""
        until = trio.current_time() + REST_SECONDS
        plane = self._planes[self._processes[CONTROL].pid]
        while any(plane.held().values()) and trio.current_time() < until:  # noqa: ASYNC110
            await trio.sleep(LOOK_SECONDS * 10)
        for what, count in plane.held().items():
            if count:
                self.history.write(Kind.HOLDS, process=CONTROL, what=what, order=count)

    # --- processes ---

    def _spawn(self, name: str, role: str) -> None:
        skew = 0.0
        if self.plan.skew:
            skew = self._stream(f"skew/{name}").uniform(-1, 1) * self.plan.skew
        process = Process(name, role, next(self._pids), skew)
        process.simulation = self
        self._processes[name] = process
        self.history.write(Kind.SPAWN, process=name, pid=process.pid)
        self._nursery.start_soon(self._live, process)

    async def _live(self, process: Process) -> None:
        current_process.set(process)
        with process.scope:
            try:
                match process.role:
                    case "control_plane":
                        await self._run_control_plane(process)
                    case "subworker":
                        await self._run_subworker(process)
                    case "listener":
                        await listen(self.network, self._recorder, process)
                    case _:
                        await self._run_client(process)
            except* StoreUnavailable:
                # As a service manager does with a process that cannot start.
                self.crash(process.name)
                self._nursery.start_soon(self._restart_later, process.name)
            except* Exception as errors:  # noqa: BLE001 - becomes a violation
                if not process.is_dead:
                    self._note_broken(process, errors)
                    self.crash(process.name)
        if process.is_draining and not (process.is_dead or self._is_over):
            self._note_drained(process)

    def _note_drained(self, process: Process) -> None:
        run = f"drain {process.pid}"
        self._recorder.write(process, Kind.EXIT, what="drained")
        self.history.write(Kind.HEAL, process=process.name, run=run)
        process.is_dead = True
        self.network.kill(process, silently=False)
        self._nursery.start_soon(self._restart_later, process.name)

    async def _restart_later(self, name: str) -> None:
        current_process.set(None)
        await trio.sleep(RESTART_SECONDS)
        self.restart(name)

    def _note_broken(self, process: Process, error: BaseException, what: str = "") -> None:
        if self._is_over:
            return
        while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
            error = error.exceptions[0]
        text = f"{type(error).__name__}: {error}"
        self._recorder.write(process, Kind.BROKEN, what=what, error=text)

    async def _run_control_plane(self, process: Process) -> None:
        def written(changes: Changes) -> None:
            self._recorder.note_written(process, changes)

        store: Store
        if self.plan.is_durable:
            store = SimulatedStore(
                self.disk,
                process,
                written,
                is_blocking=self.plan.is_blocking,
                crash=lambda: self.crash(process.name),
            )
        else:
            store = RecordedMemoryStore(process, written)
        plane = SimulatedControlPlane(
            process,
            self._recorder,
            worker_id=CONTROL,
            base_address=BASE,
            discovery_address=DISCOVERY,
            max_queued=self.plan.max_queued,
            subworker_management_port=MANAGEMENT_PORT,
            executes=False,
            store=store,
            auth=False,
            transport=self.network,
            registry=self.registry,
            rng=self._stream(f"retries/{process.pid}"),
            wall_clock=process.wall_clock,
        )
        self._planes[process.pid] = plane
        process.drain = plane.drain
        async with trio.open_nursery() as nursery:
            await nursery.start(plane.run)
            self._recorder.write(process, Kind.LINK, what="open")

    async def _run_subworker(self, process: Process) -> None:
        choices = self._stream(f"lanes/{process.pid}")
        async with trio.open_nursery() as nursery:
            inside = Nursery(nursery, process)

            def make_lane(kind: str, slots: int, sink: Any, accepted: Any) -> SimulatedLane:
                return SimulatedLane(
                    inside,
                    slots,
                    RecordedSink(sink, self._recorder, process, kind, slots),
                    accepted,
                    kind=kind,
                    random=choices,
                    seconds=self._seconds,
                    deaths=self.plan.deaths,
                    wall=process.wall_clock,
                )

            worker = SimulatedSubWorker(
                process,
                self._recorder,
                worker_id=process.name,
                control_plane_address=MANAGEMENT,
                concurrency=self.plan.slots,
                connect_timeout=LONG,
                auth=False,
                transport=self.network,
                registry=self.registry,
                make_lane=make_lane,
                new_session_id=self._new_session_id,
            )
            process.drain = worker.drain
            await worker.run()

    def _seconds(self, name: str) -> float:
        """How long an attempt of a ``def`` function takes."""
        if self._durations.random() < self.plan.long:
            return self._durations.choice([1.0, 8.0, 35.0]) * self._durations.random()
        return self._durations.expovariate(1 / self.plan.work)

    async def _run_client(self, process: Process) -> None:
        async with self.client() as client:
            await self._programs[process.name](client)
        process.is_done = True
        self._programs_left.discard(process.name)
        self._ended.set()
        self._ended = trio.Event()

    # --- ids ---

    def _new_session_id(self) -> bytes:
        return self._ids.randbytes(16)

    def _new_task_id(self) -> str:
        return str(UUID(int=self._ids.getrandbits(128), version=4))


def check_registry(registry: Registry) -> None:
    """Refuse tasks that cannot be simulated.

    Raises:
      ConfigurationError: one needs an event loop of asyncio's.
    """
    for function in registry.functions():
        if function.lane_for("trio") == "asyncio" or function.loop_for("trio") == "asyncio":
            raise ConfigurationError(
                f"task {function.name!r} has backend='asyncio', and a simulation runs in "
                f"Trio alone: leave the backend open, or write it on anyio"
            )
