"""Who is let in: what a HELLO is answered with.

Where to go, why not, that a session is over, or that it is welcome.
"""

from __future__ import annotations

import hashlib
from typing import Final

from fastworker._core._control_plane_events import Port
from fastworker._core._known_functions import ANNOUNCED_BYTES
from fastworker._core._messages import (
    LEASE_SECONDS,
    PROTOCOL_VERSION,
    Hello,
    Redirect,
    Refused,
    Rehello,
    Role,
    Welcome,
)
from fastworker._core._roles import may_open, may_touch_others
from fastworker._core._scheduler import Scheduler
from fastworker._core._scheduler_events import SubworkerJoined
from fastworker._core._session_table import SessionTable

BEAT_SECONDS: Final = 5.0


class Reception:
    """See the module's first lines; it decides, and changes nothing.

    Args:
      sessions: those that live.
      scheduler: which has the subworkers' functions.
      epoch, worker_id, is_durable: what a peer is told of the control plane.
      ports: where HELLO on the discovery port sends a peer of each role.
    """

    def __init__(
        self,
        sessions: SessionTable,
        scheduler: Scheduler,
        *,
        epoch: int,
        worker_id: str,
        is_durable: bool,
        ports: dict[Role, int],
    ) -> None:
        self._sessions = sessions
        self._scheduler = scheduler
        self._epoch = epoch
        self._worker_id = worker_id
        self._is_durable = is_durable
        self._ports = ports

    def turn_away(
        self, port: Port, pipe: int, hello: Hello
    ) -> Redirect | Refused | Rehello | None:
        """Return what to say to somebody who cannot come in, None to one who can."""
        if hello.protocol != PROTOCOL_VERSION:
            reason = (
                f"this control plane speaks protocol {PROTOCOL_VERSION}, the peer "
                f"{hello.protocol}; use the same version of fastworker on both sides"
            )
            return Refused(hello.nonce, reason)
        if not may_open(self._sessions.authority_of(pipe), hello.role):
            reason = (
                f"what this peer has proved, by token or certificate, is not good for a "
                f"{hello.role.name.lower()}"
            )
            return Refused(hello.nonce, reason)
        if port is Port.DISCOVERY:
            return Redirect(hello.nonce, self._ports[hello.role])
        session = self._sessions.by_key.get(hello.session)
        if session is None:
            if hello.epoch == self._epoch:
                # It expired. Under its old id, frames of its former life that
                # are still under way would be taken for new requests.
                return Rehello(hello.session, self._epoch)
            reason = self._sessions.why_full(pipe) or self._why_too_many_functions(hello)
            return Refused(hello.nonce, reason) if reason else None
        if session.role is not hello.role:
            return Refused(hello.nonce, "this session has another role")
        return None

    def _why_too_many_functions(self, hello: Hello) -> str:
        if self._scheduler.has_room_for(hello.functions):
            return ""
        return (
            f"{len(hello.functions)} task functions are too many: what all subworkers "
            f"have registered together would be more than "
            f"{ANNOUNCED_BYTES // 2**20} MiB of names, signatures and docstrings"
        )

    def welcome(self, hello: Hello, pipe: int, *, is_known: bool) -> Welcome:
        """Return what to say to somebody whose session is open now."""
        return Welcome(
            nonce=hello.nonce,
            session=hello.session,
            epoch=self._epoch,
            resumed=is_known,
            lease=LEASE_SECONDS,
            beat=BEAT_SECONDS,
            worker_id=self._worker_id,
            kept=self._scheduler.kept_attempts(hello.session, hello.held),
            durable=self._is_durable,
            operator=may_touch_others(self._sessions.authority_of(pipe)),
        )


def joined_by(hello: Hello, port: Port) -> SubworkerJoined:
    """What the scheduler is told of a subworker that has opened its session."""
    is_inside = port is Port.INSIDE
    return SubworkerJoined(
        hello.session,
        hello.worker_id,
        hello.address,
        hello.functions,
        b"" if is_inside else _holder_of(hello.session),
        hello.held,
        is_inside,
    )


def _holder_of(session: bytes) -> bytes:
    """What the store calls a session, whose id is a secret."""
    return hashlib.blake2b(session, digest_size=16, person=b"fw-holder").digest()
