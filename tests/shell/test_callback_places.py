"""X19: callbacks go to no other place than is allowed, whatever a name stands for later."""

from __future__ import annotations

import socket
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from fastworker import ConfigurationError
from fastworker._callback_places import RESOLVE_SECONDS, is_of_this_machine, place_to_dial
from fastworker._core._callback_addresses import CallbackRules, parse_allowed, parse_ip
from fastworker._errors import LinkError
from tests.shell.callback_listener import HERE, callbacks, listening, open_plane
from tests.shell.world import BASE, settle

pytestmark = pytest.mark.trio


class Resolver(trio.abc.HostnameResolver):
    """A name server that answers each question with the next of its answers."""

    def __init__(self, *answers: list[str], delay: float = 0.0) -> None:
        self.answers = list(answers)
        self.delay = delay
        self.asked: list[object] = []
        trio.socket.set_custom_hostname_resolver(self)

    async def getaddrinfo(  # type: ignore[override]
        self, host: object, port: object, family: int = 0, type: int = 0, *_: int
    ) -> list[object]:
        self.asked.append(host.decode() if isinstance(host, bytes) else host)
        await trio.sleep(self.delay)
        places = self.answers.pop(0)
        if not places:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, type, 6, "", (place, 0)) for place in places]

    async def getnameinfo(self, *_: object) -> tuple[str, str]:
        raise NotImplementedError


def rules(*allowed: str) -> CallbackRules:
    return CallbackRules(map(parse_allowed, allowed), [5555], is_here=is_of_this_machine)


@pytest.mark.parametrize(
    "address",
    ["tcp://192.0.2.7:9000", "tcp://hooks.example.com:9000", BASE, "tcp://[::1]:5550"],
)
async def test_a_task_whose_callback_may_not_go_there_is_refused_and_never_runs(
    address: str, autojump_clock: MockClock
) -> None:
    async with open_plane() as world, world.client() as client:
        with pytest.raises(ConfigurationError, match="callback_address=") as caught:
            await client.delay_with_callback("add", address, 1, 2)
        assert address in str(caught.value)
        assert (await client.submit_task("add", (3, 4))).result == 7
        assert world.ran == [(3, 4)]
        assert world.tasks().refused == 1
        assert callbacks(world).due == 0


async def test_of_a_batch_only_the_misdirected_are_refused(autojump_clock: MockClock) -> None:
    async with open_plane() as world, world.client() as client:
        refused: list[int] = []

        async def submit(number: int) -> None:
            address = HERE if number % 2 else "tcp://192.0.2.7:9000"
            try:
                await client.delay_with_callback("add", address, number, 0)
            except ConfigurationError:
                refused.append(number)

        async with listening(world.network) as listener:
            async with trio.open_nursery() as nursery:
                for number in range(10):
                    nursery.start_soon(submit, number)
            await trio.sleep(5)
            assert len(listener.heard) == 5
        assert sorted(refused) == [0, 2, 4, 6, 8]
        assert sorted(ran for ran, _ in world.ran) == [1, 3, 5, 7, 9]


async def test_a_port_that_the_control_plane_was_told_of_is_its_own(
    autojump_clock: MockClock,
) -> None:
    async with open_plane() as world, world.client() as client:
        await client.delay_with_callback("add", "tcp://127.0.0.1:8080", 1, 2)
        world.plane.keep_callbacks_from(8080)
        with pytest.raises(ConfigurationError, match="a port of this control plane itself"):
            await client.delay_with_callback("add", "tcp://127.0.0.1:8080", 1, 2)


async def test_a_list_lets_them_go_there(autojump_clock: MockClock) -> None:
    there = "tcp://192.0.2.7:9000"
    async with open_plane(callback_allow=["192.0.2.0/24"]) as world, world.client() as client:
        async with listening(world.network, there) as listener:
            task_id = await client.delay_with_callback("add", there, 1, 2)
            await settle()
        assert listener.task_ids == [task_id]


async def test_a_name_is_resolved_once_and_the_address_that_was_checked_is_connected_to(
    autojump_clock: MockClock,
) -> None:
    # X19 in docs/faults.md.
    resolver = Resolver(["192.0.2.7"], ["127.0.0.1"])
    async with (
        open_plane(callback_allow=["hooks.example.com"]) as world,
        world.client() as client,
        listening(world.network, "tcp://192.0.2.7:9000") as listener,
    ):
        for number in range(3):
            await client.delay_with_callback("add", "tcp://hooks.example.com:9000", number, 1)
        await trio.sleep(5)
        assert len(listener.heard) == 3
    assert resolver.asked == ["hooks.example.com"]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (["127.0.0.1"], "is a port of this control plane itself"),
        (["169.254.169.254"], "link-local"),
        ([], "does not resolve"),
    ],
)
async def test_a_listed_name_that_leads_to_us_or_nowhere_is_tried_again_and_never_connected(
    answer: list[str], words: str, autojump_clock: MockClock
) -> None:
    Resolver(*[answer] * 10)
    address = "tcp://hooks.example.com:5555"
    async with (
        open_plane(callback_allow=["hooks.example.com"]) as world,
        world.client() as client,
    ):
        await client.delay_with_callback("add", address, 1, 2)
        await trio.sleep(600)
        [parked] = callbacks(world).parked_callbacks
        assert words in parked.error
        assert callbacks(world).connections == 0


async def test_of_several_addresses_the_first_that_may_be_connected_to_is(
    autojump_clock: MockClock,
) -> None:
    Resolver(["169.254.169.254", "192.0.2.7"])
    place = await place_to_dial("tcp://hooks:80", rules("hooks"))
    assert place == "tcp://192.0.2.7:80"


async def test_a_resolver_that_does_not_answer_is_not_waited_for(
    autojump_clock: MockClock,
) -> None:
    Resolver(["192.0.2.7"], delay=1e9)
    with pytest.raises(LinkError, match="did not resolve within 5 s"):
        await place_to_dial("tcp://hooks:80", rules("hooks"))
    assert trio.current_time() == pytest.approx(RESOLVE_SECONDS)


@pytest.mark.parametrize(
    ("host", "is_here"), [("127.0.0.1", True), ("127.9.9.9", True), ("192.0.2.7", False)]
)
async def test_a_machine_knows_its_own_addresses(host: str, is_here: bool) -> None:
    place: Any = parse_ip(host)
    assert is_of_this_machine(place) is is_here
