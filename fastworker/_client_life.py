"""The life of a client's session: whether it has come about, what it may ask, how it ended."""

from __future__ import annotations

import logging
from collections.abc import Callable

import anyio

from fastworker._core._messages import Kind
from fastworker._core._open_peers import NOTHING_PROVED
from fastworker._core._roles import ALLOWED_KINDS, PeerRole
from fastworker._errors import (
    AuthenticationError,
    ControlPlaneUnreachable,
    FastWorkerError,
    LinkBroken,
    NotPermitted,
)

log = logging.getLogger("fastworker.client")


class SessionLife:
    """See the module's first lines.

    Args:
      address: where the control plane is looked for.

    Attributes:
      is_over: whether every call raises from now on.
    """

    def __init__(self, address: str) -> None:
        self.is_over = False
        self._address = address
        # Makes the error that every call ends with once it is over.
        self._make_error: Callable[[], FastWorkerError] | None = None
        self._is_connected = False  # or was before
        self._is_operator = True
        self._not_proved = ""
        self._settled = anyio.Event()  # connected, or refused
        self._refusal: str | None = None

    # --- how it begins ---

    async def wait_connected(self, within: float) -> None:
        """Wait until the session is open.

        Raises:
          ControlPlaneUnreachable: it is not, after ``within`` seconds.
          LinkBroken: the control plane refused the session.
          AuthenticationError: one side did not prove who it is.
          or what :meth:`end` was given.
        """
        with anyio.move_on_after(within):
            await self._settled.wait()
        self.check_open()
        if self._refusal is not None:
            error = AuthenticationError if self._refusal == NOTHING_PROVED else LinkBroken
            raise error(f"the control plane at {self._address} refused: {self._refusal}")
        if self._not_proved and not self._is_connected:
            raise AuthenticationError(
                f"no session with the control plane at {self._address}: {self._not_proved}"
            )
        if not self._settled.is_set():
            raise ControlPlaneUnreachable(self._address, f"no answer within {within:g} s")

    def note_opened(self, *, operator: bool) -> None:
        """The control plane has let it in, as an operator's or not."""
        self._is_connected, self._is_operator = True, operator
        self._not_proved = ""
        self._settled.set()

    def note_refused(self, reason: str) -> None:
        """The control plane has not let it in."""
        self._refusal = reason
        self._settled.set()

    def note_not_proved(self, reason: str, *, is_final: bool) -> None:
        """One side did not prove who it is; it is tried again."""
        if self._is_connected and reason != self._not_proved:
            log.warning("no connection to %s any more: %s", self._address, reason)
        self._not_proved = reason
        if is_final:
            self._settled.set()

    # --- how it ends ---

    def end(self, make_error: Callable[[], FastWorkerError]) -> None:
        """It is over; every call raises an error of its own. To be called once."""
        self.is_over = True
        self._make_error = make_error
        self._settled.set()

    def error(self) -> FastWorkerError:
        """Make the error that a call ends with, once it is over."""
        assert self._make_error is not None
        return self._make_error()

    # --- what it may do ---

    def check_open(self) -> None:
        """A call that comes when nobody is left to answer it must not wait."""
        if self.is_over:
            raise self.error()

    def check_permitted(self, kind: Kind) -> None:
        """Raise NotPermitted of what the control plane would refuse this client."""
        if not self._is_operator and kind not in ALLOWED_KINDS[PeerRole.CLIENT]:
            raise NotPermitted(
                f"{kind.name} is for operators, and this client has proved the role client "
                f"only; use the token or certificate of the role operator"
            )
