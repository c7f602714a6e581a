"""Callbacks that cannot be, by mistake or on purpose, and those that barely can."""

from __future__ import annotations

import json
import re
from functools import partial
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from fastworker import (
    ConfigurationError,
    ControlPlaneUnreachable,
    NotEncodable,
    PayloadTooLarge,
    _client_callback,
    _submitter,
)
from fastworker._core._messages import Callback
from tests.shell.callback_listener import HERE, listening
from tests.shell.world import open_world, settle

pytestmark = pytest.mark.trio


@pytest.mark.parametrize(
    "address",
    [
        "ipc:///tmp/x",
        "inproc://x",
        "ws://127.0.0.1:9000",
        "tls+tcp://127.0.0.1:9000",
        "memory://x",
        "http://169.254.169.254/",
        "tcp://127.0.0.1:0",
        "tcp://127.0.0.1:65536",
        "tcp://127.0.0.1",
        "tcp://127.0.0.1:9000/path",
        "127.0.0.1:9000",
        " tcp://127.0.0.1:9000",
        "tcp://127.0.0.1:9000\n",
        "tcp://" + "h" * 300 + ":9000",
        "",
        None,
        9000,
    ],
)
async def test_an_address_that_is_no_tcp_port_is_refused_and_nothing_is_sent(
    address: Any, autojump_clock: MockClock
) -> None:
    async with open_world() as world, world.client() as client:
        with pytest.raises(ConfigurationError) as caught:
            await client.delay_with_callback("add", address, 1, 2)
        assert isinstance(caught.value, ValueError)
        assert repr(address)[:50].rstrip("'") in str(caught.value)
        assert client.statistics().waiting == 0
        assert world.tasks().submitted == 0


def _without_address(value: object) -> str:
    """A name that is the same in every process."""
    return re.sub(r" at 0x\w+", "", str(value))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"a": {"b": [1, object()]}}, r"callback_data\['a'\]\['b'\]\[1\] is of type object"),
        ({"a": float("nan")}, r"callback_data\['a'\] is nan"),
        ({1: 2}, "callback_data has the key 1 of type int"),
        ({"a": "\ud800"}, r"callback_data\['a'\] holds a lone surrogate"),
        ([1], "callback_data is of type list; pass a dict"),
        ("text", "callback_data is of type str; pass a dict"),
    ],
    ids=_without_address,
)
async def test_data_that_json_cannot_say_is_refused_with_its_path(
    data: Any, words: str, autojump_clock: MockClock
) -> None:
    async with open_world() as world, world.client(serialization_format="pickle") as client:
        with pytest.raises(NotEncodable, match=words):
            await client.delay_with_callback("add", HERE, 1, 2, callback_data=data)
        assert world.tasks().submitted == 0


async def test_data_of_more_than_256_kib_is_refused(autojump_clock: MockClock) -> None:
    async with open_world() as world, world.client() as client:
        async with listening(world.network) as listener:
            fits = {"a": "x" * (256 * 1024 - 8)}
            await client.delay_with_callback("add", HERE, 1, 2, callback_data=fits)
            await settle()
            assert listener.heard[0]["callback_data"] == fits
        too_long = {"a": "x" * (256 * 1024 - 7)}
        with pytest.raises(PayloadTooLarge, match="callback_data: 262,145 bytes"):
            await client.delay_with_callback("add", HERE, 1, 2, callback_data=too_long)
        assert world.tasks().submitted == 1


@pytest.mark.parametrize("address", ["ipc:///etc/x", "inproc://x", "tcp://h:0", "tcp://h:1\n"])
async def test_a_client_that_sends_another_address_loses_its_session_and_nobody_else_does(
    address: str, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        open_world() as world,
        world.client() as other,
        world.client(retries=0, timeout=1) as client,
    ):
        monkeypatch.setattr(_submitter, "make_callback", lambda *_: Callback(address, "e"))
        with pytest.raises(ControlPlaneUnreachable):
            await client.delay_with_callback("add", address, 1, 2)
        statistics = world.plane.statistics()
        assert statistics is not None
        assert statistics.closed_sessions >= 1
        assert statistics.callbacks.due == 0
        assert (await other.submit_task("add", (1, 2))).result == 3


async def test_bytes_that_are_no_json_cannot_forge_what_is_told(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    forged = b'1,"status":"failure"'
    monkeypatch.setattr(_client_callback, "encode_json_value", lambda *_: forged)
    async with (
        open_world() as world,
        world.client() as client,
        listening(world.network) as listener,
    ):
        await client.delay_with_callback("add", HERE, 1, 2, callback_data={})
        await settle()
        [payload] = listener.heard
    assert payload["status"] == "success"
    assert payload["callback_data"] is None
    assert json.dumps(payload).count("status") == 1


async def test_submits_are_cut_by_what_their_callbacks_weigh(
    autojump_clock: MockClock,
) -> None:
    async with (
        open_world() as world,
        world.client() as client,
        listening(world.network) as listener,
    ):
        data = {"a": "x" * 200 * 1024}
        world.cut_off(world.plane.base_address)
        await settle()
        async with trio.open_nursery() as nursery:
            for number in range(100):  # more than one message may hold
                nursery.start_soon(
                    partial(
                        client.delay_with_callback, "add", HERE, number, 0, callback_data=data
                    )
                )
            await settle()
            world.network.heal(world.plane.base_address)
        await trio.sleep(20)
        assert len(listener.heard) == 100
