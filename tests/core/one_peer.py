"""One client's or subworker's machine, and a control plane played by the test."""

from __future__ import annotations

from typing import Any, TypeVar

from fastworker._core._codec import REQUEST_BODIES, decode_body, decode_frame, encode
from fastworker._core._link_requester import SendFrame
from fastworker._core._messages import Body, Frame, Hello, Kind, Reply, Request, Welcome
from fastworker._core._pipes import DeadlinePassed, Flush, PipeClosed, PipeOpened

C = TypeVar("C")


class OnePeer:
    """Sends events and keeps what the machine wanted; every step is checked.

    Args:
      state: the machine.
      frame_arrived: its event for bytes from the network.
    """

    def __init__(self, state: Any, frame_arrived: Any) -> None:
        self.state = state
        self.frame_arrived = frame_arrived
        self.now = 100.0
        self.pipe = 0
        self.epoch = 1
        self.session = b""
        self.requests: list[Request] = []  # not answered yet
        self.commands: list[Any] = []  # all but frames, until they are taken
        self.hellos: list[Hello] = []

    def handle(self, event: object, *, flush: bool = True) -> None:
        for command in self.state.handle(event, now=self.now):
            if not isinstance(command, SendFrame):
                self.commands.append(command)
                continue
            frame = decode_frame(command.data)
            if isinstance(frame, Hello):
                self.hellos.append(frame)
            else:
                assert isinstance(frame, Request)
                self.requests.append(frame)
        self.state.check()
        if flush:
            self.handle(Flush(), flush=False)

    def frame(self, frame: Frame) -> None:
        self.handle(self.frame_arrived(encode(frame)))

    def take(self, kind: type[C]) -> list[C]:
        """The commands of this kind since the last time."""
        taken = [command for command in self.commands if isinstance(command, kind)]
        self.commands = [c for c in self.commands if not isinstance(c, kind)]
        return taken

    def connect(self, *, resumed: bool = False) -> None:
        self.pipe += 1
        self.handle(PipeOpened(self.pipe))
        self.welcome(resumed=resumed)

    def welcome(self, *, resumed: bool = False) -> None:
        hello = self.hellos[-1]
        self.session = hello.session
        if not resumed:
            self.requests.clear()
        self.frame(Welcome(hello.nonce, hello.session, self.epoch, resumed, 30.0, 5.0, "plane"))

    def disconnect(self) -> None:
        self.handle(PipeClosed(self.pipe))

    def asked(self, kind: Kind) -> list[Any]:
        """The bodies of the unanswered requests of this kind, each once."""
        found = {(r.slot, r.sequence): r for r in self.requests if r.kind is kind}
        return [decode_body(REQUEST_BODIES[kind], r.body) for r in found.values()]

    def answer(self, kind: Kind, body: Body | bytes) -> None:
        """Answer the oldest request of this kind."""
        request = next(r for r in self.requests if r.kind is kind)
        same = (request.slot, request.sequence)
        self.requests = [r for r in self.requests if (r.slot, r.sequence) != same]
        data = body if isinstance(body, bytes) else encode(body)
        self.frame(Reply(request.session, request.epoch, *same, data))

    def pass_time(self, seconds: float) -> None:
        end = self.now + seconds
        while self.state.next_deadline() <= end:
            self.now = max(self.now, self.state.next_deadline())
            self.handle(DeadlinePassed(), flush=False)
            assert self.state.next_deadline() > self.now, "the alarm would spin"
        self.now = end
