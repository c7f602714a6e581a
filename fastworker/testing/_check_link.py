"""One conformance suite for every transport.

The network in memory may stand in for sockets in all other tests only because
both pass these checks, on Trio and on asyncio.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from random import Random

import anyio
import anyio.lowlevel

from fastworker._errors import AddressInUse, LinkClosed, LocalProtocolError
from fastworker._transport._abc import (
    MAX_FRAME_BYTES,
    Link,
    Listener,
    PipeClosed,
    PipeEvent,
    PipeOpened,
    Route,
    Transport,
)
from fastworker.testing._bench import Bench, News, race, request, round_trip, send

# Long for one check, short for somebody who waits for a hanging one.
_PATIENCE = 20.0
# What a session may have under way; more may be dropped on the way back.
_WINDOW = 16
_LARGEST_ITEM = 16 * 1024 * 1024


async def check_link(
    make_transport: Callable[[], Transport], make_address: Callable[[], str]
) -> None:
    """Run every check on new links and listeners.

    The network must not have been told to lose anything.

    Args:
      make_transport: Called once for every check.
      make_address: Returns an address to listen on, another one at every
          call; port 0 will do.

    Raises:
      AssertionError: a rule of the contract is broken; the note names the check.
    """
    for check in _CHECKS:
        failure: Exception | None = None
        async with anyio.create_task_group() as group:
            bench = Bench(make_transport(), make_address, group)
            try:
                with anyio.fail_after(_PATIENCE):
                    await check(bench)
            except (AssertionError, LinkClosed, TimeoutError) as exc:
                exc.add_note(f"in check_link: {check.__name__}")
                failure = exc
            group.cancel_scope.cancel()
        if failure is not None:
            raise failure


async def _frames_go_there_and_back(bench: Bench) -> None:
    async with bench.pair() as (listener, link):
        for number in range(50):
            await round_trip(listener, link, b"%d" % number)


async def _replies_follow_their_routes(bench: Bench) -> None:
    async with bench.pair() as (listener, one):
        with bench.link(listener.address) as two:
            await two.wait_sendable()
            to_one = await request(listener, one, b"one")
            to_two = await request(listener, two, b"two")
            assert to_one.pipe != to_two.pipe
            listener.send(Route(to_one.pipe, b""), b"the header leads it, too")
            listener.send(to_two, b"for two")
            listener.send(to_one, b"for one")
            assert await one.receive() == [b"for one"]
            assert await two.receive() == [b"for two"]


async def _a_reply_may_come_late_and_more_than_once(bench: Bench) -> None:
    async with bench.pair() as (listener, link):
        first = await request(listener, link, b"first")
        second = await request(listener, link, b"second")
        replies: list[bytes] = []
        for route, reply in ((second, b"2"), (first, b"1"), (first, b"1 again")):
            listener.send(route, reply)
        while len(replies) < 3:
            replies += await link.receive()
        assert replies == [b"2", b"1", b"1 again"]


async def _order_is_kept_on_one_pipe(bench: Bench) -> None:
    frames = [b"%d" % number for number in range(2000)]
    async with bench.pair() as (listener, link):
        received: list[bytes] = []

        async def send_all() -> None:
            for frame in frames:
                await send(link, frame)

        async with anyio.create_task_group() as group:
            group.start_soon(send_all)
            while len(received) < len(frames):
                received += [frame for _, frame in await listener.receive()]
        assert received == frames

        # On the way back no more is sent than a session has slots.
        for start in range(0, 320, _WINDOW):
            window = frames[start : start + _WINDOW]
            route = await request(listener, link, b"next")
            for frame in window:
                listener.send(route, frame)
            replies: list[bytes] = []
            while len(replies) < len(window):
                replies += await link.receive()
            assert replies == window


async def _batches_are_bounded(bench: Bench) -> None:
    async with bench.pair() as (listener, link):
        sizes: list[int] = []

        async def send_all() -> None:
            for _ in range(24):
                await send(link, bytes(1024 * 1024))

        async with anyio.create_task_group() as group:
            group.start_soon(send_all)
            while sum(sizes) < 24:
                sizes.append(len(await listener.receive()))
        assert max(sizes) <= 5


async def _frames_may_be_small_or_large(bench: Bench) -> None:
    async with bench.pair() as (listener, link):
        for size in (1, 2, 1000, 65536, 1024 * 1024 + 1, _LARGEST_ITEM):
            frame = Random(size).randbytes(size)  # noqa: S311
            route = await request(listener, link, frame)
            listener.send(route, frame)
            assert await link.receive() == [frame]


async def _too_large_a_frame_is_refused_by_the_sender(bench: Bench) -> None:
    async with bench.pair() as (listener, link):
        route = await round_trip(listener, link, b"before")
        frame = bytes(MAX_FRAME_BYTES + 1)
        for send in (link.send_nowait, lambda frame: listener.send(route, frame)):
            try:
                send(frame)
            except LocalProtocolError:
                pass
            else:
                raise AssertionError("a frame over the limit was accepted")
        await round_trip(listener, link, b"after")


async def _both_sides_hear_of_pipes(bench: Bench) -> None:
    with bench.listener() as listener:
        at_listener = News(listener)
        with bench.link(listener.address) as link:
            at_link = News(link)
            await at_link.opened()
            pipe = await at_listener.opened()
            assert (await request(listener, link, b"x")).pipe == pipe
        assert await at_listener.closed() == pipe


async def _a_link_comes_back_when_its_listener_does(bench: Bench) -> None:
    with bench.listener() as listener:
        address = listener.address
        with bench.link(address) as link:
            news = News(link)
            first = await news.opened()
            await round_trip(listener, link, b"before")
            listener.close()
            assert await news.closed() == first
            assert not link.send_nowait(b"to nobody")
            with bench.listener(address) as successor:
                assert await news.opened() != first
                await round_trip(successor, link, b"after")


async def _a_link_may_be_older_than_its_listener(bench: Bench) -> None:
    address = bench.unused_address()
    with bench.link(address) as link:
        for _ in range(5):
            assert not link.send_nowait(b"to nobody")
            await anyio.lowlevel.checkpoint()
        with bench.listener(address) as listener:
            await link.wait_sendable()
            # Nothing that was refused before arrives now.
            await round_trip(listener, link, b"first")


async def _an_address_is_listened_on_once(bench: Bench) -> None:
    with bench.listener() as listener:
        try:
            bench.transport.listen(listener.address).close()
        except AddressInUse:
            pass
        else:
            raise AssertionError("two listeners have the same address")
        with bench.link(listener.address) as link:
            await round_trip(listener, link, b"still served")


async def _close_wakes_all_who_wait(bench: Bench) -> None:
    woken: list[str] = []

    async def expect_closed(name: str, wait: Callable[[], Awaitable[object]]) -> None:
        try:
            while True:
                await wait()
        except LinkClosed:
            woken.append(name)

    address = bench.unused_address()
    with bench.listener(runs=False) as listener, bench.link(address) as link:
        waits: dict[str, Callable[[], Awaitable[object]]] = {
            "link.receive": link.receive,
            "link.receive_pipe_events": link.receive_pipe_events,
            "link.wait_sendable": link.wait_sendable,
            "listener.receive": listener.receive,
            "listener.receive_pipe_events": listener.receive_pipe_events,
            "listener.run_backlog": listener.run_backlog,
        }
        async with anyio.create_task_group() as group:
            for name, wait in waits.items():
                group.start_soon(expect_closed, name, wait)
            await anyio.wait_all_tasks_blocked()
            assert not woken
            link.close()
            listener.close()
        assert sorted(woken) == sorted(waits)
        woken.clear()
        for name, wait in waits.items():  # and afterwards it is said at once
            await expect_closed(name, wait)
        assert len(woken) == len(waits)


async def _close_wakes_who_waits_for_a_busy_pipe(bench: Bench) -> None:
    async with bench.pair() as (_, link):
        closed = anyio.Event()

        async def send_until_closed() -> None:
            frame = bytes(1024 * 1024)
            try:
                while True:  # nobody reads, so this has to wait
                    await send(link, frame)
            except LinkClosed:
                closed.set()

        async with anyio.create_task_group() as group:
            group.start_soon(send_until_closed)
            await anyio.wait_all_tasks_blocked()
            link.close()
            await closed.wait()


async def _close_may_be_called_again(bench: Bench) -> None:
    async with bench.pair() as (listener, link):
        route = await request(listener, link, b"x")
        for _ in range(2):
            link.close()
            listener.close()
        link.drop_pipe()
        listener.close_pipe(route.pipe)
        listener.send(route, b"to nobody")
        try:
            link.send_nowait(b"x")
        except LinkClosed:
            pass
        else:
            raise AssertionError("a closed link accepted a frame")


async def _close_pipe_closes_just_that_one(bench: Bench) -> None:
    async with bench.pair() as (listener, one):
        news_of_one = News(one)
        await news_of_one.opened()
        with bench.link(listener.address) as two:
            await two.wait_sendable()
            of_two = (await round_trip(listener, two, b"two")).pipe
            of_one = (await round_trip(listener, one, b"one")).pipe
            listener.close_pipe(of_one)
            await news_of_one.closed()
            await news_of_one.opened()
            again = (await round_trip(listener, one, b"one again")).pipe
            assert again not in (of_one, of_two), "a pipe id was used again"
            assert (await round_trip(listener, two, b"two again")).pipe == of_two
            listener.close_pipe(of_one)  # long gone, and no error


async def _drop_pipe_makes_the_link_dial_again(bench: Bench) -> None:
    async with bench.pair() as (listener, link):
        at_link, at_listener = News(link), News(listener)
        for _ in range(3):
            pipe = await at_link.opened()
            other_end = await at_listener.opened()
            await round_trip(listener, link, b"x")
            link.drop_pipe()
            assert await at_link.closed() == pipe
            assert await at_listener.closed() == other_end
        await at_link.opened()
        await round_trip(listener, link, b"x")


async def _frames_to_a_dead_route_vanish(bench: Bench) -> None:
    with bench.listener() as listener:
        news = News(listener)
        with bench.link(listener.address) as link:
            await news.opened()
            dead = await request(listener, link, b"I am leaving")
        await news.closed()
        for _ in range(300):
            listener.send(dead, b"where are you?")
        listener.send(Route(dead.pipe, b""), b"no header at all")
        with bench.link(listener.address) as link:
            # More was sent above than the network takes at once.
            await round_trip(listener, link, b"still served")
            listener.send(dead, b"where are you?")
            await round_trip(listener, link, b"and nobody else got it")


async def _nothing_arrives_after_the_news_of_a_closed_pipe(bench: Bench) -> None:
    with bench.listener() as listener:
        news = News(listener)
        with bench.link(listener.address) as link:
            await news.opened()
            for number in range(10):
                await send(link, b"%d" % number)
        await news.closed()
        with bench.link(listener.address) as link:
            await round_trip(listener, link, b"from another pipe")


async def _cancelled_waits_lose_no_frame(bench: Bench) -> None:
    random = Random(1)  # noqa: S311
    frames = [b"%d" % number for number in range(400)]
    async with bench.pair() as (listener, link):
        echoed: list[bytes] = []
        returned: list[bytes] = []

        async def echo() -> None:
            for route, frame in await listener.receive():
                echoed.append(frame)
                listener.send(route, frame)

        async def take() -> None:
            returned.extend(await link.receive())

        async def send_all() -> None:
            for number, frame in enumerate(frames):
                while number - len(returned) >= _WINDOW:
                    await anyio.lowlevel.checkpoint()
                while not link.send_nowait(frame):
                    await race(random, link.wait_sendable)

        async def race_until(log: list[bytes], wait: Callable[[], Awaitable[None]]) -> None:
            while len(log) < len(frames):
                await race(random, wait)

        async with anyio.create_task_group() as group:
            group.start_soon(send_all)
            group.start_soon(race_until, echoed, echo)
            group.start_soon(race_until, returned, take)
        assert echoed == frames
        assert returned == frames


async def _cancelled_waits_lose_no_pipe_event(bench: Bench) -> None:
    random = Random(2)  # noqa: S311
    pipes = 6
    with bench.listener() as listener, bench.link(listener.address) as link:

        async def watch(end: Link | Listener, log: list[PipeEvent]) -> None:
            def is_over() -> bool:
                return sum(isinstance(event, PipeClosed) for event in log) >= pipes

            async def take() -> None:
                log.extend(await end.receive_pipe_events())
                if end is link and isinstance(log[-1], PipeOpened) and not is_over():
                    link.drop_pipe()

            while not is_over():
                await race(random, take)
                if random.random() < 0.1 and not is_over():
                    await take()  # a virtual clock moves only while all wait

        at_link: list[PipeEvent] = []
        at_listener: list[PipeEvent] = []
        async with anyio.create_task_group() as group:
            group.start_soon(watch, link, at_link)
            group.start_soon(watch, listener, at_listener)
        for log in (at_link, at_listener):
            opened = [event.pipe for event in log if isinstance(event, PipeOpened)]
            closed = [event.pipe for event in log if isinstance(event, PipeClosed)]
            assert len(set(opened)) == len(opened)
            assert closed[:pipes] == opened[:pipes]
            news = [(type(event), event.pipe) for event in log]
            for pipe in closed:
                assert news.index((PipeOpened, pipe)) < news.index((PipeClosed, pipe))


_CHECKS: tuple[Callable[[Bench], Awaitable[None]], ...] = (
    _frames_go_there_and_back,
    _replies_follow_their_routes,
    _a_reply_may_come_late_and_more_than_once,
    _order_is_kept_on_one_pipe,
    _batches_are_bounded,
    _frames_may_be_small_or_large,
    _too_large_a_frame_is_refused_by_the_sender,
    _both_sides_hear_of_pipes,
    _a_link_comes_back_when_its_listener_does,
    _a_link_may_be_older_than_its_listener,
    _an_address_is_listened_on_once,
    _close_wakes_all_who_wait,
    _close_wakes_who_waits_for_a_busy_pipe,
    _close_may_be_called_again,
    _close_pipe_closes_just_that_one,
    _drop_pipe_makes_the_link_dial_again,
    _frames_to_a_dead_route_vanish,
    _nothing_arrives_after_the_news_of_a_closed_pipe,
    _cancelled_waits_lose_no_frame,
    _cancelled_waits_lose_no_pipe_event,
)
