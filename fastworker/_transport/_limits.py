"""How much travels at once, the same for every transport.

A fake network with other limits than the real one would prove nothing.
"""

from __future__ import annotations

from fastworker._errors import LocalProtocolError
from fastworker._transport._abc import MAX_FRAME_BYTES

# What one receive() returns at most, so that a flooding peer cannot keep the
# caller from its other work.
MAX_BATCH_FRAMES = 256
MAX_BATCH_BYTES = 4 * 1024 * 1024

# What takes milliseconds to make, to take in or to hand on. So long nobody else runs:
# whoever has such a message pauses between the steps.
PAUSE_BYTES = 1024 * 1024

# A hundred small tasks or ends of tasks: worth a message to each whom they concern.
PORTION_BYTES = 8 * 1024

# A route's header travels in the frame, and the receiver's limit covers both.
_MAX_HEADER_BYTES = 64


def check_frame_size(frame: bytes) -> None:
    """Refuse what the peer would answer by closing the pipe, again and again (H11).

    Raises:
      LocalProtocolError: the frame is too long; the caller should have known.
    """
    if len(frame) > MAX_FRAME_BYTES - _MAX_HEADER_BYTES:
        raise LocalProtocolError(
            f"a frame of {len(frame):,} bytes is over the limit of "
            f"{MAX_FRAME_BYTES - _MAX_HEADER_BYTES:,}"
        )
