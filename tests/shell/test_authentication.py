"""Tokens end to end: who is let in, who is not, and what each may do."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from fastworker import (
    AuthenticationError,
    AuthTokens,
    Cancelled,
    Client,
    ConfigurationError,
    ControlPlaneUnreachable,
    LinkBroken,
    NeverStarted,
    NotPermitted,
)
from fastworker._core._stored import TasksAsked
from fastworker.testing import Faults
from tests.kept_store import KeptStore
from tests.shell.world import DISCOVERY, World, open_world, settle

pytestmark = pytest.mark.trio

CLIENT, WORKER, OPERATOR = ("token of a client.", "token of a worker.", "token, an operator")
ALL = AuthTokens(client=CLIENT, worker=WORKER, operator=OPERATOR)
AS_CLIENT = AuthTokens(client=CLIENT)
AS_WORKER = AuthTokens(worker=WORKER)
AS_OPERATOR = AuthTokens(operator=OPERATOR)
WRONG = AuthTokens.for_all("a token that nobody else has")


@asynccontextmanager
async def guarded(**settings: Any) -> AsyncIterator[World]:
    """A world whose control plane wants tokens, with one worker that has its own."""
    async with trio.open_nursery() as nursery:
        world = World(nursery, 0)
        await world.start_plane(auth=ALL, **settings)
        await world.start_worker(auth=AS_WORKER)
        yield world
        nursery.cancel_scope.cancel()
    assert world.count_links() == 0


async def test_a_task_goes_there_and_back_when_everybody_has_a_token(
    autojump_clock: trio.abc.Clock,
) -> None:
    async with guarded() as world, world.client(auth=AS_CLIENT) as client:
        assert (await client.submit_task("add", (1, 2))).result == 3
        statistics = world.plane.statistics()
        assert statistics is not None
        assert statistics.admission.admitted >= 2
        assert statistics.admission.wrong_tokens == 0
        assert statistics.admission.refused_messages == 0


async def test_one_token_for_all_roles_will_do(autojump_clock: trio.abc.Clock) -> None:
    one = AuthTokens.for_all("one token for everybody")
    async with trio.open_nursery() as nursery:
        world = World(nursery, 0)
        await world.start_plane(auth=one, executes=True)
        await world.start_worker(auth=one)
        async with world.client(auth=one) as client:
            assert (await client.submit_task("add", (1, 2))).result == 3
            assert (await client._operations.overview()).workers == 2
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("auth", "words"),
    [
        (WRONG, "does not accept this token for the role operator"),
        (AuthTokens(client=WORKER), "does not accept this token for the role client"),
        (AuthTokens(client=OPERATOR), "does not accept this token for the role client"),
        (AuthTokens(operator=CLIENT), "does not accept this token for the role operator"),
    ],
    ids=["wrong", "worker's as client", "operator's as client", "client's as operator"],
)
async def test_a_client_with_a_wrong_token_hears_so_at_once(
    auth: AuthTokens, words: str, autojump_clock: trio.abc.Clock
) -> None:
    async with guarded() as world:
        began = trio.current_time()
        with pytest.raises(AuthenticationError, match=words):
            await world.new_client(auth=auth).start()
        assert trio.current_time() - began < 1.0
        assert world.count_clients() == 0


async def test_a_worker_with_a_wrong_token_hears_so(autojump_clock: trio.abc.Clock) -> None:
    async with guarded() as world:
        for token in (CLIENT, OPERATOR, "another token, of nobody"):
            with pytest.raises(AuthenticationError, match="the role worker"):
                await world.new_worker("w2", auth=AuthTokens(worker=token)).run()
        assert len(world.subworkers()) == 1


async def test_a_role_without_a_token_is_let_in_by_none(autojump_clock: trio.abc.Clock) -> None:
    async with trio.open_nursery() as nursery:
        world = World(nursery, 0)
        await world.start_plane(auth=AS_CLIENT)
        with pytest.raises(AuthenticationError, match="has no token for the role operator"):
            await world.new_client(auth=AS_OPERATOR).start()
        nursery.cancel_scope.cancel()


async def test_a_peer_without_a_token_is_told_what_it_needs(
    autojump_clock: trio.abc.Clock,
) -> None:
    async with guarded() as world:
        with pytest.raises(LinkBroken, match="--auth-token-file"):
            await world.new_client(auth=False).start()
        with pytest.raises(LinkBroken, match="--auth-token-file"):
            await world.new_worker("w2", auth=False).run()
        assert world.count_clients() == 0
        assert len(world.subworkers()) == 1


async def test_a_peer_with_a_token_refuses_a_control_plane_without(
    autojump_clock: trio.abc.Clock,
) -> None:
    async with open_world(workers=0) as world:
        with pytest.raises(AuthenticationError, match="runs without authentication"):
            await world.new_client(auth=AS_CLIENT).start()
        with pytest.raises(AuthenticationError, match="runs without authentication"):
            await world.new_worker(auth=AS_WORKER).run()
        assert world.count_clients() == 0
        assert not world.subworkers()


async def test_a_control_plane_that_is_not_there_is_still_unreachable(
    autojump_clock: trio.abc.Clock,
) -> None:
    async with trio.open_nursery() as nursery:
        world = World(nursery, 0)
        with pytest.raises(ControlPlaneUnreachable):
            await world.new_client(auth=AS_CLIENT).start()


async def test_a_client_comes_back_after_its_pipe_was_lost(
    autojump_clock: trio.abc.Clock,
) -> None:
    async with guarded() as world, world.client(auth=AS_CLIENT) as client:
        handle = await client.submit("wait", 1)
        await settle()
        for address in (world.plane.base_address, world.plane.management_address):
            world.network.reset_pipes(address)
        world.let_go(1)
        assert await handle.result() == 1
        assert world.ran == [1]


async def test_peers_come_back_to_a_control_plane_that_was_started_again(
    autojump_clock: trio.abc.Clock,
) -> None:
    async with guarded() as world, world.client(auth=AS_CLIENT) as client:
        assert (await client.submit_task("add", (1, 2))).result == 3
        with world.restarting():
            await settle()
            await world.start_plane(auth=ALL)
        assert (await client.submit_task("add", (3, 4))).result == 7


@pytest.mark.parametrize("seed", range(10))
async def test_a_network_that_loses_and_doubles_keeps_nobody_out(
    seed: int, autojump_clock: trio.abc.Clock
) -> None:
    async with trio.open_nursery() as nursery:
        world = World(nursery, seed)
        world.network.faults = Faults(loss=0.2, duplicate=0.2)
        await world.start_plane(auth=ALL)
        await world.start_worker(auth=AS_WORKER, connect_timeout=100.0)
        async with world.client(auth=AS_CLIENT, connect_timeout=100.0, timeout=300) as client:
            for number in range(5):
                assert (await client.submit_task("add", (number, 1))).result == number + 1
        nursery.cancel_scope.cancel()
    assert len(world.ran) >= 5


async def test_a_client_sees_and_changes_what_is_an_operator_s_only_as_one(
    autojump_clock: trio.abc.Clock,
) -> None:
    async with guarded() as world:
        async with world.client(auth=AS_CLIENT) as client:
            for question in (
                lambda: client._operations.overview(),
                lambda: client._operations.list_tasks(TasksAsked()),
                lambda: client._operations.workers(),
                lambda: client._operations.drain_worker("w1"),
            ):
                with pytest.raises(NotPermitted, match="is for operators"):
                    await question()
            with pytest.raises(NotPermitted, match="EVENTS is for operators"):
                async with client.events() as changes:
                    await anext(aiter(changes))
            assert (await client.submit_task("add", (1, 2))).result == 3
            statistics = world.plane.statistics()
            assert statistics is not None
            assert statistics.closed_sessions == 0  # it was not even asked
        async with world.client(auth=AS_OPERATOR) as client:
            assert (await client._operations.overview()).workers == 1
            assert (await client.submit_task("add", (1, 2))).result == 3


async def test_a_client_cancels_its_own_tasks_and_an_operator_everybody_s(
    autojump_clock: trio.abc.Clock,
) -> None:
    async with (
        guarded() as world,
        world.client(auth=AS_CLIENT) as ann,
        world.client(auth=AS_CLIENT) as eve,
        world.client(auth=AS_OPERATOR) as olga,
    ):
        handle = await ann.submit("wait", "ann's")
        own = await ann.submit("wait", "ann's too")
        await settle()
        with pytest.raises(NotPermitted, match="the role operator"):
            await eve.cancel(handle.id)
        await settle()
        assert world.stopped == []
        assert isinstance(await olga.cancel(handle.id), Cancelled)
        assert world.stopped == ["ann's"]
        assert isinstance(await ann.cancel(own.id), (Cancelled, NeverStarted))


async def test_a_control_plane_that_had_tokens_does_not_start_open_by_accident(
    autojump_clock: trio.abc.Clock,
) -> None:
    """X23: and the store knows it also if the tokens' file has gone."""
    store = KeptStore()
    async with trio.open_nursery() as nursery:
        world = World(nursery, 0)
        await world.start_plane(store=store)
        with world.restarting():  # as long as nobody had any, nobody misses them
            await settle()
            await world.start_plane(store=store, auth=ALL)
        with world.restarting():
            await settle()
            with (
                trio.fail_after(5),
                pytest.raises(ConfigurationError, match="now there is no token"),
            ):
                await world.new_plane(store=store).run()
            assert not world.network._listeners
            await world.start_plane(store=store, insecure=True)
        with world.restarting():  # that was said for once, not for ever
            await settle()
            with (
                trio.fail_after(5),
                pytest.raises(ConfigurationError, match="now there is no token"),
            ):
                await world.new_plane(store=store).run()
        nursery.cancel_scope.cancel()


async def test_tokens_that_are_good_for_nothing_are_refused_before_anything_starts() -> None:
    with pytest.raises(ConfigurationError, match="no token for operator or client"):
        Client(DISCOVERY, auth=AS_WORKER)
