"""``local()``: a control plane, its lanes and a client in one process, without ports.

For scripts, notebooks and the tests of programs that use FastWorker. It is the
real thing but for the sockets: under Trio all of it lives in the caller's
loop, under asyncio the control plane has a thread with a Trio loop.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

import anyio
import trio

from fastworker._call_settings import CallSettings
from fastworker._client import Client
from fastworker._client_session import ClientSession
from fastworker._control_plane import ControlPlaneWorker
from fastworker._core._callback_addresses import ANYWHERE
from fastworker._core._messages import Callback, TaskSpec
from fastworker._hosting import host_on_trio
from fastworker._lanes import make_lane
from fastworker._lanes._abc import Lane
from fastworker._models import SerializationFormat
from fastworker._modules import load_task_modules
from fastworker._registry import Registry, registry
from fastworker._task_function import Backend
from fastworker._transport._abc import Link, Listener
from fastworker._transport._in_process import InProcessNetwork
from fastworker._transport._nng import NngTransport
from fastworker._unwrapped import unwrapped

# Names in a network of its own, to which nobody else can listen or dial.
_BASE_ADDRESS: Final = "tcp://127.0.0.1:5555"
_MANAGEMENT_PORT: Final = 5560
_DISCOVERY_ADDRESS: Final = "tcp://127.0.0.1:5550"
# There is nobody to look for, and a busy machine takes its time to start threads.
_CONNECT_SECONDS: Final = 30.0
# Goodbyes take half a second each at most, and callbacks on their way one.
_STOP_SECONDS: Final = 3.0
# Threads whose function has returned end within less; for others it is in vain.
_JOIN_SECONDS: Final = 0.1


def local(
    *task_modules: str,
    concurrency: int | None = None,
    backend: Backend | None = None,
    timeout: float | None = None,
    serialization_format: SerializationFormat | str | None = None,
    registry: Registry = registry,
) -> Client:
    """Make a client with a control plane of its own, in this process and without ports.

    ``async with fastworker.local("mytasks") as client:`` starts everything and
    stops it; ``await client.start()`` and ``client.stop()`` do as well. Runs
    under Trio and asyncio. What it can run is what ``@task`` has registered by
    then: in these modules, in any that were imported, and in ``__main__``.

    Leaving the block takes about two seconds at most. Tasks that have not
    ended are given up; what is left of them are threads whose function does
    not return, and those hold no process.

    Args:
      task_modules: modules of task functions, such as "mytasks", found from
        the current folder as with ``python -m``.
      concurrency: how many ``def`` tasks run at once (default: the number of
        cores); for ``async def`` tasks 100, or this if it is larger.
      backend: the loop for ``async def`` tasks that name none, by default Trio.
      timeout: seconds, by default 30, for which the client waits.
      serialization_format: how arguments and results travel, by default JSON:
        what could not travel between processes is refused here as well.
      registry: where the task functions are looked up.

    Raises:
      ConfigurationError: a module is missing or failed, or a value cannot be
        used. Nothing was started.
    """
    load_task_modules(task_modules, into=registry)
    return _LocalClient(
        concurrency=concurrency,
        backend=backend,
        timeout=timeout,
        serialization_format=serialization_format,
        registry=registry,
    )


class _LocalClient(Client):
    def __init__(
        self,
        *,
        concurrency: int | None,
        backend: Backend | None,
        timeout: float | None,
        serialization_format: SerializationFormat | str | None,
        registry: Registry,
    ) -> None:
        network = _Network()
        super().__init__(
            _BASE_ADDRESS,
            serialization_format,
            timeout,
            connect_timeout=_CONNECT_SECONDS,
            auth=False,
            transport=network,
            registry=registry,
        )
        self._lanes: list[Lane] = []
        self._plane = ControlPlaneWorker(
            "local",
            _BASE_ADDRESS,
            _DISCOVERY_ADDRESS,
            self.serialization_format,
            _MANAGEMENT_PORT,
            concurrency=concurrency,
            backend=backend,
            auth=False,
            # Whoever submits here is this program, which could go there by itself.
            callback_allow=[ANYWHERE],
            transport=network,
            registry=registry,
            make_lane=self._make_lane,
        )

    def __repr__(self) -> str:
        return super().__repr__().replace(f"Client of {self.discovery_address}", "local Client")

    async def _run_session(self, session: ClientSession) -> None:
        async with anyio.create_task_group() as group:
            plane_scope = anyio.CancelScope(shield=True)
            try:
                # A matter of milliseconds. Half a start could not be stopped gently.
                with anyio.CancelScope(shield=True):
                    await group.start(self._run_plane, session, plane_scope)
                await super()._run_session(session)
            finally:
                self._plane.stop()
                plane_scope.deadline = anyio.current_time() + _STOP_SECONDS

    async def _run_plane(
        self,
        session: ClientSession,
        scope: anyio.CancelScope,
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        try:
            # Outlives a cancellation, for the goodbyes; _run_session() ends it.
            with scope:
                await host_on_trio(self._run_on_trio, task_status)
        except Exception as error:
            # Told before the session hears that it is cancelled for it.
            self._break(session, unwrapped(error))
            raise

    async def _run_on_trio(self, task_status: trio.TaskStatus[None]) -> None:
        try:
            await self._plane.run(task_status=task_status)
        finally:
            end = time.monotonic() + _JOIN_SECONDS
            while self._lanes:
                self._lanes.pop().join(max(0.0, end - time.monotonic()))

    def _make_lane(self, *args: Any) -> Lane:
        lane = make_lane(*args)
        self._lanes.append(lane)
        return lane

    def _spec(
        self,
        task: str | Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        settings: CallSettings,
        callback: Callback | None = None,
        *,
        attached: bool,
        is_stream: bool = False,
    ) -> TaskSpec:
        spec = super()._spec(
            task, args, kwargs, settings, callback, attached=attached, is_stream=is_stream
        )
        # A control plane waits a while for workers that may know the name.
        # Here is everybody who ever will.
        self._registry.find(spec.name)
        return spec


class _Network:
    """In this process, except for callbacks: their listeners are anywhere."""

    def __init__(self) -> None:
        self._inside = InProcessNetwork()
        self._outside = NngTransport()

    def dial(self, address: str) -> Link:
        return self._inside.dial(address)

    def dial_pair(self, address: str) -> Link:
        return self._outside.dial_pair(address)

    def listen(self, address: str) -> Listener:
        return self._inside.listen(address)
