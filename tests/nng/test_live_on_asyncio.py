"""The live feed of a dashboard that is mounted in somebody's app, under asyncio."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import hypercorn.asyncio
import pytest
import trio
from hypercorn.config import Config
from starlette.applications import Starlette
from starlette.routing import Mount
from trio_websocket import ConnectionClosed

from fastworker import SyncClient
from fastworker.dashboard import Dashboard
from tests.facade.plane import Plane, running_plane
from tests.nng.live import TOKEN, connect_live, read
from tests.ports import free_port

pytestmark = [pytest.mark.nng]


@contextmanager
def mounted(plane: Plane, port: int) -> Iterator[None]:
    """Serve an app that has the dashboard below ``/ops``, in a thread."""
    config = Config()
    config.bind = [f"127.0.0.1:{port}"]
    config.errorlog = None
    config.graceful_timeout = 0.5
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def main() -> None:
        dashboard = Dashboard(plane.address, token=TOKEN)
        app = Starlette(routes=[Mount("/ops", app=dashboard.app)])
        try:
            await hypercorn.asyncio.serve(app, config, shutdown_trigger=stop.wait)
        finally:
            await dashboard.aclose()
        assert len(asyncio.all_tasks()) == 1

    thread = threading.Thread(target=loop.run_until_complete, args=(main(),))
    thread.start()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        assert not thread.is_alive()
        loop.close()


async def wait_served(port: int) -> None:
    with trio.fail_after(10):
        while True:
            try:
                stream = await trio.open_tcp_stream("127.0.0.1", port)
            except OSError:
                await trio.sleep(0.05)
                continue
            await stream.aclose()
            return


def test_in_an_app_under_asyncio_a_browser_sees_tasks_and_everything_ends_with_it() -> None:
    port = free_port()

    async def watch() -> None:
        await wait_served(port)
        async with connect_live(port, path="/ops/api/live") as websocket:
            await websocket.send_message(json.dumps({"type": "watch", "tasks": True}))
            snapshot = await read(websocket)
            assert snapshot["type"] == "snapshot"
            assert snapshot["overview"]["worker_id"] == "plane"
            await trio.to_thread.run_sync(submit)
            while not (tasks := (await read(websocket, "update"))["tasks"]):
                pass
            assert {task["name"] for task in tasks} == {"add"}

    def submit() -> None:
        with SyncClient(plane.address) as client:
            assert client.submit_task("add", (1, 2)).result == 3

    with running_plane() as plane, mounted(plane, port):
        trio.run(watch)


def test_a_browser_that_is_there_when_the_app_ends_is_closed() -> None:
    port = free_port()

    async def watch(stop: trio.Event) -> None:
        await wait_served(port)
        async with connect_live(port, path="/ops/api/live") as websocket:
            await read(websocket, "snapshot")
            stop.set()
            with pytest.raises(ConnectionClosed), trio.fail_after(10):
                await read(websocket, "never")

    async def main() -> None:
        stop = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch, stop)
            with running_plane() as plane:
                serving = mounted(plane, port)
                serving.__enter__()
                await stop.wait()
                await trio.to_thread.run_sync(serving.__exit__, None, None, None)

    trio.run(main)
