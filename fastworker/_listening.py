"""Whether a control plane may listen where it was told to, asked when it starts.

The decisions are in ``_exposure.py``; this asks the resolver and says the
warning.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Mapping
from typing import Final

import trio

from fastworker._errors import ConfigurationError
from fastworker._exposure import (
    exposed_addresses,
    names_to_resolve,
    refuse_exposed_addresses,
    refuse_foreign_pickles,
)
from fastworker._models import SerializationFormat
from fastworker._settings import Address

log = logging.getLogger("fastworker.control_plane")

RESOLVE_SECONDS: Final = 5.0


async def check_listening(
    listening: Mapping[str, Address],
    format: SerializationFormat,
    *,
    insecure: bool,
    authenticated: bool = False,
) -> None:
    """Refuse, or with ``insecure`` warn of, sockets that other machines can reach.

    Raises:
      ConfigurationError: it may not listen there, or a name does not resolve.

    Cancellation:
      Changes nothing. Not a checkpoint if there are no names to resolve.
    """
    refuse_foreign_pickles(listening, format, authenticated=authenticated)
    resolved = {name: await _resolve(name) for name in names_to_resolve(listening.values())}
    exposed = exposed_addresses(listening, resolved)
    if authenticated:
        return
    if not insecure:
        refuse_exposed_addresses(exposed)
    elif exposed:
        log.warning(
            "INSECURE: whoever can connect to %s may submit and run tasks here; there is no "
            "authentication",
            ", ".join(exposed),
        )


async def _resolve(name: str) -> list[str]:
    with trio.move_on_after(RESOLVE_SECONDS) as scope:
        try:
            found = await trio.socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
        except OSError as error:
            raise ConfigurationError(
                f"cannot listen on {name!r}: the name does not resolve ({error}); use an "
                f"address of this machine, such as 127.0.0.1"
            ) from None
    if scope.cancelled_caught:
        raise ConfigurationError(
            f"cannot listen on {name!r}: the resolver did not answer within "
            f"{RESOLVE_SECONDS:g} s; use an address of this machine, such as 127.0.0.1"
        )
    return list(dict.fromkeys(_bracketed(str(place[4][0])) for place in found))


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
