"""What a peer without a token hears where one is needed.

It speaks at once, where others would prove themselves. It gets one answer in
its own language, so that a person reads why; none of it reaches a machine.
"""

from __future__ import annotations

from typing import Final

from fastworker._core._bundle import join, split
from fastworker._core._codec import decode_frame, encode
from fastworker._core._messages import Hello, Refused
from fastworker._errors import RemoteProtocolError

NOTHING_PROVED: Final = (
    "this control plane wants peers to prove a token, and this peer has none; give it one "
    "with --auth-token-file or FASTWORKER_AUTH_TOKEN_FILE"
)


def refusal_for(message: bytes) -> bytes | None:
    """The answer to a HELLO that came without a proof; None if this is none."""
    try:
        hello = decode_frame(split(message)[0])
    except RemoteProtocolError:
        return None
    if not isinstance(hello, Hello):
        return None
    return join([encode(Refused(hello.nonce, NOTHING_PROVED))])
