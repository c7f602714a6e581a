"""Addresses as users write them, checked before anything is opened.

NNG retries a wrong host or port silently for ever, so what can be known to be
wrong is refused here, with the offending value and an example.
"""

from __future__ import annotations

import re

from fastworker._errors import ConfigurationError

_EXAMPLES = (
    "write it as 'tcp://127.0.0.1:5555', 'tcp://[::1]:5555' "
    "or, to listen on every interface, 'tcp://0.0.0.0:5555'; with TLS, 'tls+tcp://…'"
)
TLS_SCHEME = "tls+tcp"
_MEMORY = re.compile(r"memory://[A-Za-z0-9_.\-]+\Z")
_TCP = re.compile(
    r"(?P<scheme>tcp|tls\+tcp)://(?P<host>\[[0-9A-Fa-f:.]+(?:%\w+)?\]|[A-Za-z0-9_.\-]+):(?P<port>[0-9]{1,5})\Z"
)


def split_address(address: str, *, listening: bool) -> tuple[str, str, int]:
    """Split ``tcp://host:port`` or ``tls+tcp://host:port``.

    Args:
      address: What the user gave.
      listening: Whether port 0, "any free one", makes sense.

    Returns:
      Scheme, host (with its brackets) and port.

    Raises:
      ConfigurationError: it is no such address.
    """
    match = _TCP.match(address)
    if match is None:
        raise ConfigurationError(f"{address!r} is not an address of a socket; {_EXAMPLES}")
    port = int(match["port"])
    lowest = 0 if listening else 1
    if not lowest <= port <= 65535:
        raise ConfigurationError(
            f"{address!r} has port {port}, which must be between {lowest} and 65535; "
            f"an address that works is 'tcp://127.0.0.1:5555'"
        )
    return match["scheme"], match["host"], port


def parse_tcp_address(address: str, *, listening: bool) -> tuple[str, int]:
    """Host and port only; see :func:`split_address`."""
    _, host, port = split_address(address, listening=listening)
    return host, port


def is_memory_address(address: str) -> bool:
    """Whether this is a name such as ``memory://control-plane``."""
    return _MEMORY.match(address) is not None


def replace_port(address: str, port: int) -> str:
    """The same scheme and host with another port.

    Raises:
      ConfigurationError: the address is no ``tcp://host:port`` or ``tls+tcp://host:port``.
    """
    scheme, host, _ = split_address(address, listening=True)
    return f"{scheme}://{host}:{port}"
