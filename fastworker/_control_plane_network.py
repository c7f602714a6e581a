"""The control plane's side of the network: where it listens, and who is behind which pipe.

What goes to a peer is gathered here, and sent as few messages. Where peers have to
prove who they are, a frame that came before the news of its pipe waits for that.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import ExitStack
from typing import Final

from fastworker._core._bundle import first_bundle, join
from fastworker._core._control_plane_events import FrameArrived, Port
from fastworker._core._listener_gate import GateStatistics, added_up
from fastworker._core._messages import Kind
from fastworker._core._pipes import PipeClosed, Route
from fastworker._crash import crash_point
from fastworker._credentials import AuthTokens
from fastworker._transport._abc import Listener, PipeEvent, Transport
from fastworker._transport._authenticated import AuthenticatedListener, AuthenticatedTransport
from fastworker._transport._memory import MemoryNetwork

log = logging.getLogger("fastworker.control_plane")

# Where its own lanes join: any free port of a network in memory.
LOCAL_ADDRESS: Final = "tcp://127.0.0.1:0"


class ControlPlaneNetwork:
    """See the module's first lines; one for each run.

    ``listeners``, by pipe, ``outgoing``, by route, and ``answered``, which is only kept
    for crash points, are filled by the shell: all that is sent passes through there.

    Args:
      transport: by which others connect.
      tokens: of the roles that are let in, None where tokens prove nothing.
      epoch: the control plane's, once it has one.
    """

    def __init__(
        self, transport: Transport, tokens: AuthTokens | None, epoch: Callable[[], int]
    ) -> None:
        self.listeners: dict[int, Listener] = {}
        self.outgoing: dict[Route, list[bytes]] = {}
        self.answered: list[Kind] = []
        # Pipes have numbers that are unique within one network, and negative in
        # memory; so two networks in memory would get in each other's way.
        self.inside = transport if isinstance(transport, MemoryNetwork) else MemoryNetwork()
        self._transport = transport
        self._tokens = tokens
        self._epoch = epoch
        self._guards: list[AuthenticatedListener] = []
        self._announced: set[int] = set()  # pipes of which there was news
        self._early: dict[int, list[FrameArrived]] = {}  # by pipe: came before the news

    # --- listeners ---

    def listen(
        self, stack: ExitStack, addresses: dict[Port, str]
    ) -> list[tuple[Port, Listener]]:
        """Listen at these addresses until the stack is closed."""
        listeners: list[tuple[Port, Listener]] = []
        for port, address in addresses.items():
            listener = self._listen_at(address)
            stack.callback(listener.close)
            listeners.append((port, listener))
        return listeners

    def _listen_at(self, address: str) -> Listener:
        if self._tokens is None:
            return self._transport.listen(address)
        guarded = AuthenticatedTransport(
            self._transport, self._tokens.keys, epoch=self._epoch, on_warning=log.warning
        ).listen(address)
        self._guards.append(guarded)
        return guarded

    def listen_inside(self, stack: ExitStack) -> Listener:
        """Listen in the memory of this process, where its own lanes join."""
        listener = self.inside.listen(LOCAL_ADDRESS)
        stack.callback(listener.close)
        return listener

    def admission(self) -> GateStatistics:
        """Return a snapshot of those who have proved who they are, and who could not."""
        return added_up([guard.statistics() for guard in self._guards])

    def forget(self) -> None:
        """Nothing comes or goes any more."""
        self.listeners.clear()
        self._guards.clear()
        self._announced.clear()
        self._early.clear()

    # --- pipes ---

    def is_announced(self, pipe: int) -> bool:
        """Whether there was news of this pipe."""
        return pipe in self._announced

    def hold_back(self, frame: FrameArrived) -> None:
        """Keep a frame until there is news of its pipe."""
        self._early.setdefault(frame.route.pipe, []).append(frame)

    def note_pipe_event(self, event: PipeEvent, listener: Listener) -> list[FrameArrived]:
        """Take the news of a pipe; return the frames that have waited for it."""
        early = self._early.pop(event.pipe, [])
        if isinstance(event, PipeClosed):
            self.listeners.pop(event.pipe, None)
            self._announced.discard(event.pipe)
            return []
        self.listeners[event.pipe] = listener
        self._announced.add(event.pipe)
        return early

    def close_pipe(self, pipe: int) -> None:
        """Close a pipe, if it is still there."""
        listener = self.listeners.get(pipe)
        if listener is not None:
            listener.close_pipe(pipe)

    # --- frames ---

    def send(self) -> None:
        """Send all frames that go the same way as one message."""
        answered, self.answered = self.answered, []
        for kind in answered:
            crash_point(f"before-{kind.name.lower()}-reply")
        for route, frames in self.outgoing.items():
            listener = self.listeners.get(route.pipe)
            while frames and listener is not None:
                count = first_bundle(frames)
                listener.send(route, join(frames[:count]))
                del frames[:count]
        self.outgoing.clear()
        for kind in answered:
            crash_point(f"after-{kind.name.lower()}-reply")
