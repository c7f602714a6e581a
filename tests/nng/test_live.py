"""The live feed over real WebSockets: what arrives, who is let in, and who is dropped."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable

import pytest
import trio
from trio_websocket import ConnectionClosed, ConnectionRejected, WebSocketConnection

from fastworker import Client
from fastworker.dashboard import _server
from fastworker.dashboard._outbox import MAX_WAITING, MAX_WAITING_BYTES
from tests.nng.live import TOKEN, Feed, new_plane, open_feed, read

pytestmark = [pytest.mark.nng, pytest.mark.trio]

WATCH = json.dumps({"type": "watch", "tasks": True})


async def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    with trio.fail_after(seconds):
        while not condition():
            await trio.sleep(0.02)


async def flood(client: Client, name: str) -> None:
    """As many tasks as there is room for, for ever."""
    async with trio.open_nursery() as nursery:

        async def submit() -> None:
            while True:
                await client.submit_task(name)

        for _ in range(50):
            nursery.start_soon(submit)


# --- what arrives ---


async def test_a_browser_gets_a_snapshot_and_then_an_update_each_second() -> None:
    async with open_feed() as (feed, client), feed.connect() as websocket:
        snapshot = await read(websocket)
        assert snapshot["type"] == "snapshot"
        assert snapshot["overview"]["worker_id"] == "plane"
        assert [worker["is_inside"] for worker in snapshot["workers"]] == [True]
        await client.submit_task("nothing")
        with trio.fail_after(5):
            while (await read(websocket, "update"))["overview"]["succeeded"] != 1:
                pass


async def test_a_change_of_a_task_is_seen_within_a_second() -> None:
    async with open_feed() as (feed, client), feed.connect() as websocket:
        await websocket.send_message(WATCH)
        await read(websocket, "snapshot")
        await trio.sleep(0.5)
        await client.submit_task("nothing")
        began = time.monotonic()
        while not (tasks := (await read(websocket, "update"))["tasks"]):
            pass
        assert time.monotonic() - began < 1
        assert tasks[-1]["name"] == "nothing"


async def test_a_flood_of_tasks_is_told_in_a_few_messages_a_second() -> None:
    async with open_feed() as (feed, client), feed.connect() as websocket:
        await websocket.send_message(WATCH)
        await read(websocket, "snapshot")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(flood, client, "nothing")
            await trio.sleep(0.5)
            count = 0
            told = 0
            with trio.move_on_after(4):
                while True:
                    message = await read(websocket)
                    count += 1
                    assert len(message["tasks"]) <= 200
                    told += len(message["tasks"]) + message["dropped"]
            nursery.cancel_scope.cancel()
        assert 4 <= count <= 4 * 4 + 1
        assert told > 200


async def test_browsers_are_told_of_a_restart_and_go_on() -> None:
    async with open_feed() as (feed, _), feed.connect() as websocket:
        snapshot = await read(websocket, "snapshot")
        address = feed.plane.discovery_address
        feed.plane.stop()
        lost = await read(websocket, "lost")
        assert "does not answer" in lost["message"]
        await until(lambda: feed.plane.epoch == 0)
        feed.plane = new_plane(address)
        await feed.nursery.start(feed.plane.run)
        update = await read(websocket, "update")
        assert update["overview"]["epoch"] != snapshot["overview"]["epoch"]


# --- who is let in ---


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"Authorization": "Bearer wrong"}, 401),
        ({"Authorization": f"Bearer {TOKEN}", "Origin": "http://elsewhere.example"}, 403),
        ({"Authorization": f"Bearer {TOKEN}", "Origin": "null"}, 403),
        ({"Cookie": "{name}={cookie}"}, 403),
        ({"Cookie": "{name}={cookie}", "Origin": "http://127.0.0.1:1"}, 403),
        ({"Cookie": "{name}=" + TOKEN, "Origin": "{origin}"}, 401),
    ],
)
async def test_whoever_is_not_let_in_gets_no_websocket(
    headers: dict[str, str], status: int
) -> None:
    async with open_feed() as (feed, _):
        with pytest.raises(ConnectionRejected) as refusal:
            async with feed.connect(filled(headers, feed)):
                pass
        assert refusal.value.status_code == status


async def test_another_host_name_gets_no_websocket() -> None:
    # X13: a name that somebody else's DNS points here.
    async with open_feed() as (feed, _):
        async with feed.connect(host="localhost") as websocket:
            await read(websocket, "snapshot")
        with pytest.raises(ConnectionRejected) as refusal:
            async with feed.connect(host="attacker.example"):
                pass
        assert refusal.value.status_code == 421


async def test_a_page_of_ours_is_let_in_by_its_cookie() -> None:
    async with open_feed() as (feed, _):
        headers = {"Cookie": "{name}={cookie}", "Origin": "{origin}"}
        async with feed.connect(filled(headers, feed)) as websocket:
            await read(websocket, "snapshot")


def filled(headers: dict[str, str], feed: Feed) -> dict[str, str]:
    token = feed.dashboard.token
    known = {
        "name": token.cookie_name,
        "cookie": token.cookie,
        "origin": f"http://127.0.0.1:{feed.port}",
    }
    return {name: value.format(**known) for name, value in headers.items()}


async def test_nothing_is_compressed_for_a_page_of_the_same_machine() -> None:
    async with open_feed() as (feed, _):
        headers = {
            "Authorization": f"Bearer {TOKEN}",
            "Sec-WebSocket-Extensions": "permessage-deflate",
        }
        # This client would refuse what it has not asked for itself.
        async with feed.connect(headers) as websocket:
            await read(websocket, "snapshot")


# --- who is dropped ---


@pytest.mark.parametrize(
    "message",
    ["", "[", '{"type": "drain"}', '{"type": "watch", "tasks": 1}', "x" * 2000, "[" * 900],
)
async def test_whoever_sends_something_else_is_closed(message: str) -> None:
    async with open_feed() as (feed, _), feed.connect() as websocket:
        await websocket.send_message(message)
        assert await close_code(websocket) == 1008


async def test_a_binary_message_is_refused() -> None:
    async with open_feed() as (feed, _), feed.connect() as websocket:
        await websocket.send_message(b'{"type": "watch"}')
        assert await close_code(websocket) == 1008


async def test_a_message_that_is_far_too_large_is_refused() -> None:
    async with open_feed() as (feed, _), feed.connect() as websocket:
        # What the sockets hold: nobody waits for a server that reads no more.
        await websocket.send_message("x" * 100_000)
        assert await close_code(websocket) in (1008, 1009)
        await until(lambda: not feed.dashboard.hub._connections)


async def close_code(websocket: WebSocketConnection) -> int:
    with trio.fail_after(10):
        try:
            while True:
                await websocket.get_message()
        except ConnectionClosed as closed:
            return 0 if closed.reason is None else closed.reason.code


async def wait_dropped(feed: Feed, *, is_gone: bool = False) -> None:
    """Wait until the first browser, which is deaf, is given up; or until it is gone, too."""
    hub = feed.dashboard.hub
    await until(lambda: bool(hub._connections))
    slow, outbox = next(iter(hub._connections.items()))
    with trio.fail_after(60):
        while slow in hub._connections if is_gone else not slow.is_too_slow:
            assert len(outbox._messages) <= MAX_WAITING
            assert outbox._size <= MAX_WAITING_BYTES or len(outbox._messages) == 1
            await trio.sleep(0.05)
    assert is_gone or not outbox._messages


async def with_noise(feed: Feed, client: Client, work: Callable[[], Awaitable[None]]) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(flood, client, "loud")
        await work()
        nursery.cancel_scope.cancel()


async def test_a_browser_that_never_reads_is_dropped_and_others_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_server, "WRITE_SECONDS", 1.0)
    async with open_feed() as (feed, client), feed.deaf():
        await with_noise(feed, client, lambda: wait_dropped(feed, is_gone=True))
        async with feed.connect() as websocket:
            await read(websocket, "snapshot")
            await until(lambda: len(feed.dashboard.hub._connections) == 1)
            assert not feed.dashboard.hub._broadcast.wants_tasks
            await read(websocket, "update")


async def test_a_browser_that_reads_too_late_is_told_why_it_was_dropped() -> None:
    async with open_feed() as (feed, client), feed.deaf() as stream:
        await with_noise(feed, client, lambda: wait_dropped(feed))
        last = b""
        with trio.fail_after(20):
            while data := await stream.receive_some(2**16):
                last = (last + data)[-200:]
        reason = b"too much waited to be read"
        assert last.endswith((1013).to_bytes(2, "big") + reason)


async def test_a_server_that_stops_closes_all_sockets_even_one_that_does_not_read() -> None:
    async with open_feed() as (feed, client), feed.deaf() as stream:
        async with feed.connect() as websocket:
            await with_noise(feed, client, lambda: wait_dropped(feed))
            feed.serving.cancel()
            assert await close_code(websocket) in (1001, 1006)
            await until(lambda: not feed.dashboard.hub._connections, 5)
        with trio.fail_after(5):
            try:
                while await stream.receive_some(2**16):
                    pass
            except trio.BrokenResourceError:
                pass


async def test_after_a_restart_of_the_server_the_charts_go_on_for_whoever_connects_again() -> (
    None
):
    async with open_feed() as (feed, _):
        async with feed.connect() as websocket:
            for _ in range(3):
                await read(websocket, "update")
            feed.serving.cancel()
            assert await close_code(websocket) in (1001, 1006)
        await feed.start_dashboard(feed.port)
        async with feed.connect() as websocket:
            await read(websocket, "snapshot")
            await read(websocket, "update")
