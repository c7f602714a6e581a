"""What is used of NNG's TLS: configurations, the name of a peer, and a count of refusals.

pynng has no names for the last two. NNG itself checks certificates; what it says
of one that it refused is no more than that it did.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import pynng

from fastworker._errors import ConfigurationError
from fastworker._transport._tls import TlsContext

_lib: Any = pynng.lib
_ffi: Any = pynng.ffi
# What NNG counts of a listener when a connection came to nothing; "other" also has pipes
# that ended as they should.
_FAILURES: Final = frozenset({b"auth", b"proto", b"timeout"})


def client_config(tls: TlsContext, host: str) -> Any:
    """For a socket that dials ``host``.

    Raises:
      ConfigurationError: NNG cannot use the files.
    """
    # Without a name NNG refuses every server (H20).
    return _config(tls, pynng.TLSConfig.MODE_CLIENT, server_name=tls.server_name or host)


def server_config(tls: TlsContext) -> Any:
    """For a socket that listens; raises as :func:`client_config`."""
    return _config(tls, pynng.TLSConfig.MODE_SERVER, is_required=tls.is_mutual)


def peer_name(pipe: int) -> str:
    """The common name in the certificate of a peer; empty if it has shown none (H21)."""
    handle = _ffi.new("nng_pipe *", {"id": pipe})[0]
    slot = _ffi.new("char **")
    if _lib.nng_pipe_get_string(handle, b"tls-peer-cn", slot) or not slot[0]:
        return ""
    try:
        return bytes(_ffi.string(slot[0])).decode(errors="replace")
    finally:
        _lib.nng_strfree(slot[0])


def failed_handshakes(listener: Any) -> int:
    """How many connections to this listener have failed before there was a pipe."""
    root = _ffi.new("nng_stat **")
    if _lib.nng_stats_get(root):
        return 0
    try:
        found = _lib.nng_stat_find_listener(root[0], listener)
        return sum(_counts(found)) if found else 0
    finally:
        _lib.nng_stats_free(root[0])


def _counts(statistics: Any) -> Iterator[int]:
    each = _lib.nng_stat_child(statistics)
    while each:
        if _ffi.string(_lib.nng_stat_name(each)) in _FAILURES:
            yield int(_lib.nng_stat_value(each))
        each = _lib.nng_stat_next(each)


def _config(
    tls: TlsContext, mode: int, *, server_name: str | None = None, is_required: bool = True
) -> Any:
    try:
        return pynng.TLSConfig(
            mode,
            server_name=server_name,
            ca_string=tls.authority,
            own_cert_string=tls.certificate or None,
            own_key_string=tls.key or None,
            # By default a listener asks nobody for a certificate (H20).
            auth_mode=pynng.TLSConfig.AUTH_MODE_REQUIRED if is_required else None,
        )
    except pynng.NNGException as exc:
        raise ConfigurationError(
            f"NNG cannot use the TLS files: {exc}; keys of RSA (2048 bits or more) and of "
            f"the elliptic curves P-256 and P-384 work, without a password"
        ) from exc
