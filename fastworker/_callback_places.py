"""Finds out where a callback's address leads, at the moment of connecting.

The decisions are in ``_core/_callback_addresses.py``. A name is resolved once,
and what is connected to is the address that was checked: a name that stands for
something else a moment later leads nowhere else.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
from typing import Final

import trio

from fastworker._core._callback_addresses import (
    CallbackRules,
    IpAddress,
    parse_ip,
    split_address,
)
from fastworker._errors import LinkError

RESOLVE_SECONDS: Final = 5.0


async def place_to_dial(address: str, rules: CallbackRules) -> str:
    """Return the address to connect to; its host is no name any more.

    Raises:
      LinkError: the name does not resolve, or nothing it stands for may be
        connected to. The message says why.

    Cancellation:
      Changes nothing. Not a checkpoint if there is no name to resolve.
    """
    host, port = split_address(address)
    place = parse_ip(host)
    if place is not None:
        problem = rules.refuse_place(address, place, port)
        if problem is not None:
            raise LinkError(problem)
        return address
    problem = ""
    for found in await _resolve(host):
        problem = rules.refuse_name(address, found) or ""
        if not problem:
            shown = f"[{found}]" if found.version == 6 else str(found)
            return f"tcp://{shown}:{port}"
    raise LinkError(problem or f"the name {host} stands for no address")


def is_of_this_machine(place: IpAddress) -> bool:
    """Whether this machine has this address: only then can a socket be bound to it."""
    family = socket.AF_INET6 if place.version == 6 else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(place), 0))
    except OSError as error:
        # Whatever else went wrong, such as too few descriptors, proves nothing.
        return error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.EINVAL)
    return True


async def _resolve(name: str) -> list[IpAddress]:
    with trio.move_on_after(RESOLVE_SECONDS) as scope:
        try:
            found = await trio.socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise LinkError(f"the name {name} does not resolve ({error})") from None
    if scope.cancelled_caught:
        raise LinkError(f"the name {name} did not resolve within {RESOLVE_SECONDS:g} s")
    texts = dict.fromkeys(str(place[4][0]).partition("%")[0] for place in found)
    return [ipaddress.ip_address(text) for text in texts]
