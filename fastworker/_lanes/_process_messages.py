"""What a process lane and its processes say to each other, as frames on a socket.

A task can write what it likes to any descriptor of its process, so the lane
believes nothing: what is not a message of these shapes is an error.
"""

from __future__ import annotations

import enum
from typing import Final

import msgspec

from fastworker._lanes._abc import (
    AttemptEnded,
    AttemptKey,
    AttemptPaused,
    AttemptProgressed,
    AttemptStarted,
    AttemptYielded,
    LaneEvent,
)

_HEAD: Final = 4
# A result and a traceback are bounded to less than this where they are made.
MAX_FRAME: Final = 32 * 1024 * 1024
# The exit code of a process that cannot talk to its lane any more.
LOST_PIPE: Final = 70

# --- from the lane ---


class Telemetry(enum.IntEnum):
    """Whether a worker measures, and whether OTEL_* variables have set that up."""

    OFF = 0
    ON = 1
    FROM_ENVIRONMENT = 2


class Welcome(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """The first message: what the process takes over from the worker's.

    ``main_path`` and ``main_name`` say what ``__main__`` is there: a file, or
    a module that was run with ``-m``; both are empty if it is neither.
    ``log_level`` and ``log_format`` are the command's, empty without one.
    ``telemetry`` says whether it measures: see ``Telemetry``.
    """

    formats: list[str]
    argv: list[str]
    main_path: str = ""
    main_name: str = ""
    log_level: str = ""
    log_format: str = ""
    telemetry: Telemetry = Telemetry.OFF


class Run(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Run one attempt; the fields are those of Attempt and InProcess."""

    key: AttemptKey
    name: str
    payload: bytes
    format: int
    number: int
    priority: int
    time_left: float
    worker_id: str
    created: float
    stream: int
    module: str
    loop: str
    memory: int | None
    trace: str


class Stop(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Ask what runs to stop. Nothing else runs in this process after it."""


class Credit(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """So many values of the stream that runs have been read."""

    key: AttemptKey
    count: int


ToProcess = Welcome | Run | Stop | Credit

# --- from the process ---


class Ready(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """The process has started and waits for attempts."""


class Started(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """An attempt's user code is about to run."""

    event: AttemptStarted


class Progressed(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """User code says how far it is."""

    event: AttemptProgressed


class Paused(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """User code waits for tasks of its own, or goes on."""

    event: AttemptPaused


class Yielded(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """A generator has yielded a value."""

    event: AttemptYielded


class Ended(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """An attempt has ended; with ``leftovers`` the process is of no more use.

    ``leftovers`` says in words what the function has left behind.
    """

    event: AttemptEnded
    leftovers: str = ""


FromProcess = Ready | Started | Progressed | Paused | Yielded | Ended

_encoder: Final = msgspec.msgpack.Encoder()
_for_process: Final[msgspec.msgpack.Decoder[ToProcess]] = msgspec.msgpack.Decoder(ToProcess)
_from_process: Final[msgspec.msgpack.Decoder[FromProcess]] = msgspec.msgpack.Decoder(
    FromProcess
)


class BrokenFrame(Exception):
    """The bytes are no message."""


def encode(message: ToProcess | FromProcess) -> bytes:
    """Give a message as a frame: its length in four bytes, then MessagePack."""
    body = _encoder.encode(message)
    return len(body).to_bytes(_HEAD, "big") + body


def wrapped(event: LaneEvent) -> FromProcess:
    """Give the message that carries an event that user code has caused."""
    if isinstance(event, AttemptStarted):
        return Started(event)
    if isinstance(event, AttemptProgressed):
        return Progressed(event)
    if isinstance(event, AttemptPaused):
        return Paused(event)
    if isinstance(event, AttemptYielded):
        return Yielded(event)
    return Ended(event)


class Frames:
    """Cuts a stream of bytes into frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Take bytes, and give the frames that they complete.

        Raises:
          BrokenFrame: a frame is larger than any that is sent.
        """
        buffer = self._buffer
        buffer += data
        found: list[bytes] = []
        start = 0
        while len(buffer) - start >= _HEAD:
            size = int.from_bytes(buffer[start : start + _HEAD], "big")
            if size > MAX_FRAME:
                raise BrokenFrame(f"a frame of {size:,} bytes; the limit is {MAX_FRAME:,}")
            end = start + _HEAD + size
            if len(buffer) < end:
                break
            found.append(bytes(buffer[start + _HEAD : end]))
            start = end
        del buffer[:start]
        return found


def decode_for_process(body: bytes) -> ToProcess:
    """Read a frame that the lane has sent.

    Raises:
      BrokenFrame: it is none of the messages.
    """
    try:
        return _for_process.decode(body)
    except msgspec.MsgspecError as error:
        raise BrokenFrame(str(error)) from error


def decode_from_process(body: bytes) -> FromProcess:
    """Read a frame that a process has sent.

    Raises:
      BrokenFrame: it is none of the messages.
    """
    try:
        return _from_process.decode(body)
    except msgspec.MsgspecError as error:
        raise BrokenFrame(str(error)) from error
