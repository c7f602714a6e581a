"""A TCP proxy that knows NNG's messages, and does to them what networks do.

One proxy stands before one process that dials, so each process has faults of
its own. A connection begins with eight bytes from each side; then comes one
message after the other, each behind its length in eight bytes, big-endian.
"""

from __future__ import annotations

import dataclasses
import random
from collections import Counter, deque
from dataclasses import dataclass

import trio

GREETING = 8
LENGTH = 8
MAX_MESSAGE = 32 * 1024 * 1024
# Old messages that may come again.
REMEMBERED = 50


@dataclass(frozen=True)
class Faults:
    """What happens to the messages of one proxy. Rates are probabilities for each.

    ``drop`` swallows it, ``double`` sends it twice, ``replay`` sends an old one
    after it, ``cut`` leaves out its end (with a length that is right), ``tear``
    closes the connection in the middle of it, ``flip`` flips one to three of its
    bits. ``delay`` is how many seconds it may be held up; its followers wait.
    ``up`` and ``down`` False are partitions: nothing gets through that way, new
    connections neither, and nobody is told.
    """

    drop: float = 0.0
    double: float = 0.0
    replay: float = 0.0
    cut: float = 0.0
    tear: float = 0.0
    flip: float = 0.0
    delay: float = 0.0
    up: bool = True
    down: bool = True

    def __str__(self) -> str:
        given = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if getattr(self, field.name) != field.default
        }
        return ",".join(f"{name}={value:g}" for name, value in given.items())


class _Torn(Exception):
    """The connection is to end in the middle of a message."""


class Proxy:
    """See the module's first lines.

    Args:
      target: the port of 127.0.0.1 that everything goes to.
      rng: decides which message has which fault.

    ``faults`` may be set at any time; ``done`` counts what was done.
    """

    def __init__(self, target: int, rng: random.Random) -> None:
        self.port = 0
        self.faults = Faults()
        self.done: Counter[str] = Counter()
        self._target = target
        self._rng = rng
        self._connections: set[trio.CancelScope] = set()
        self._changed = trio.Event()

    async def run(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Listen on a free port of 127.0.0.1 until cancelled."""
        [listener] = await trio.open_tcp_listeners(self.port, host="127.0.0.1")
        self.port = int(listener.socket.getsockname()[1])
        task_status.started()
        await trio.serve_listeners(self._serve, [listener])

    def set_faults(self, faults: Faults) -> None:
        """From now on these; connections that a partition has held go on."""
        self.faults = faults
        self._changed.set()
        self._changed = trio.Event()

    def close_connections(self) -> None:
        """End all connections, as a router that is restarted does."""
        for scope in list(self._connections):
            scope.cancel()

    async def _serve(self, near: trio.SocketStream) -> None:
        with trio.CancelScope() as scope:
            self._connections.add(scope)
            try:
                await self._wait_open()
                far = await trio.open_tcp_stream("127.0.0.1", self._target)
                async with far, trio.open_nursery() as nursery:
                    nursery.start_soon(self._carry, near, far, True, nursery)
                    nursery.start_soon(self._carry, far, near, False, nursery)
            except OSError:
                pass  # nobody is there, so nobody is here
            finally:
                self._connections.discard(scope)
                with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
                    await trio.aclose_forcefully(near)

    async def _wait_open(self) -> None:
        while not (self.faults.up and self.faults.down):
            await self._changed.wait()

    async def _carry(
        self,
        source: trio.SocketStream,
        sink: trio.SocketStream,
        up: bool,
        nursery: trio.Nursery,
    ) -> None:
        """Carry what goes one way; the end of one way is the end of both."""
        old: deque[bytes] = deque(maxlen=REMEMBERED)
        try:
            await sink.send_all(await _read(source, GREETING))
            while True:
                head = await _read(source, LENGTH)
                size = int.from_bytes(head, "big")
                if size > MAX_MESSAGE:
                    break
                message = await _read(source, size)
                await self._pass(message, sink, up, old)
        except (trio.BrokenResourceError, trio.ClosedResourceError, _Torn):
            pass
        nursery.cancel_scope.cancel()

    async def _pass(
        self, message: bytes, sink: trio.SocketStream, up: bool, old: deque[bytes]
    ) -> None:
        faults, rng = self.faults, self._rng
        if not (faults.up if up else faults.down):
            self.done["partition"] += 1
            return
        if faults.delay and rng.random() < 0.2:
            self.done["delay"] += 1
            await trio.sleep(rng.random() * faults.delay)
        if rng.random() < faults.drop:
            self.done["drop"] += 1
            return
        if rng.random() < faults.tear:
            self.done["tear"] += 1
            whole = _framed(message)
            await sink.send_all(whole[: rng.randrange(1, len(whole))])
            raise _Torn
        old.append(message)
        if message and rng.random() < faults.cut:
            self.done["cut"] += 1
            message = message[: rng.randrange(len(message))]
        if message and rng.random() < faults.flip:
            self.done["flip"] += 1
            message = flipped(message, rng)
        await sink.send_all(_framed(message))
        self.done["passed"] += 1
        if rng.random() < faults.double:
            self.done["double"] += 1
            await sink.send_all(_framed(message))
        if rng.random() < faults.replay:
            self.done["replay"] += 1
            await sink.send_all(_framed(rng.choice(old)))


def flipped(message: bytes, rng: random.Random) -> bytes:
    """A copy with one to three bits flipped."""
    damaged = bytearray(message)
    places = rng.sample(range(8 * len(message)), min(rng.randint(1, 3), 8 * len(message)))
    for place in places:
        damaged[place // 8] ^= 1 << place % 8
    return bytes(damaged)


def _framed(message: bytes) -> bytes:
    return len(message).to_bytes(LENGTH, "big") + message


async def _read(stream: trio.SocketStream, size: int) -> bytes:
    """Exactly so many bytes; BrokenResourceError at the end of the stream."""
    parts: list[bytes] = []
    while size:
        part = await stream.receive_some(min(size, 65536))
        if not part:
            raise trio.BrokenResourceError("the stream has ended")
        parts.append(bytes(part))
        size -= len(part)
    return b"".join(parts)
