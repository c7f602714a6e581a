"""Why a connection does not come about, in words.

NNG dials again and again, and does not say what went wrong: a wrong certificate
and a wrong port look the same. So after a moment somebody who can tell tries
once: Python's own TLS, with the same files.
"""

from __future__ import annotations

import ssl
from typing import Final, NamedTuple

import anyio
from anyio.abc import ByteStream
from anyio.streams.tls import TLSStream

from fastworker._transport._address import split_address
from fastworker._transport._tls import TlsContext

# Seconds for each step of a try.
STEP_SECONDS: Final = 1.0
# What each end of NNG says first.
_GREETING: Final = b"\0SP\0"
_FILES: Final = "--tls-ca, --tls-cert and --tls-key"


class Trouble(NamedTuple):
    """What is wrong, and whether it will be so until somebody changes something."""

    reason: str
    is_final: bool


async def find_trouble(address: str, tls: TlsContext | None) -> Trouble | None:
    """Try to connect once, and say what is wrong.

    Returns:
      None if nothing was found to be wrong, or nobody is there.

    Cancellation:
      The connection is closed.
    """
    _, host, port = split_address(address, listening=False)
    host = host.strip("[]")
    if tls is not None:
        return await _trouble_with_tls(host, port, tls)
    if await _speaks_tls_only(host, port):
        reason = (
            f"{address} speaks TLS; write it as tls+tcp://, and give {_FILES} or "
            f"FASTWORKER_TLS_…"
        )
        return Trouble(reason, is_final=True)
    return None


async def _trouble_with_tls(host: str, port: int, tls: TlsContext) -> Trouble | None:
    try:
        context = _context(tls)
    except (OSError, ValueError) as error:
        return Trouble(f"the TLS files cannot be used any more: {error}", is_final=False)
    trouble = None
    with anyio.move_on_after(3 * STEP_SECONDS):
        try:
            stream = await anyio.connect_tcp(host, port)
        except OSError:
            return None  # nobody is there, which is no trouble of TLS
        # Unless the handshake says otherwise in time.
        trouble = Trouble("there is no answer in TLS; it may listen without", is_final=False)
        async with stream:
            trouble = await _trouble_in_handshake(stream, tls.server_name or host, context)
        if trouble is not None and tls.files is None:
            return _WANTS_ONE if trouble == _BROKEN_OFF else trouble
    return trouble


async def _trouble_in_handshake(
    stream: ByteStream, name: str, context: ssl.SSLContext
) -> Trouble | None:
    try:
        await TLSStream.wrap(
            stream, hostname=name, ssl_context=context, standard_compatible=False
        )
    except ssl.SSLCertVerificationError as error:
        reason = (
            f"the certificate of the control plane is not accepted: {error.verify_message}; "
            f"compare --tls-ca and --tls-server-name with it"
        )
        return Trouble(reason, is_final=True)
    except ssl.SSLError as error:
        return Trouble(_said(error) or _PLAIN, is_final=True)
    except (anyio.BrokenResourceError, anyio.EndOfStream, OSError):
        return _BROKEN_OFF
    return None


_PLAIN: Final = (
    "it speaks no TLS; write the address as tcp://, or start the control plane with TLS"
)
_BROKEN_OFF: Final = Trouble(
    "it closed the connection in the TLS handshake; it may end just now, or speak no TLS",
    is_final=False,
)
_WANTS_ONE: Final = Trouble(
    "it closed the connection in the TLS handshake: it wants a certificate (--tls-cert, "
    "--tls-key)",
    is_final=True,
)


def _said(error: ssl.SSLError) -> str:
    """What the other side's alert means; empty if it was none."""
    reason = (error.reason or "").lower().replace("_", " ")
    if "alert" not in reason:
        return ""
    words = reason.partition("alert ")[2]
    if words == "handshake failure":
        return f"the control plane has no certificate that is one for a server ({words})"
    return (
        f"the control plane refused our certificate; it has to be one of an authority that "
        f"is in its --tls-ca, and valid today ({words})"
    )


async def _speaks_tls_only(host: str, port: int) -> bool:
    with anyio.move_on_after(STEP_SECONDS):
        try:
            async with await anyio.connect_tcp(host, port) as stream:
                await stream.receive(len(_GREETING))
        except (OSError, anyio.EndOfStream, anyio.BrokenResourceError):
            pass  # nobody, or somebody who does not speak first
        return False
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with anyio.move_on_after(STEP_SECONDS):
        try:
            async with await anyio.connect_tcp(host, port) as stream:
                return await _answers_in_tls(stream, host, context)
        except OSError:
            pass
    return False


async def _answers_in_tls(stream: ByteStream, host: str, context: ssl.SSLContext) -> bool:
    try:
        await TLSStream.wrap(
            stream, hostname=host, ssl_context=context, standard_compatible=False
        )
    except ssl.SSLError as error:
        return bool(_said(error))
    except (anyio.BrokenResourceError, anyio.EndOfStream):
        return False
    return True


def _context(tls: TlsContext) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # In 1.3 it could say only after the handshake, and then encrypted, what is wrong.
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(cadata=tls.authority)
    if tls.files is not None:
        context.load_cert_chain(*tls.files)
    return context
