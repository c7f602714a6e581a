"""Callbacks over real sockets, to listeners that know nothing of FastWorker."""

from __future__ import annotations

import base64
import json
import os
import pickle
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import pynng
import pytest
import trio

from fastworker import Client, ConfigurationError, ControlPlaneWorker
from fastworker._core import _callbacks
from fastworker._core._callbacks import CallbackStatistics
from fastworker._registry import Registry
from fastworker._transport import _callback_sender
from fastworker._transport._nng import NngTransport
from fastworker._transport._nng_socket import PAIR_MAX_FRAME_BYTES, RawSocket
from tests.ports import free_address

pytestmark = [pytest.mark.nng, pytest.mark.trio]

LISTENER = Path(__file__).with_name("pair_listener.py")
ANY_PORT = "tcp://127.0.0.1:0"
NO_HOST = "no-such-host.invalid"
MIB = 1024 * 1024


class Listener:
    """A process that listens; ``heard`` is what it has printed so far, decoded."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.heard: list[Any] = []
        self._news = trio.Event()

    async def read(self) -> None:
        assert self.process.stdout is not None
        async with trio.lowlevel.FdStream(os.dup(self.process.stdout.fileno())) as stream:
            buffer = b""
            async for chunk in stream:
                *lines, buffer = (buffer + chunk).split(b"\n")
                self.heard += [json.loads(line) for line in lines if line != b"listening"]
                self._news.set()
                self._news = trio.Event()

    async def hear(self, count: int = 1, within: float = 10.0) -> list[Any]:
        """Wait until it has heard so many."""
        with trio.move_on_after(within):
            while len(self.heard) < count:
                await self._news.wait()
        assert len(self.heard) >= count, f"{len(self.heard)} of {count} after {within} s"
        return self.heard

    async def hear_of(self, task_id: str, within: float = 10.0) -> Any:
        """Wait until it has heard of this task."""
        with trio.fail_after(within):
            while True:
                for payload in self.heard:
                    if payload["task_id"] == task_id:
                        return payload
                await self._news.wait()


def start_listener(address: str, program: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, str(program), address], stdout=subprocess.PIPE, bufsize=0
    )


@asynccontextmanager
async def listening(address: str, program: Path = LISTENER) -> AsyncIterator[Listener]:
    with start_listener(address, program) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"listening\n"
            listener = Listener(process)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(listener.read)
                yield listener
                nursery.cancel_scope.cancel()
        finally:
            process.kill()


class Cluster:
    """A control plane that runs tasks, and a client, in this process."""

    def __init__(self, plane: ControlPlaneWorker, client: Client) -> None:
        self.plane = plane
        self.client = client

    async def call(self, address: str, task: str = "add", *args: Any, **more: Any) -> str:
        return await self.client.delay_with_callback(task, address, *args, **more)

    @property
    def callbacks(self) -> CallbackStatistics:
        statistics = self.plane.statistics()
        assert statistics is not None
        return statistics.callbacks

    async def until(self, condition: str, within: float = 10.0) -> None:
        """Wait until the numbers are so; nobody tells when they change."""
        with trio.fail_after(within):
            while not eval(condition, {}, {"it": self.callbacks}):
                await trio.sleep(0.02)


@asynccontextmanager
async def open_cluster(format: str = "json") -> AsyncIterator[Cluster]:
    registry = Registry()

    def add(a: Any, b: Any) -> Any:
        return a + b

    def fail(message: str) -> None:
        raise ValueError(message)

    def text(length: int) -> str:
        return "x" * length

    for function in (add, fail, text):
        registry.register(function)
    async with trio.open_nursery() as nursery:
        plane = ControlPlaneWorker(
            "plane", ANY_PORT, ANY_PORT, format, 0,
            concurrency=2, registry=registry, rng=Random(0), callback_allow=[NO_HOST],
        )  # fmt: skip
        await nursery.start(plane.run)
        async with Client(plane.discovery_address, format) as client:
            yield Cluster(plane, client)
        plane.stop()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundredth of all the time between and during tries."""
    for name in ("FIRST_BACKOFF", "MAX_BACKOFF", "IDLE_SECONDS"):
        monkeypatch.setattr(_callbacks, name, getattr(_callbacks, name) / 100)
    for name in ("CONNECT_SECONDS", "SEND_SECONDS"):
        monkeypatch.setattr(_callback_sender, name, 0.2)


async def test_a_listener_hears_of_a_success_and_of_a_failure() -> None:
    address = free_address()
    async with listening(address) as listener, open_cluster() as cluster:
        good = await cluster.call(address, "add", 1, b=2, callback_data={"order": 7})
        bad = await cluster.call(address, "fail", "no luck")
        success, failure = await listener.hear(2)
    if success["task_id"] != good:  # they ran side by side
        success, failure = failure, success
    assert success["task_id"] == good
    assert (success["status"], success["result"], success["error"]) == ("success", 3, None)
    assert success["callback_data"] == {"order": 7}
    assert success["started_at"] <= success["completed_at"]
    assert success["completed_at"].endswith("+00:00")
    assert failure["task_id"] == bad
    assert (failure["status"], failure["result"]) == ("failure", None)
    assert failure["error"] == "ValueError: no luck"
    assert failure["callback_data"] is None


async def test_a_pickled_result_arrives_in_base64() -> None:
    address = free_address()
    async with listening(address) as listener, open_cluster("pickle") as cluster:
        await cluster.call(address, "add", 1, 2j)
        [payload] = await listener.hear()
    assert payload["result"] is None
    assert payload["result_format"] == "pickle"
    assert pickle.loads(base64.b64decode(payload["result_base64"])) == 1 + 2j


async def test_a_large_result_arrives() -> None:
    address = free_address()
    async with listening(address) as listener, open_cluster() as cluster:
        await cluster.call(address, "text", 15 * MIB)
        [payload] = await listener.hear()
    assert payload["result"] == "x" * 15 * MIB


async def test_a_dead_address_delays_nothing_else() -> None:
    address, dead = free_address(), free_address()
    async with listening(address) as listener, open_cluster() as cluster:
        for number in range(10):
            await cluster.call(dead, "add", 0, number)
        for number in range(10):
            await cluster.call(address, "add", 1, number)
        await listener.hear(10, within=1)
        assert (await cluster.client.submit_task("add", (1, 2))).result == 3
        assert cluster.callbacks.queued >= 10


async def test_a_listener_that_comes_up_late_hears_of_it() -> None:
    address = free_address()
    async with open_cluster() as cluster:
        task_id = await cluster.call(address, "add", 1, 2)
        await trio.sleep(1)
        async with listening(address) as listener:
            assert (await listener.hear_of(task_id))["result"] == 3
            await cluster.until("it.delivered == 1")


async def test_a_listener_that_restarts_between_two_hears_of_both() -> None:
    address = free_address()
    async with open_cluster() as cluster:
        async with listening(address) as listener:
            first = await cluster.call(address, "add", 1, 2)
            await listener.hear_of(first)
            await cluster.until("it.delivered == 1")
        second = await cluster.call(address, "add", 3, 4)
        async with listening(address) as listener:
            assert (await listener.hear_of(second))["result"] == 7


async def test_a_hundred_callbacks_to_one_listener_arrive_in_order() -> None:
    address = free_address()
    async with listening(address) as listener, open_cluster() as cluster:
        ids = []
        for number in range(100):
            # They leave in the order of the tasks' ends.
            ids.append(await cluster.call(address, "add", 0, number))
            while cluster.client.get_result(ids[-1]) is None:
                await trio.sleep(0.001)
        heard = await listener.hear(100)
        assert [payload["task_id"] for payload in heard] == ids
        await cluster.until("it.delivered == 100")
        assert cluster.callbacks.failed_deliveries == 0


@pytest.mark.usefixtures("impatient")
async def test_after_ten_tries_a_callback_is_parked_and_shown() -> None:
    address = free_address()
    async with open_cluster() as cluster:
        task_id = await cluster.call(address, "add", 1, 2)
        await cluster.until("it.parked == 1")
        statistics = cluster.callbacks
    [parked] = statistics.parked_callbacks
    assert (parked.task_id, parked.address, parked.tries) == (task_id, address, 10)
    assert (statistics.queued, statistics.failed_deliveries) == (0, 10)


async def test_a_listener_with_another_peer_hears_of_it_when_that_one_has_left() -> None:
    # H23 in docs/faults.md.
    address = free_address()
    async with listening(address) as listener, open_cluster() as cluster:
        with pynng.Pair0(dial=address) as other:
            other.send(b'{"task_id": "of the other"}')
            await listener.hear_of("of the other")
            task_id = await cluster.call(address, "add", 1, 2)
            await cluster.until("it.failed_deliveries >= 1")
            assert cluster.callbacks.delivered == 0
            assert len(listener.heard) == 1
        assert (await listener.hear_of(task_id))["delivery"] > 1
        await cluster.until("it.delivered == 1")


@pytest.mark.usefixtures("impatient")
async def test_a_listener_that_is_stopped_gets_it_when_it_goes_on() -> None:
    address = free_address()
    async with listening(address) as listener, open_cluster() as cluster:
        first = await cluster.call(address, "add", 1, 2)
        await listener.hear_of(first)
        os.kill(listener.process.pid, signal.SIGSTOP)
        try:
            task_id = await cluster.call(address, "text", 14 * MIB)
            await cluster.until("it.failed_deliveries >= 1")
            assert cluster.callbacks.delivered == 1
        finally:
            os.kill(listener.process.pid, signal.SIGCONT)
        await cluster.until("it.delivered + it.parked == 2")
        assert task_id in [payload["task_id"] for payload in await listener.hear(2)]


@pytest.mark.usefixtures("impatient")
async def test_whoever_else_listens_there_is_no_delivery() -> None:
    async with open_cluster() as cluster:
        with socket.create_server(("127.0.0.1", 0)) as mute, pynng.Rep0() as rep:
            wrong = free_address()
            rep.listen(wrong)
            silent = f"tcp://127.0.0.1:{mute.getsockname()[1]}"
            for address in (silent, wrong, f"tcp://{NO_HOST}:9000"):
                await cluster.call(address, "add", 1, 2)
            await cluster.until("it.failed_deliveries >= 6")
            assert cluster.callbacks.delivered == 0
        assert (await cluster.client.submit_task("add", (1, 2))).result == 3


async def test_no_callback_goes_to_a_port_of_the_control_plane_or_to_anywhere_else() -> None:
    # X19 in docs/faults.md.
    async with open_cluster() as cluster:
        plane = cluster.plane
        own = plane.base_address, plane.discovery_address, plane.management_address
        elsewhere = "tcp://192.0.2.7:9000", "tcp://169.254.169.254:80", "tcp://other.invalid:1"
        for address in (*own, *elsewhere):
            with pytest.raises(ConfigurationError, match="callback_address="):
                await cluster.call(address, "add", 1, 2)
        assert cluster.callbacks.due == 0


@pytest.mark.usefixtures("impatient")
async def test_a_listener_that_talks_without_end_harms_nobody() -> None:
    address = free_address()
    async with open_cluster() as cluster:
        with pynng.Pair0(listen=address, send_timeout=100, recv_timeout=5_000) as chatty:
            await cluster.call(address, "add", 1, 2)
            assert json.loads(await trio.to_thread.run_sync(chatty.recv))["result"] == 3
            for size in (10, 4_000, 100_000):
                for _ in range(200):
                    try:
                        chatty.send(bytes(size), block=False)
                    except pynng.TryAgain:
                        break
            await cluster.call(address, "add", 3, 4)
            with trio.fail_after(10):
                while json.loads(await trio.to_thread.run_sync(chatty.recv))["result"] != 7:
                    pass
        assert (await cluster.client.submit_task("add", (1, 2))).result == 3


@pytest.mark.usefixtures("impatient")
async def test_descriptors_return_to_where_they_were() -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    addresses = [free_address() for _ in range(20)]
    async with open_cluster() as cluster:
        before = descriptors()
        async with listening(addresses[0]) as listener:
            for address in addresses:
                await cluster.call(address, "add", 1, 2)
            await listener.hear()
            await cluster.until("it.queued == 0", within=30)
            await cluster.until("it.connections == 0")
        with trio.fail_after(10):
            while descriptors() > before:
                await trio.sleep(0.05)
        assert cluster.callbacks.parked == 19


async def test_the_socket_has_the_options_that_the_rules_ask_for() -> None:
    raw = RawSocket.open_pair()
    try:
        options = raw._socket
        assert options.recv_max_size == PAIR_MAX_FRAME_BYTES  # H1
        assert options.recv_buffer_size == 1
        assert options.send_buffer_size == 0
        assert options.tcp_keepalive  # H19
        assert options.reconnect_time_max == 1000  # H24
        assert not raw.send(b"", b"x"), "it queued a frame for nobody"
    finally:
        raw.close()


async def test_dialing_for_a_callback_never_waits() -> None:  # H13
    with socket.create_server(("127.0.0.1", 0)) as mute:
        before = trio.current_time()
        link = NngTransport().dial_pair(f"tcp://127.0.0.1:{mute.getsockname()[1]}")
        assert trio.current_time() - before < 0.5
        assert not link.send_nowait(b"x")
        link.close()
