"""What a socket needs to speak TLS, and what the name in a peer's certificate is worth.

With mutual TLS both sides prove who they are: no pipe opens without a certificate
of the authority. NNG checks the certificates; the name in one decides which roles
its owner has. Otherwise only the control plane proves who it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from fastworker._core._roles import EVERYTHING, NOTHING, Authority, PeerRole

# What ``fastworker certs init`` calls them.
CONTROL_PLANE_NAME: Final = "fastworker-control-plane"
DEFAULT_NAMES: Final[Mapping[PeerRole, frozenset[str]]] = {
    PeerRole.CLIENT: frozenset({"fastworker-client"}),
    PeerRole.WORKER: frozenset({"fastworker-worker"}),
    PeerRole.OPERATOR: frozenset({"fastworker-operator"}),
}


@dataclass(frozen=True, repr=False)
class TlsContext:
    """The contents of the files, checked, and the names that are allowed.

    ``is_mutual`` is for who listens: whoever dials needs a certificate. ``own_name``
    is the common name in ``certificate``: whoever has its key is this control plane, or
    was started by it. ``server_name`` is the name that must stand in the certificate
    of whoever is dialed, by default the host of the address.
    """

    authority: str
    certificate: str = ""
    key: str = ""
    files: tuple[str, str] | None = None  # where those two come from
    own_name: str = ""
    is_mutual: bool = True
    server_name: str | None = None
    names: Mapping[PeerRole, frozenset[str]] = field(default_factory=lambda: DEFAULT_NAMES)

    def __repr__(self) -> str:
        return f"<TlsContext of {self.own_name!r}>"  # never the key

    def roles_of(self, name: str) -> Authority:
        """Which roles the owner of a certificate with this common name has."""
        if not self.is_mutual:
            return EVERYTHING  # nobody was asked for one
        return roles_of_name(name, self.names, own_name=self.own_name)


def roles_of_name(
    name: str, names: Mapping[PeerRole, frozenset[str]], *, own_name: str
) -> Authority:
    """The roles that a common name stands for; none for a name that nobody allowed.

    Names are compared as they are: a certificate for ``Web`` is not one for ``web``.
    """
    if not name:
        return NOTHING
    if name == own_name:
        return EVERYTHING
    return frozenset(role for role, allowed in names.items() if name in allowed)
