"""Ends connections to a TLS listener that have not become pipes after a while.

NNG waits for ever for a peer that connects and does not go on with its handshake,
and says nothing of it before there is a pipe. So what can be found is looked for
in the list of this process's descriptors, and shut down there; NNG hears of that
as of any other end of a connection.
"""

from __future__ import annotations

import ipaddress
import math
import os
import socket
from collections.abc import Collection
from typing import Final, TypeAlias

# A peer gets as long as for the HELLO that has to follow.
HANDSHAKE_SECONDS: Final = 5.0
# So often it is looked; a peer is gone after HANDSHAKE_SECONDS and this at most.
LOOK_SECONDS: Final = 2.5

# Host and port at the other end, with hosts written in one way only.
Place: TypeAlias = tuple[str, int]

_DESCRIPTORS: Final = "/proc/self/fd"


def place(host: str, port: int) -> Place:
    """Where a peer is, such that equal places compare equal."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host, port
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address), port


class SilentPeers:
    """Remembers since when there are connections without a pipe.

    Args:
      port: where the listener is.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        # By what the descriptor is, which never becomes something else: since when it
        # has been there, infinity for what needs no more looking at.
        self._since: dict[str, float] = {}

    def end_overdue(self, now: float, with_pipe: Collection[Place]) -> int:
        """Look once, and return how many connections were ended.

        Args:
          now: any clock's time, in seconds.
          with_pipe: where those are that have a pipe.
        """
        ended = 0
        present: dict[str, float] = {}
        for descriptor, name in _sockets():
            since = self._since.get(name, now)
            if since != math.inf:
                is_over = now - since >= HANDSHAKE_SECONDS
                verdict = self._look_at(descriptor, with_pipe, end=is_over)
                since = since if verdict is False else math.inf
                ended += verdict is True
            present[name] = since
        self._since = present
        return ended

    def _look_at(
        self, descriptor: int, with_pipe: Collection[Place], *, end: bool
    ) -> bool | None:
        """Whether it was ended; None if it is none of ours, or has a pipe."""
        try:
            # A copy of our own: the number may be somebody else's in a moment.
            connection = socket.socket(fileno=os.dup(descriptor))
        except OSError:
            return None
        with connection:
            try:
                if connection.family not in (socket.AF_INET, socket.AF_INET6):
                    return None
                if connection.getsockname()[1] != self._port:
                    return None
                if place(*connection.getpeername()[:2]) in with_pipe:
                    return None
                if end:
                    connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                return None  # it has no other end (any more)
        return end


def _sockets() -> list[tuple[int, str]]:
    """The descriptors of this process that are sockets, and which ones."""
    found: list[tuple[int, str]] = []
    try:
        names = os.listdir(_DESCRIPTORS)
    except OSError:
        return found  # another system, which has no such list
    for name in names:
        try:
            what = os.readlink(f"{_DESCRIPTORS}/{name}")
        except OSError:
            continue  # closed meanwhile
        if what.startswith("socket:"):
            found.append((int(name), what))
    return found
