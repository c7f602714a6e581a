"""Puts a token's proof between a transport and those who use it."""

from __future__ import annotations

from collections.abc import Callable

from fastworker._core._roles import PeerRole
from fastworker._credentials import AuthTokens
from fastworker._transport._abc import Transport
from fastworker._transport._authenticated import AuthenticatedTransport

# An operator may do what a client may, and more.
CLIENT_ROLES = (PeerRole.OPERATOR, PeerRole.CLIENT)
WORKER_ROLES = (PeerRole.WORKER,)


def check_roles(tokens: AuthTokens | None, roles: tuple[PeerRole, ...]) -> None:
    """Refuse tokens that are good for nothing here.

    Raises:
      ConfigurationError: there are tokens, and none for one of these roles.
    """
    if tokens is not None:
        tokens.role_to_dial_as(*roles)


def prove_when_dialing(
    transport: Transport,
    tokens: AuthTokens | None,
    roles: tuple[PeerRole, ...],
    on_refused: Callable[[str, bool], None],
) -> Transport:
    """The transport, made to prove the first of these roles that has a token."""
    if tokens is None:
        return transport
    role = tokens.role_to_dial_as(*roles)
    return AuthenticatedTransport(transport, tokens.keys, role=role, on_refused=on_refused)
