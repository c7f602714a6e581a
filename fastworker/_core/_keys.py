"""From a shared token to keys, each for one purpose.

The derivation is HKDF with SHA-256 (RFC 5869): *extract* makes an even key of a
token, *expand* makes one key of it for each label. As every role and every
purpose has a label of its own, no proof of one role is one of another, and no
proof is ever a message's MAC.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from typing import Final

from fastworker._core._roles import PeerRole

# With fewer bytes there is nothing to be kept secret: whoever saw one handshake
# could try them all.
MIN_TOKEN_BYTES: Final = 16
KEY_BYTES: Final = 32

_SALT: Final = b"fastworker token v1"
_PROOF: Final = b"fastworker v1 proof of "
_SESSION: Final = b"fastworker v1 session of "


class RoleKeys:
    """What a token is good for in one role. Never shown."""

    __slots__ = ("proof", "session")

    def __init__(self, token: bytes, role: PeerRole) -> None:
        even = hkdf_extract(_SALT, token)
        name = role.value.encode()
        self.proof = hkdf_expand(even, _PROOF + name)
        self.session = hkdf_expand(even, _SESSION + name)

    def __repr__(self) -> str:
        return "<RoleKeys>"


def keys_of(tokens: Mapping[PeerRole, bytes]) -> dict[PeerRole, RoleKeys]:
    """The keys of each role that has a token."""
    return {role: RoleKeys(token, role) for role, token in tokens.items()}


def mac(key: bytes, *parts: bytes) -> bytes:
    """HMAC-SHA256 (RFC 2104) over these parts, one behind the other."""
    state = hmac.new(key, digestmod=hashlib.sha256)
    for part in parts:
        state.update(part)
    return state.digest()


def hkdf_extract(salt: bytes, secret: bytes) -> bytes:
    """An even key (RFC 5869, section 2.2)."""
    return mac(salt, secret)


def hkdf_expand(key: bytes, label: bytes) -> bytes:
    """One key of 32 bytes for a label (RFC 5869, section 2.3: the first block)."""
    return mac(key, label, b"\x01")
