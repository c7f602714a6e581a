"""Who else could reach a socket, and what is refused because of that.

Where nobody has to prove who he is, whoever reaches a control plane may submit
tasks and lease them, and whoever may send a pickle runs code of his own. So
beyond this machine nothing listens without authentication unless it is told to,
and no pickle is accepted from there without it at all. These are decisions only;
resolving names is the caller's.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from fastworker._errors import ConfigurationError
from fastworker._models import SerializationFormat
from fastworker._settings import Address

_BOTH_WAYS: Final = (
    "have peers prove a token (auth=, --auth-token-file or FASTWORKER_AUTH_TOKEN_FILE), or a "
    "certificate (mutual TLS)"
)

__all__ = [
    "exposed_addresses",
    "names_to_resolve",
    "refuse_exposed_addresses",
    "refuse_exposed_dashboard",
    "refuse_foreign_pickles",
]


def names_to_resolve(addresses: Iterable[Address]) -> list[str]:
    """The hosts of which only a resolver knows where they are, each once."""
    names = {a.host: None for a in addresses if not a.is_loopback and not _is_literal(a.host)}
    return list(names)


def exposed_addresses(
    listening: Mapping[str, Address], resolved: Mapping[str, Sequence[str]]
) -> list[str]:
    """Name the settings whose address other machines can reach.

    Args:
      listening: where something will listen, by the name of its setting.
      resolved: what each of :func:`names_to_resolve` stands for. A name that
        is missing here counts as exposed.

    Returns:
      Such as ``["base_address=tcp://0.0.0.0:5555"]``.
    """
    found: list[str] = []
    for setting, address in listening.items():
        hosts = resolved.get(address.host, [])
        places = [Address(host, address.port) for host in hosts]
        if address.is_loopback or (places and all(place.is_loopback for place in places)):
            continue
        meaning = f" ({', '.join(hosts)})" if hosts else ""
        found.append(f"{setting}={address}{meaning}")
    return found


def refuse_exposed_addresses(exposed: Sequence[str]) -> None:
    """Refuse to listen where other machines could connect.

    Raises:
      ConfigurationError: ``exposed`` is not empty. The message names the
        addresses and both ways out.
    """
    if exposed:
        raise ConfigurationError(
            f"{', '.join(exposed)}: other machines could connect there, and without "
            f"authentication they could submit and run tasks; {_BOTH_WAYS}; or listen on "
            f"127.0.0.1, or, in a network where everybody is trusted, say insecure=True, "
            f"--insecure or FASTWORKER_INSECURE=1"
        )


def refuse_exposed_dashboard(address: Address) -> None:
    """Refuse to serve the dashboard where other machines could connect.

    Raises:
      ConfigurationError: always. The message names the address and both ways out.
    """
    raise ConfigurationError(
        f"gui_host={address.host}: other machines could connect there, and whoever listens on "
        f"the way could read the token, since nothing is encrypted; listen on 127.0.0.1 behind "
        f"a proxy with TLS, or, in a network where everybody is trusted, say insecure=True, "
        f"--insecure or FASTWORKER_INSECURE=1"
    )


def refuse_foreign_pickles(
    addresses: Mapping[str, Address], format: SerializationFormat, *, authenticated: bool
) -> None:
    """Refuse PICKLE beyond this machine unless peers prove who they are.

    A name other than localhost counts as another machine whatever it resolves
    to now: it may resolve to something else at the next reconnect.

    Raises:
      ConfigurationError: the message names the address and what to do.
    """
    if authenticated or format is not SerializationFormat.PICKLE:
        return
    for setting, address in addresses.items():
        if not address.is_loopback:
            raise ConfigurationError(
                f"serialization_format=PICKLE with {setting}={address}: unpickling runs code "
                f"of whoever sent the bytes, so it is refused beyond this machine without "
                f"authentication, also with insecure=True; {_BOTH_WAYS}; or use "
                f"serialization_format='json', or an address on 127.0.0.1"
            )


def _is_literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return False
    return True
