"""TLS on real sockets: who is let in, who is not, and what both sides say then.

X9 and H19 to H21 in docs/faults.md.
"""

from __future__ import annotations

import dataclasses
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from typing import NamedTuple

import anyio
import pytest

from fastworker._certificates import Issued
from fastworker._core._pipes import PipeOpened
from fastworker._core._roles import EVERYTHING, NOTHING, PeerRole
from fastworker._errors import ConfigurationError, LinkClosed
from fastworker._transport._nng import NngTransport
from fastworker._transport._silent_peers import HANDSHAKE_SECONDS, LOOK_SECONDS
from fastworker._transport._tls import TlsContext
from tests.certificates import Certificates

pytestmark = [pytest.mark.nng, pytest.mark.anyio]

SECURE = "tls+tcp://127.0.0.1:0"
PLAIN = "tcp://127.0.0.1:0"

made = Certificates()
PLANE = made.plane()
CLIENT = made.of("fastworker-client")


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Case(NamedTuple):
    """Two ends that must not come together, and what each of them says of it."""

    name: str
    listens: TlsContext | None
    dials: TlsContext | None
    trouble: str
    warning: str = "failed in the TLS handshake"


def plane(issued: Issued = PLANE) -> TlsContext:
    return made.context(issued)


def client(issued: Issued | None = CLIENT) -> TlsContext:
    return made.context(issued)


REFUSED = "the control plane refused our certificate"
NOT_ACCEPTED = "the certificate of the control plane is not accepted: "
NO_CERTIFICATE = "the control plane has no certificate that is one for a server"
NO_SERVER = made.of("fastworker-worker")

CASES = [
    Case("expired", plane(), client(made.of("fastworker-client", days_ago=40)), f"{REFUSED}"),
    Case("not valid yet", plane(), client(made.of("fastworker-client", days_ago=-9)), REFUSED),
    Case("self-signed", plane(), client(made.self_signed("fastworker-client")), REFUSED),
    Case(
        "other authority",
        plane(),
        client(made.of_another_authority("fastworker-client")),
        REFUSED,
    ),
    Case("no certificate", plane(), client(None), "it wants a certificate"),
    Case("plain to TLS", plane(), None, "speaks TLS; write it as tls+tcp://"),
    Case("TLS to plain", None, client(), "it speaks no TLS", warning=""),
    Case(
        "wrong name",
        plane(made.plane("elsewhere.example")),
        client(),
        f"{NOT_ACCEPTED}IP address mismatch, certificate is not valid for '127.0.0.1'",
    ),
    Case(
        "control plane of another authority",
        plane(made.of_another_authority("fastworker-control-plane", "127.0.0.1")),
        client(),
        f"{NOT_ACCEPTED}unable to get local issuer certificate",
    ),
    Case(
        "self-signed control plane",
        plane(made.self_signed("fastworker-control-plane")),
        client(),
        NO_CERTIFICATE,
    ),
    Case(
        "expired control plane",
        plane(made.plane_of_last_year()),
        client(),
        f"{NOT_ACCEPTED}certificate has expired",
    ),
    Case(
        "a worker that plays control plane",
        plane(NO_SERVER),
        dataclasses.replace(client(), server_name="fastworker-worker"),
        NO_CERTIFICATE,
    ),
]


class Ends:
    """Both ends, with what they say; in a task group while they run."""

    def __init__(self, listens: TlsContext | None, dials: TlsContext | None) -> None:
        self.warnings: list[str] = []
        self.troubles: list[str] = []
        self._news = anyio.Event()
        self._stack = ExitStack()
        self.listener = NngTransport(listens, on_warning=self._warn).listen(
            PLAIN if listens is None else SECURE
        )
        port = int(self.listener.address.rpartition(":")[2])
        scheme = "tcp" if dials is None else "tls+tcp"
        self.link = NngTransport(dials, on_trouble=self._note).dial(
            f"{scheme}://127.0.0.1:{port}"
        )
        self.pipes: list[PipeOpened] = []

    def _warn(self, text: str) -> None:
        self.warnings.append(text)
        self._tell()

    def _note(self, text: str, is_final: bool) -> None:
        assert is_final
        self.troubles.append(text)
        self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._news = anyio.Event()

    async def wait(self, condition: Callable[[], object]) -> None:
        while not condition():
            await self._news.wait()

    async def run(self) -> None:
        with closing(self.listener), closing(self.link):
            async with anyio.create_task_group() as group:
                group.start_soon(self.listener.run_backlog)
                group.start_soon(self.link.run)
                group.start_soon(self._watch, self.listener)
                group.start_soon(self._watch, self.link)

    async def _watch(self, end: object) -> None:
        while True:
            for event in await end.receive_pipe_events():  # type: ignore[attr-defined]
                if isinstance(event, PipeOpened):
                    self.pipes.append(event)
                    self._tell()


@pytest.mark.slow
@pytest.mark.parametrize("anyio_backend", ["trio"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_no_pipe_opens_and_both_sides_say_why_within_5_seconds(case: Case) -> None:
    # X9, H20 in docs/faults.md.
    ends = Ends(case.listens, case.dials)
    async with anyio.create_task_group() as group:
        group.start_soon(ends.run)
        with anyio.fail_after(5):
            await ends.wait(lambda: ends.troubles)
            await ends.wait(lambda: ends.warnings or not case.warning)
        assert case.trouble in ends.troubles[0]
        assert not case.warning or case.warning in ends.warnings[0]
        assert not ends.pipes
        group.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("name", "authority"),
    [
        ("fastworker-client", frozenset({PeerRole.CLIENT})),
        ("fastworker-worker", frozenset({PeerRole.WORKER})),
        ("fastworker-operator", frozenset({PeerRole.OPERATOR})),
        ("fastworker-control-plane", EVERYTHING),
        ("Fastworker-Client", NOTHING),
        ("somebody", NOTHING),
    ],
)
async def test_the_name_in_a_certificate_says_what_its_owner_may_do(
    name: str, authority: frozenset[PeerRole]
) -> None:
    # H21 in docs/faults.md.
    listens = dataclasses.replace(plane(), own_name="fastworker-control-plane")
    ends = Ends(listens, client(made.of(name)))
    async with anyio.create_task_group() as group:
        group.start_soon(ends.run)
        with anyio.fail_after(5):
            await ends.wait(lambda: len(ends.pipes) == 2)
        assert {pipe.authority for pipe in ends.pipes} == {authority, EVERYTHING}
        said = [
            f"the name in its certificate, {name!r}, has no role" in w for w in ends.warnings
        ]
        assert said == ([True] if not authority else [])
        group.cancel_scope.cancel()


async def test_frames_go_both_ways_also_large_ones() -> None:
    listener = NngTransport(plane()).listen(SECURE)
    with closing(listener):
        link = NngTransport(client()).dial(listener.address)
        with closing(link), anyio.fail_after(20):
            for frame in (b"small", b"x" * (16 * 1024 * 1024)):
                while not link.send_nowait(frame):
                    await link.wait_sendable()
                [(route, received)] = await listener.receive()
                assert received == frame
                listener.send(route, frame)
                assert await link.receive() == [frame]


async def test_without_mutual_tls_nobody_is_asked_for_a_certificate() -> None:
    # H20 in docs/faults.md.
    ends = Ends(dataclasses.replace(plane(), is_mutual=False), client(None))
    async with anyio.create_task_group() as group:
        group.start_soon(ends.run)
        with anyio.fail_after(5):
            await ends.wait(lambda: len(ends.pipes) == 2)
        assert {pipe.authority for pipe in ends.pipes} == {EVERYTHING}
        group.cancel_scope.cancel()


@pytest.mark.slow
async def test_peers_that_do_not_go_on_with_the_handshake_are_closed_and_others_stay() -> None:
    # H19 in docs/faults.md.
    ends = Ends(plane(), client())
    port = int(ends.listener.address.rpartition(":")[2])
    async with anyio.create_task_group() as group:
        group.start_soon(ends.run)
        with anyio.fail_after(5):
            await ends.wait(lambda: len(ends.pipes) == 2)
        silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(20)]
        silent[1].sendall(b"\x16\x03\x01\x02\x00\x01")  # the beginning of a ClientHello
        started_at = time.monotonic()
        closed_after: list[float] = []

        async def wait_closed(raw: socket.socket) -> None:
            raw.setblocking(False)
            await anyio.wait_readable(raw)
            with raw:
                try:
                    assert raw.recv(1) == b""
                except ConnectionError:
                    pass
            closed_after.append(time.monotonic() - started_at)

        with anyio.fail_after(HANDSHAKE_SECONDS + 2 * LOOK_SECONDS + 5):
            async with anyio.create_task_group() as watchers:
                for raw in silent:
                    watchers.start_soon(wait_closed, raw)
        assert min(closed_after) > HANDSHAKE_SECONDS / 2
        # The good one has lived through it.
        assert ends.link.send_nowait(b"still here")
        with anyio.fail_after(5):
            [(_, frame)] = await ends.listener.receive()
        assert frame == b"still here"
        group.cancel_scope.cancel()


async def test_a_listener_that_is_closed_ends_its_watch() -> None:
    listener = NngTransport(plane()).listen(SECURE)
    listener.close()
    with anyio.fail_after(5), pytest.raises(LinkClosed):
        await listener.run_backlog()


async def test_an_address_with_tls_needs_files() -> None:
    with pytest.raises(ConfigurationError, match="has TLS, which needs files"):
        NngTransport().listen(SECURE)
    with pytest.raises(ConfigurationError, match="has TLS, which needs files"):
        NngTransport().dial("tls+tcp://127.0.0.1:5550")


async def test_files_that_nng_cannot_use_are_refused_by_name() -> None:
    broken = dataclasses.replace(plane(), key="-----BEGIN NONSENSE-----")
    with pytest.raises(ConfigurationError, match="NNG cannot use the TLS files"):
        NngTransport(broken).listen(SECURE)
