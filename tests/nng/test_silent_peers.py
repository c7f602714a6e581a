"""Which of a process's connections are ended: those without a pipe, and no others."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from fastworker._transport._silent_peers import HANDSHAKE_SECONDS, SilentPeers, place

pytestmark = pytest.mark.nng


class Connections:
    """Some connections to one port of this process, and one to another."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self.listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        self.port = self.listener.getsockname()[1]
        other = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        self.elsewhere = self.connect(other)

    def connect(self, listener: socket.socket | None = None) -> socket.socket:
        """A new one; what the accepting end is stays open in this process."""
        listener = listener or self.listener
        dialed = self._stack.enter_context(socket.create_connection(listener.getsockname()))
        self._stack.enter_context(listener.accept()[0])
        dialed.setblocking(False)
        return dialed


@pytest.fixture
def connections() -> Iterator[Connections]:
    with ExitStack() as stack:
        yield Connections(stack)


def is_open(dialed: socket.socket) -> bool:
    try:
        return dialed.recv(1) != b""
    except BlockingIOError:
        return True


def test_a_connection_without_a_pipe_is_ended_when_its_time_is_over(
    connections: Connections,
) -> None:
    silent = connections.connect()
    with_pipe = connections.connect()
    peers = SilentPeers(connections.port)
    places = {place(*with_pipe.getsockname())}
    assert peers.end_overdue(100.0, places) == 0
    late = connections.connect()
    assert peers.end_overdue(100.0 + HANDSHAKE_SECONDS - 0.1, places) == 0
    assert is_open(silent)
    assert peers.end_overdue(100.0 + HANDSHAKE_SECONDS, places) == 1
    assert not is_open(silent)
    assert all(map(is_open, (with_pipe, late, connections.elsewhere)))


def test_a_pipe_that_opened_in_time_is_left_alone(connections: Connections) -> None:
    slow = connections.connect()
    peers = SilentPeers(connections.port)
    peers.end_overdue(100.0, set())
    assert peers.end_overdue(200.0, {place(*slow.getsockname())}) == 0
    assert is_open(slow)


def test_a_connection_is_ended_once(connections: Connections) -> None:
    connections.connect()
    peers = SilentPeers(connections.port)
    peers.end_overdue(100.0, set())
    assert peers.end_overdue(200.0, set()) == 1
    assert peers.end_overdue(300.0, set()) == 0


@pytest.mark.parametrize(
    ("host", "same"),
    [("::ffff:127.0.0.1", "127.0.0.1"), ("::0001", "::1"), ("fe80::1%lo", "fe80::1")],
)
def test_hosts_are_written_in_one_way(host: str, same: str) -> None:
    assert place(host, 1) == place(same, 1)
    assert place(host, 1) != place(same, 2)
