"""The network between simulated processes: it knows which process each end belongs to."""

from __future__ import annotations

import heapq
from collections import Counter
from dataclasses import replace
from random import Random

import trio

from fastworker._core._pipes import Route
from fastworker._transport._memory import Faults, MemoryNetwork
from fastworker._transport._memory_ends import Endpoint, MemoryLink, MemoryListener, Pipe, Way
from fastworker.testing._process import Process
from fastworker.testing._virtual_time import current_process

# Whoever is not a simulated process: the program that drives the simulation.
OUTSIDE = "outside"


class SimulatedNetwork(MemoryNetwork):
    """A network in memory whose pairs of processes can be cut off from each other.

    Attributes:
      cuts: pairs (from, to) of names between which nothing arrives, and how many
        cuts there are: while one of them lasts, nothing does.
      delays: mean seconds that a frame to or from a process takes longer, by its name.
    """

    def __init__(self, random: Random) -> None:
        super().__init__(random=random)
        self.cuts: Counter[tuple[str, str]] = Counter()
        self.delays: dict[str, float] = {}
        # Pipes of processes that went without a word; their peers do not know it.
        self._orphans: dict[str, list[Pipe]] = {}

    def cut(self, sender: str, receiver: str) -> None:
        """Let nothing arrive that goes this way."""
        self.cuts[sender, receiver] += 1

    def heal_all(self) -> None:
        """End everything that was wrong; what is lost stays lost."""
        self.cuts.clear()
        self.delays.clear()
        self.faults = Faults()
        for name in list(self._orphans):
            self.bury(name)
        self._deliver_all()
        self.reconnect()

    def _deliver_all(self) -> None:
        """Let what is under way arrive now, in the order in which it would have."""
        now = trio.current_time()
        ends: list[Endpoint] = [*self._listeners.values()]
        for links in self._links.values():
            ends += links
        for end in ends:
            late = sorted(item for item in end._inbox if item.at > now)
            for number, item in enumerate(late):
                item.at, item.order = now, number - len(late)
                item.way.latest = now
            heapq.heapify(end._inbox)
            end._ring_all()

    def heal_cut(self, sender: str, receiver: str) -> None:
        """End one cut of this way; after the last, frames go this way again."""
        self.cuts[sender, receiver] -= 1
        if self.cuts[sender, receiver] <= 0:
            del self.cuts[sender, receiver]
        self.reconnect()

    def reconnect(self) -> None:
        """Let those dial again who could not."""
        for address in list(self._links):
            self._connect_all(address)

    def reset(self, name: str) -> None:
        """Close all pipes of a process."""
        for pipe in self._pipes_of(name):
            self._disconnect(pipe)

    def kill(self, process: Process, *, silently: bool) -> None:
        """Take a process off the network, as if its machine had lost its power.

        Its peers see their pipes close; if ``silently``, only once it is back.
        """
        orphans: list[Pipe] = []
        for pipe in self._pipes_of(process.name):
            if silently:
                orphans.append(pipe)
            else:
                self._disconnect(pipe)
        for links in self._links.values():
            for link in [link for link in links if link._owner is process]:
                links.remove(link)
                link._end()
        for address, listener in list(self._listeners.items()):
            if listener._owner is process:
                del self._listeners[address]
                listener._end()
        if orphans:
            self._orphans.setdefault(process.name, []).extend(orphans)

    def bury(self, name: str) -> None:
        """Let the peers of a process know that its pipes are gone."""
        for pipe in self._orphans.pop(name, []):
            if pipe.link._pipe is pipe and pipe.to_listener.pipe in pipe.listener._pipes:
                self._disconnect(pipe)

    def count_ends(self) -> int:
        """How many links and listeners are open."""
        return len(self._listeners) + sum(len(links) for links in self._links.values())

    # --- what the network in memory asks for ---

    def _current_owner(self) -> object:
        return current_process.get()

    def _faults_of(self, way: Way) -> Faults:
        more = self.delays.get(name_of(way.sender), 0.0)
        more += self.delays.get(name_of(way.receiver), 0.0)
        return replace(self.faults, delay=self.faults.delay + more) if more else self.faults

    def _transmit(self, way: Way, route: Route, frame: bytes) -> None:
        if way.receiver._closed or way.sender._closed:
            return
        if self.cuts and (name_of(way.sender), name_of(way.receiver)) in self.cuts:
            return
        super()._transmit(way, route, frame)

    def _connect(self, link: MemoryLink) -> None:
        listener = self._listeners.get(link._address)
        if listener is None or _is_held(listener) or _is_held(link):
            return
        dialing, listening = name_of(link), name_of(listener)
        if (dialing, listening) in self.cuts or (listening, dialing) in self.cuts:
            return
        super()._connect(link)

    def _pipes_of(self, name: str) -> list[Pipe]:
        return [
            pipe
            for listener in list(self._listeners.values())
            for pipe in list(listener._pipes.values())
            if name in (name_of(pipe.link), name_of(listener))
        ]


def name_of(end: Endpoint) -> str:
    """The name of the process that an end belongs to."""
    owner = end._owner
    return owner.name if isinstance(owner, Process) else OUTSIDE


def _is_held(end: MemoryLink | MemoryListener) -> bool:
    owner = end._owner
    return isinstance(owner, Process) and owner.is_held
