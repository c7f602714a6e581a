"""Several frames in one message of the network.

A message through NNG costs about 0.2 ms of processor time on both ends
together, whatever is in it (it passes through six threads), and a frame costs
a hundredth of that. So what goes one way at one moment goes as one message:
each frame behind its length in four bytes, big-endian, and behind them all a
CRC-32 in four bytes, little-endian. NNG has no checksum of its own, and the
sixteen bits of TCP let one damaged segment in 65,536 through; a bit that is
flipped in an argument would be a wrong result that nobody notices.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Final

from fastworker._core._messages import BATCH_BYTES
from fastworker._errors import RemoteProtocolError

# Far more than a session has slots to fill. Without a limit one message could
# be millions of frames, and take seconds during which nobody else is heard.
MAX_FRAMES: Final = 256
# What is worth the trouble of not being copied. To copy 16 MiB takes 10 ms where the
# memory is new each time, and no thread of the interpreter does anything meanwhile.
LARGE_BYTES: Final = 64 * 1024
_PREFIX: Final = 4
_CHECKSUM: Final = 4
# The CRC of anything with its own CRC behind it, little-endian, is always this,
# so that a check needs no copy of the message without its end.
_SOUND: Final = 0x2144DF1C


def join(frames: Sequence[bytes | memoryview]) -> bytes:
    """Make one message of frames."""
    parts: list[bytes | memoryview] = []
    for frame in frames:
        parts.append(len(frame).to_bytes(_PREFIX, "big"))
        parts.append(frame)
    if sum(map(len, parts)) < LARGE_BYTES:
        return with_checksum(b"".join(parts))
    checksum = 0
    for part in parts:
        checksum = zlib.crc32(part, checksum)
    parts.append(checksum.to_bytes(_CHECKSUM, "little"))
    return b"".join(parts)


def with_checksum(body: bytes) -> bytes:
    """Put the checksum behind what is to be a message."""
    return body + zlib.crc32(body).to_bytes(_CHECKSUM, "little")


def split(message: bytes) -> list[bytes | memoryview]:
    """Take a message apart; a large frame is no copy, but a view of it.

    Raises:
      RemoteProtocolError: it is not one that :func:`join` makes.
    """
    if zlib.crc32(message) != _SOUND:
        raise RemoteProtocolError("a message is damaged: its checksum is wrong")
    frames: list[bytes | memoryview] = []
    position, end = 0, len(message) - _CHECKSUM
    while position < end:
        start = position + _PREFIX
        position = start + int.from_bytes(message[position:start], "big")
        if position > end or start > end:
            raise RemoteProtocolError("a message ends inside a frame")
        if position - start < LARGE_BYTES:
            frames.append(message[start:position])
        else:
            frames.append(memoryview(message)[start:position])
        if len(frames) > MAX_FRAMES:
            raise RemoteProtocolError(f"a message has more than {MAX_FRAMES} frames")
    if not frames:
        raise RemoteProtocolError("a message has no frame")
    return frames


def first_bundle(frames: Sequence[bytes]) -> int:
    """How many of the first frames go into one message: a batch, at least one."""
    size = 0
    for count, frame in enumerate(frames):
        size += len(frame)
        if size > BATCH_BYTES and count:
            return min(count, MAX_FRAMES)
    return min(len(frames), MAX_FRAMES)
