"""Asks the network library about itself, for ``fastworker doctor``."""

from __future__ import annotations

from typing import NamedTuple

from fastworker._transport._nng import NngListener
from fastworker._transport._nng_socket import RawSocket, _ffi, _lib


class ProbedSocket(NamedTuple):
    """What the library says of a socket that the factory has made."""

    protocol: str
    is_raw: bool
    max_frame: int
    has_keepalive: bool
    reconnect_min_ms: int
    reconnect_max_ms: int


def nng_version() -> str:
    """Such as "1.11.0"."""
    return _text(_lib.nng_version())


def tls_version() -> str:
    """Such as "Mbed TLS 3.6.3", empty if there is none."""
    text = _text(_lib.nng_tls_engine_description())
    return "" if text.lower() in ("", "none") else text


def can_name_tls_peers() -> bool:
    """Whether it has the call that tells a peer's name."""
    return hasattr(_lib, "nng_pipe_get_string")


def probe_sockets() -> list[ProbedSocket]:
    """Make one of each kind, ask it, and close it."""
    probed: list[ProbedSocket] = []
    for open_socket in (RawSocket.open_req, RawSocket.open_rep, RawSocket.open_pair):
        made = open_socket()
        try:
            known = made._socket
            probed.append(
                ProbedSocket(
                    protocol=str(known.protocol_name),
                    is_raw=bool(known.raw),
                    max_frame=int(known.recv_max_size),
                    has_keepalive=bool(known.tcp_keepalive),
                    reconnect_min_ms=int(known.reconnect_time_min),
                    reconnect_max_ms=int(known.reconnect_time_max),
                )
            )
        finally:
            made.close()
    return probed


def count_pipes(listener: NngListener) -> int:
    """How many pipes pynng thinks that a listener has."""
    return len(listener._socket._socket._pipes)


def _text(pointer: object) -> str:
    return str(_ffi.string(pointer).decode())
