"""Where callbacks may go: whoever submits chooses where the control plane connects to.

That is the oldest way through a firewall, so it goes to few places: this
machine's loopback, the host that the client itself has come from, and what the
operator has listed; never to a port of the control plane itself. Decisions
only: who has connected, and what a name stands for, is the caller's to know.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple, TypeAlias

IpAddress: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

ANYWHERE: Final = "*"
OPTION: Final = "--callback-allow (FASTWORKER_CALLBACK_ALLOW, callback_allow=)"
# Where clouds tell their machines secrets: nobody has a listener there.
_METADATA: Final = (
    ipaddress.ip_network("169.254.0.0/16"),
    ipaddress.ip_network("fe80::/10"),
    ipaddress.ip_network("fd00:ec2::254/128"),
)
# A gateway sends these on to the address of IPv4 in their last four bytes.
_TRANSLATED: Final = ipaddress.ip_network("64:ff9b::/96")


class AllowedPlace(NamedTuple):
    """One entry of the list: a name or a network, and a port, None for any.

    The name ``*`` stands for every place; what is always refused stays so.
    """

    name: str
    network: _Network | None
    port: int | None


class CallbackRules:
    """What a control plane goes by.

    Args:
      allowed: what the operator has listed, beside what is allowed anyway.
      own_ports: where this control plane itself listens.
      is_here: whether an address is one of this machine. Only asked for own ports.
    """

    def __init__(
        self,
        allowed: Iterable[AllowedPlace] = (),
        own_ports: Iterable[int] = (),
        is_here: Callable[[IpAddress], bool] = lambda address: False,
    ) -> None:
        self._allowed = tuple(allowed)
        self._own_ports = set(own_ports)
        self._is_here = is_here

    def add_own_port(self, port: int) -> None:
        """Something else of this control plane listens at this port too."""
        self._own_ports.add(port)

    def refuse(self, address: str, client_host: str) -> str | None:
        """Say why a task with this callback is not taken, None if it is.

        Args:
          address: ``tcp://host:port``.
          client_host: the address from which the client has connected, empty
            if that is not known.
        """
        host, port = split_address(address)
        place = parse_ip(host)
        if place is None:
            # What it stands for is checked when it is connected to.
            if _is_localhost(host):
                return self._own(address) if port in self._own_ports else None
            if self._lists_name(host, port):
                return None
            return self._not_listed(address, host, client_host)
        problem = self.refuse_place(address, place, port)
        if problem is None and not self._may_go(place, port, client_host):
            problem = self._not_listed(address, host, client_host)
        return problem

    def refuse_name(self, address: str, found: IpAddress) -> str | None:
        """Say why what the name in ``address`` stands for now is not connected to."""
        host, port = split_address(address)
        if not self._lists_name(host, port):
            if not _is_localhost(host):
                return self._not_listed(address, host, "")
            if not (found.is_loopback or self._lists(found, port)):
                return f"callback_address={address}: {host} is {found}, which is not loopback"
        return self.refuse_place(address, found, port)

    def refuse_place(self, address: str, place: IpAddress, port: int) -> str | None:
        """Say why nobody may have this place told, whoever he is; None if that depends."""
        place = _meant(place)
        is_here = place.is_loopback or place.is_unspecified
        if port in self._own_ports and (is_here or self._is_here(place)):
            return self._own(address)
        if any(place in network for network in _METADATA) and not self._names(place, port):
            return (
                f"callback_address={address}: {place} is link-local, where a cloud answers its "
                f"machines' questions; if a listener of yours is there, list it with {OPTION}"
            )
        return None

    def _may_go(self, place: IpAddress, port: int, client_host: str) -> bool:
        client = parse_ip(client_host)
        is_client = client is not None and _unmapped(client) == _unmapped(place)
        place = _meant(place)
        return place.is_loopback or is_client or self._lists(place, port)

    def _lists(self, place: IpAddress, port: int) -> bool:
        place = _meant(place)
        return any(
            (name == ANYWHERE or (network is not None and place in network))
            and wanted in (None, port)
            for name, network, wanted in self._allowed
        )

    def _names(self, place: IpAddress, port: int) -> bool:
        """Whether this very place is listed, not all of the internet."""
        return any(
            network is not None
            and place in network
            and wanted in (None, port)
            and any(_is_part(network, whole) for whole in _METADATA)
            for _, network, wanted in self._allowed
        )

    def _lists_name(self, name: str, port: int) -> bool:
        name = _plain_name(name)
        return any(
            listed in (name, ANYWHERE) and network is None and wanted in (None, port)
            for listed, network, wanted in self._allowed
        )

    def _own(self, address: str) -> str:
        return (
            f"callback_address={address} is a port of this control plane itself; give the "
            f"address at which your own listener waits"
        )

    def _not_listed(self, address: str, host: str, client_host: str) -> str:
        own = f" ({client_host})" if client_host else ""
        return (
            f"callback_address={address}: callbacks go to loopback, to the host of the client"
            f"{own} and to what is listed, and {host} is none of these; start the control "
            f"plane with {OPTION} {host}"
        )


def parse_allowed(text: str) -> AllowedPlace:
    """Parse an entry: ``HOST``, ``HOST:PORT``, ``*``, or a network such as 10.0.0.0/8.

    Raises:
      ValueError: it is none of these.
    """
    entry = text.strip()
    if entry == ANYWHERE:
        return AllowedPlace(ANYWHERE, None, None)
    if "/" in entry:
        try:
            return AllowedPlace("", ipaddress.ip_network(entry), None)
        except ValueError as error:
            raise _no_place(text, str(error)) from None
    host, port = entry, None
    if entry.count(":") == 1 or "]:" in entry:
        host, _, digits = entry.rpartition(":")
        if not (digits.isascii() and digits.isdigit() and 0 < int(digits[:6]) <= 65535):
            raise _no_place(text, "a port is a number from 1 to 65535")
        port = int(digits)
    place = parse_ip(host)
    if place is not None:
        return AllowedPlace("", ipaddress.ip_network(place), port)
    name = _plain_name(host)
    if not name or not name.isascii() or not all(c.isalnum() or c in "-._" for c in name):
        raise _no_place(text, "a host has letters, digits, '-', '.' and '_'")
    return AllowedPlace(name, None, port)


def _no_place(text: str, reason: str) -> ValueError:
    return ValueError(
        f"{text[:100]!r} is no place for callbacks ({reason}); use a host such as "
        f"'hooks.example.com', one with a port such as '10.0.0.7:9000', or a network such as "
        f"'10.0.0.0/8'"
    )


def split_address(address: str) -> tuple[str, int]:
    """Split a callback's address, which the wire has checked, into host and port."""
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    return host, int(port)


def parse_ip(host: str) -> IpAddress | None:
    """The address that a host is, with or without brackets and zone; None for a name."""
    try:
        return ipaddress.ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return None


def _meant(place: IpAddress) -> IpAddress:
    """Where packets to this address end up, if it is one of IPv4 written as IPv6."""
    place = _unmapped(place)
    if isinstance(place, ipaddress.IPv4Address):
        return place
    if place in _TRANSLATED:
        return ipaddress.IPv4Address(place.packed[12:])
    return place.sixtofour or place


def _unmapped(place: IpAddress) -> IpAddress:
    """The same address as IPv4, if a socket of IPv6 has it as that."""
    mapped = place.ipv4_mapped if isinstance(place, ipaddress.IPv6Address) else None
    return mapped or place


def _is_part(network: _Network, whole: _Network) -> bool:
    is_wide = network.prefixlen < whole.prefixlen
    return not is_wide and network.network_address in whole


def _plain_name(name: str) -> str:
    return name.lower().rstrip(".")


def _is_localhost(name: str) -> bool:
    return _plain_name(name) == "localhost"
