"""A network inside one process, with the faults of a real one on request.

It keeps the same contract as the sockets do, so everything above can be run
without them: in a test under a virtual clock, in a simulation that replays
from a seed, or for a subworker that lives in its control plane's process.
Nothing here starts a Trio task or reads a clock unless something is delayed:
what is late is found by whoever waits for it.
"""

from __future__ import annotations

import heapq
import itertools
import math
from dataclasses import dataclass
from random import Random

import anyio

from fastworker._core._pipes import Route
from fastworker._errors import AddressInUse, ConfigurationError
from fastworker._transport._address import (
    is_memory_address,
    split_address,
)
from fastworker._transport._memory_ends import (
    Bell,
    MemoryLink,
    MemoryListener,
    Pipe,
    UnderWay,
    Way,
)

# How many frames may overtake one that is reordered.
_REORDER_REACH = 16
_FIRST_INVENTED_PORT = 20000


@dataclass(frozen=True, slots=True)
class Faults:
    """What the network does to frames.

    Attributes:
      loss: Probability that a frame vanishes.
      duplicate: Probability that a frame arrives twice.
      delay: Mean seconds that a frame is under way, exponentially
          distributed. Frames on one pipe keep their order.
      reorder: Probability that a frame may be overtaken by later ones.
    """

    loss: float = 0.0
    duplicate: float = 0.0
    delay: float = 0.0
    reorder: float = 0.0

    def __post_init__(self) -> None:
        for name in ("loss", "duplicate", "reorder"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ConfigurationError(
                    f"{name} is a probability from 0 to 1, not {getattr(self, name)!r}"
                )
        if not 0.0 <= self.delay < math.inf:
            raise ConfigurationError(
                f"delay is a number of seconds such as 0.01, not {self.delay!r}"
            )


class MemoryNetwork:
    """Links and listeners of one event loop, Trio's or asyncio's.

    Addresses are names: ``memory://control-plane``, or TCP addresses of which
    only the spelling counts (``localhost`` is not ``127.0.0.1``). The same
    calls, seed and clock give the same network again.

    Pipe ids are negative and unique in one network.

    Args:
      random: Decides about faults.
      faults: What happens to frames; may be replaced at any time by setting
          :attr:`faults`.
      redial_delay: Seconds until a link whose pipe broke dials again.
    """

    def __init__(
        self,
        *,
        random: Random | None = None,
        faults: Faults = Faults(),
        redial_delay: float = 0.05,
    ) -> None:
        self.faults = faults
        self._random = Random(0) if random is None else random  # noqa: S311
        self._redial_delay = redial_delay
        self._listeners: dict[str, MemoryListener] = {}
        self._links: dict[str, list[MemoryLink]] = {}
        self._partitioned: set[str] = set()
        self._redials: list[tuple[float, int, MemoryLink]] = []  # a heap
        self._serials = itertools.count()
        self._pipe_ids = itertools.count(-1, -1)
        self._ports = itertools.count(_FIRST_INVENTED_PORT)

    def dial(self, address: str) -> MemoryLink:
        if not is_memory_address(address):
            split_address(address, listening=False)
        link = MemoryLink(self, address)
        self._links.setdefault(address, []).append(link)
        self._connect(link)
        return link

    def dial_pair(self, address: str) -> MemoryLink:
        """As :meth:`dial`: here all sockets are alike.

        That a second peer is refused is up to whoever listens: it closes the
        pipe, as Pair0 does.
        """
        return self.dial(address)

    def listen(self, address: str) -> MemoryListener:
        if not is_memory_address(address):
            scheme, host, port = split_address(address, listening=True)
            while port == 0:
                invented = next(self._ports)
                if f"{scheme}://{host}:{invented}" not in self._listeners:
                    port = invented
            address = f"{scheme}://{host}:{port}"
        if address in self._listeners:
            raise AddressInUse(address)
        listener = MemoryListener(self, address)
        self._listeners[address] = listener
        self._connect_all(address)
        return listener

    def partition(self, address: str) -> None:
        """Let every frame to and from ``address`` vanish, unnoticed by anybody.

        Pipes stay open, as they do when a cable is pulled; new ones do not
        come up before :meth:`heal`.
        """
        self._partitioned.add(address)

    def heal(self, address: str) -> None:
        """End a partition; lost frames stay lost."""
        self._partitioned.discard(address)
        self._connect_all(address)

    def reset_pipes(self, address: str) -> None:
        """Close every pipe to ``address``; links dial again after a while."""
        listener = self._listeners.get(address)
        if listener is not None:
            for pipe in list(listener._pipes.values()):
                self._disconnect(pipe)

    # --- for networks that know whose their ends are ---

    def _current_owner(self) -> object:
        """Whose an end is that is made now."""
        return None

    def _faults_of(self, way: Way) -> Faults:
        """What happens to a frame that goes this way."""
        return self.faults

    def _transmit(self, way: Way, route: Route, frame: bytes) -> None:
        faults, random = self._faults_of(way), self._random
        if way.receiver._address in self._partitioned:
            return
        if faults.loss and random.random() < faults.loss:
            return
        copies = 2 if faults.duplicate and random.random() < faults.duplicate else 1
        for _ in range(copies):
            serial = next(self._serials)
            order: float = serial
            at = -math.inf
            if faults.delay:
                at = anyio.current_time() + random.expovariate(1 / faults.delay)
            if faults.reorder and random.random() < faults.reorder:
                order += random.randrange(1, _REORDER_REACH) + 0.5
            else:
                way.latest = at = max(at, way.latest)
            way.frames += 1
            item = UnderWay(at, order, serial, way, route, bytes(frame))
            heapq.heappush(way.receiver._inbox, item)
            if at > -math.inf:
                way.receiver._arrival.ring_at(at)
            else:
                way.receiver._arrival.ring()

    async def _wait(self, bell: Bell, until: float = math.inf) -> None:
        """Wait for a bell; on the way, let links dial whose time has come.

        There is no Trio task of the network that could do it. Every end of a
        pipe that closes is woken, so somebody who cares always knows the time.
        """
        if self._redials:
            until = min(until, self._redials[0][0])
        await bell.wait(until)
        while self._redials and self._redials[0][0] <= anyio.current_time():
            at, _, link = heapq.heappop(self._redials)
            if link._redial_at == at:
                link._redial_at = None
                self._connect(link)

    def _connect_all(self, address: str) -> None:
        for link in self._links.get(address, []):
            self._connect(link)

    def _connect(self, link: MemoryLink) -> None:
        address = link._address
        listener = self._listeners.get(address)
        if listener is None or address in self._partitioned:
            return
        if link._closed or link._pipe is not None or link._redial_at is not None:
            return
        here, there = next(self._pipe_ids), next(self._pipe_ids)
        pipe = Pipe(
            link,
            listener,
            to_link=Way(listener, link, here, has_room=_nothing),
            to_listener=Way(link, listener, there, has_room=link._room.ring),
            route=Route(there, b"memory%d" % there),
        )
        link._pipe = pipe
        listener._pipes[there] = pipe
        link._pipe_opened(here)
        listener._pipe_opened(there)
        link._room.ring()

    def _disconnect(self, pipe: Pipe) -> None:
        link, listener = pipe.link, pipe.listener
        link._pipe = None
        del listener._pipes[pipe.to_listener.pipe]
        if not link._closed:
            link._redial_at = anyio.current_time() + self._redial_delay
            heapq.heappush(self._redials, (link._redial_at, next(self._serials), link))
            link._pipe_closed(pipe.to_link.pipe)
        if not listener._closed:
            listener._pipe_closed(pipe.to_listener.pipe)

    def _link_closed(self, link: MemoryLink) -> None:
        self._links[link._address].remove(link)
        if link._pipe is not None:
            self._disconnect(link._pipe)

    def _listener_closed(self, listener: MemoryListener) -> None:
        del self._listeners[listener._address]
        for pipe in list(listener._pipes.values()):
            self._disconnect(pipe)


def _nothing() -> None:
    pass
