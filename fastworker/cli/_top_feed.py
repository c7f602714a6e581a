"""Reads the dashboard's live feed, as a browser does, and connects again if it is lost."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
import trio
from trio_websocket import (
    ConnectionClosed,
    ConnectionRejected,
    HandshakeError,
    WebSocketConnection,
    wrap_client_stream,
)

from fastworker._errors import (
    ConfigurationError,
    FastWorkerError,
    LinkError,
    RemoteProtocolError,
)

CONNECT_SECONDS: Final = 10.0
# Something comes every five seconds; after three times that, nothing will.
SILENCE_SECONDS: Final = 15.0
FIRST_DELAY: Final = 0.5
LONGEST_DELAY: Final = 10.0
# Of a snapshot with thousands of workers.
MAX_MESSAGE_BYTES: Final = 64 * 1024 * 1024
_REFUSED: Final = {
    401: "this is not its token",
    403: "it does not let programs in from here",
    404: "there is no live feed",
    421: "it is not known by this name; see --gui-allowed-host of the control plane",
}


class Disconnected(LinkError):
    """There is no connection to the dashboard; ``problem`` says in short why."""

    def __init__(self, address: str, problem: str) -> None:
        self.problem = problem
        super().__init__(
            f"no dashboard answers at {address}: {problem}; start 'fastworker "
            f"control-plane', or check the address"
        )


Take = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True)
class Place:
    """A dashboard, and what lets somebody in. ``address`` is that of its page."""

    address: str
    token: str

    @property
    def host(self) -> str:
        """As a Host header has it."""
        return urlsplit(self.address).netloc

    @property
    def path(self) -> str:
        """Of the live feed."""
        return f"{urlsplit(self.address).path.rstrip('/')}/api/live"


def _ignore(_: object) -> None: ...


class TopFeed:
    """One connection after the other.

    Args:
      take: is given each message, and raises LookupError or TypeError if it is not as
        it should be.
      lose: is told why there is no connection now.
    """

    def __init__(
        self, place: Place, take: Take = _ignore, lose: Callable[[str], None] = _ignore
    ) -> None:
        self._place = place
        self._take = take
        self._lose = lose
        self._has_heard = False  # on the connection that there is, or was last
        self._is_first = True

    async def read_first(self) -> Mapping[str, Any]:
        """The first snapshot, and nothing else.

        Raises:
          as :meth:`run`.
        """
        found: list[Mapping[str, Any]] = []

        def take(message: Mapping[str, Any]) -> None:
            if message.get("type") == "lost":
                raise LinkError(str(message.get("message")))
            if message.get("type") == "snapshot":
                found.append(message)
                scope.cancel()

        self._take = take
        with trio.CancelScope() as scope:
            try:
                await self._read_once(watch_tasks=False)
            except LinkError:
                if not found:
                    raise
        return found[0]

    async def run(self) -> None:
        """Read until cancelled. A connection that was there once is made again.

        Raises:
          ConfigurationError: the dashboard does not let us in.
          Disconnected: there is no dashboard, at the first try.
          RemoteProtocolError: it says what nobody understands.
        """
        delay = FIRST_DELAY
        while True:
            self._has_heard = False
            try:
                await self._read_once(watch_tasks=True)
            except Disconnected as error:
                if self._is_first:
                    raise
                if self._has_heard:
                    delay = FIRST_DELAY
                await self._wait(error.problem, delay)
                delay = min(2 * delay, LONGEST_DELAY)

    async def _wait(self, problem: str, delay: float) -> None:
        until = trio.current_time() + delay
        while (left := until - trio.current_time()) > 0:
            self._lose(f"disconnected: {problem}; trying again in {math.ceil(left)} s")
            await trio.sleep(min(1.0, left))
        self._lose(f"disconnected: {problem}; trying again now")

    async def _read_once(self, *, watch_tasks: bool) -> None:
        """Connect and read; never returns.

        Raises:
          Disconnected: it did not come to a connection, or that has ended.
          others as :meth:`run`.
        """
        try:
            await self._connect_and_read(watch_tasks)
        except (*_LOSSES, BaseExceptionGroup) as errors:
            error = _first_of(errors)
            if isinstance(error, FastWorkerError):
                raise error from None
            if isinstance(error, _LOSSES):
                raise self._meaning_of(error) from None
            raise

    async def _connect_and_read(self, watch_tasks: bool) -> None:
        with trio.fail_after(CONNECT_SECONDS):
            stream = await self._dial()
        try:
            async with trio.open_nursery() as nursery:
                with trio.fail_after(CONNECT_SECONDS):
                    websocket = await wrap_client_stream(
                        nursery,
                        stream,
                        self._place.host,
                        self._place.path,
                        extra_headers=[
                            (b"Authorization", f"Bearer {self._place.token}".encode())
                        ],
                        max_message_size=MAX_MESSAGE_BYTES,
                    )
                    if watch_tasks:
                        await websocket.send_message('{"type": "watch", "tasks": true}')
                await self._read(websocket)
        finally:
            await trio.aclose_forcefully(stream)

    async def _dial(self) -> Any:
        parts = urlsplit(self._place.address)
        is_secret = parts.scheme == "https"
        port = parts.port or (443 if is_secret else 80)
        if is_secret:
            return await trio.open_ssl_over_tcp_stream(parts.hostname or "", port)
        return await trio.open_tcp_stream(parts.hostname or "", port)

    async def _read(self, websocket: WebSocketConnection) -> None:
        while True:
            with trio.fail_after(SILENCE_SECONDS):
                text = await websocket.get_message()
            try:
                self._take(msgspec.json.decode(text))
            except (msgspec.DecodeError, LookupError, TypeError, AttributeError) as error:
                raise RemoteProtocolError(
                    f"the dashboard said what this version does not understand "
                    f"({error!r:.200}); use the 'fastworker' that the control plane has"
                ) from None
            self._has_heard = True
            self._is_first = False

    def _meaning_of(self, error: BaseException) -> FastWorkerError:
        address = self._place.address
        match error:
            case ConnectionRejected() if error.status_code in _REFUSED:
                why = _REFUSED[error.status_code]
                return ConfigurationError(f"the dashboard at {address} refuses us: {why}")
            case ConnectionRejected():
                problem = f"it answers with status {error.status_code}"
            case ConnectionClosed() if error.reason is not None and error.reason.reason:
                problem = error.reason.reason
            case trio.TooSlowError():
                problem = "no answer"
            case OSError() if error.strerror:
                problem = error.strerror
            case _:
                problem = "the connection has ended"
        return Disconnected(address, problem)


_LOSSES: Final = (OSError, HandshakeError, ConnectionClosed, trio.TooSlowError)


def _first_of(error: BaseException) -> BaseException | None:
    """The error in a group; those of tasks that were cancelled for it do not count."""
    if not isinstance(error, BaseExceptionGroup):
        return None if isinstance(error, trio.Cancelled) else error
    return next(filter(None, map(_first_of, error.exceptions)), None)
