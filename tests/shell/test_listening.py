"""A control plane that others could reach is refused at its start, or warned of."""

from __future__ import annotations

import logging
import socket

import pytest
import trio
import trio.testing

from fastworker import Client, ConfigurationError, ControlPlaneWorker, SubWorker
from fastworker._listening import RESOLVE_SECONDS
from fastworker._transport._memory import MemoryNetwork

pytestmark = pytest.mark.trio

BASE = "tcp://plane.example.org:5555"


class Resolver(trio.abc.HostnameResolver):
    """A name server that the test is."""

    def __init__(self, *hosts: str, delay: float = 0.0) -> None:
        self._hosts = hosts
        self._delay = delay
        trio.socket.set_custom_hostname_resolver(self)

    async def getaddrinfo(  # type: ignore[override]
        self, host: object, port: object, family: int = 0, type: int = 0, *_: int
    ) -> list[object]:
        await trio.sleep(self._delay)
        if not self._hosts:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, type, 6, "", (host, 0)) for host in self._hosts]

    async def getnameinfo(self, *_: object) -> tuple[str, str]:
        raise NotImplementedError


def new_plane(base_address: str = BASE, *, insecure: bool = False) -> ControlPlaneWorker:
    return ControlPlaneWorker(
        base_address=base_address,
        transport=MemoryNetwork(),
        insecure=insecure,
        executes=False,
    )


async def listens(plane: ControlPlaneWorker) -> bool:
    async with trio.open_nursery() as nursery:
        await nursery.start(plane.run)
        is_up = plane.epoch > 0
        nursery.cancel_scope.cancel()
    return is_up


async def test_a_name_that_stands_for_this_machine_only_is_listened_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    Resolver("127.0.0.1", "::1")
    assert await listens(new_plane())
    assert caplog.records == []


async def test_a_name_that_stands_for_more_is_refused_and_nothing_is_left() -> None:
    # X1 in docs/faults.md.
    Resolver("127.0.0.1", "10.1.2.3")
    plane = new_plane()
    with pytest.raises(
        ConfigurationError,
        match=r"base_address=tcp://plane\.example\.org:5555 \(127\.0\.0\.1, 10\.1\.2\.3\), sub",
    ):
        await plane.run()
    assert plane.epoch == 0
    Resolver("127.0.0.1")
    assert await listens(plane)


@pytest.mark.parametrize("base_address", ["tcp://0.0.0.0:5555", BASE])
async def test_with_insecure_it_listens_and_warns_in_one_line(
    base_address: str, caplog: pytest.LogCaptureFixture
) -> None:
    Resolver("10.1.2.3")
    assert await listens(new_plane(base_address, insecure=True))
    [warning] = [r for r in caplog.records if r.levelno == logging.WARNING]
    text = warning.getMessage()
    assert text.startswith("INSECURE: whoever can connect to base_address=tcp://")
    assert "\n" not in text


async def test_a_name_that_does_not_resolve_is_named() -> None:
    """N10: at the start of a listener this is an error at once."""
    Resolver()
    with pytest.raises(ConfigurationError, match=r"'plane\.example\.org'.* does not resolve"):
        await new_plane(insecure=True).run()


async def test_a_resolver_that_does_not_answer_is_not_waited_for(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """N10: nobody hangs in the name server."""
    Resolver("127.0.0.1", delay=1000)
    started_at = trio.current_time()
    with pytest.raises(ConfigurationError, match="did not answer within 5 s"):
        await new_plane().run()
    assert trio.current_time() - started_at == RESOLVE_SECONDS


async def test_an_address_that_was_set_after_the_check_is_checked_as_well() -> None:
    plane = new_plane("tcp://127.0.0.1:5555")
    plane.base_address = "tcp://0.0.0.0:5555"
    with pytest.raises(ConfigurationError, match=r"base_address=tcp://0\.0\.0\.0:5555"):
        await plane.run()


async def test_workers_and_clients_refuse_pickle_from_elsewhere_when_they_are_made() -> None:
    with pytest.raises(ConfigurationError, match="serialization_format=PICKLE"):
        SubWorker("w1", "tcp://10.0.0.1:5560", serialization_format="pickle")
    with pytest.raises(ConfigurationError, match="serialization_format=PICKLE"):
        Client("tcp://10.0.0.1:5550", "pickle")
    with pytest.raises(ConfigurationError, match="serialization_format=PICKLE"):
        ControlPlaneWorker(
            base_address="tcp://0.0.0.0:5555", serialization_format="pickle", insecure=True
        )
