"""Certificates for this process: where they come from, and whether they can be used.

What NNG would answer by silence is found out here, before anything is opened: a
key that others can read, a certificate that has expired, that the authority did
not sign, or that has another key.
"""

from __future__ import annotations

import dataclasses
import os
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

from fastworker._core._roles import PeerRole
from fastworker._errors import ConfigurationError
from fastworker._private_file import read_private_file
from fastworker._settings import SWITCH, Address, resolve
from fastworker._transport._tls import DEFAULT_NAMES, TlsContext

__all__ = [
    "Tls",
    "TlsSettings",
    "environ_on_this_machine",
    "resolve_tls",
    "settings_on_this_machine",
    "tls_context",
]

CERTIFICATE_VARIABLE: Final = "FASTWORKER_TLS_CERT"
KEY_VARIABLE: Final = "FASTWORKER_TLS_KEY"
AUTHORITY_VARIABLE: Final = "FASTWORKER_TLS_CA"
SERVER_NAME_VARIABLE: Final = "FASTWORKER_TLS_SERVER_NAME"
MUTUAL_VARIABLE: Final = "FASTWORKER_TLS_MUTUAL"
ALLOW_VARIABLE: Final = "FASTWORKER_TLS_ALLOW"

_MAX_FILE_BYTES: Final = 1024 * 1024
_MAKE_SOME: Final = "'fastworker certs init DIR' makes certificates for a first set-up"
_HOW: Final = (
    "give authority, certificate and key: tls=TlsSettings(ca=..., cert=..., key=...), or "
    f"--tls-ca, --tls-cert and --tls-key, or {AUTHORITY_VARIABLE}, {CERTIFICATE_VARIABLE} and "
    f"{KEY_VARIABLE}; {_MAKE_SOME}"
)


@dataclass(frozen=True)
class TlsSettings:
    """Files with which both sides prove who they are, for ``tls=``.

    Args:
      ca: the file with the authorities whose certificates are accepted.
      cert: the file with this process's certificate, and with those between it
        and the authority, if there are any. Whoever dials a control plane that does
        not ask for one needs none.
      key: the file with its key, which only its owner may read.
      server_name: the name that has to stand in the control plane's certificate,
        by default the host that is dialed.
      mutual: for control planes: whether whoever dials needs a certificate. False
        encrypts, and proves to clients who the control plane is; whoever can connect
        is let in, unless there are tokens too.
      allow: for control planes: the names in certificates that have each of the
        roles "client", "worker" and "operator". A role that is not named here has
        the name that ``fastworker certs init`` gives it.

    Raises:
      ConfigurationError: a role is none, or has names that cannot be some.
    """

    ca: str | os.PathLike[str]
    cert: str | os.PathLike[str] | None = None
    key: str | os.PathLike[str] | None = None
    server_name: str | None = None
    mutual: bool = True
    allow: Mapping[str, Iterable[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if (self.cert is None) != (self.key is None):
            missing = "key" if self.key is None else "cert"
            raise ConfigurationError(f"tls: {missing} is missing: {_HOW}")
        allow = {role: _names(role, names) for role, names in self.allow.items()}
        object.__setattr__(self, "allow", allow)


# What ``tls=`` takes: settings, False for none whatever the environment says, and
# None for what that says.
Tls: TypeAlias = TlsSettings | bool | None


class Identity(NamedTuple):
    """What a certificate says of its owner."""

    name: str
    hosts: tuple[str, ...]


def resolve_tls(tls: Tls, environ: Mapping[str, str]) -> TlsSettings | None:
    """The settings that were given, else those of the environment, else None.

    Raises:
      ConfigurationError: they are incomplete, or are none.
    """
    if isinstance(tls, TlsSettings):
        return tls
    if tls is False:
        return None
    if tls is not None:
        raise ConfigurationError(
            f"tls is a {type(tls).__qualname__}; use TlsSettings(ca=..., cert=..., key=...), "
            f"or False"
        )
    files: dict[str, str] = {
        name: environ.get(name, "").strip()
        for name in (CERTIFICATE_VARIABLE, KEY_VARIABLE, AUTHORITY_VARIABLE)
    }
    if not any(files.values()):
        return None
    has_pair = bool(files[CERTIFICATE_VARIABLE]) == bool(files[KEY_VARIABLE])
    if not files[AUTHORITY_VARIABLE] or not has_pair:
        given = ", ".join(name for name, path in files.items() if path)
        missing = " and ".join(name for name, path in files.items() if not path)
        raise ConfigurationError(f"{given} without {missing}: {_HOW}")
    return TlsSettings(
        ca=files[AUTHORITY_VARIABLE],
        cert=files[CERTIFICATE_VARIABLE] or None,
        key=files[KEY_VARIABLE] or None,
        mutual=resolve(None, MUTUAL_VARIABLE, True, SWITCH.parse, environ=environ),
        server_name=environ.get(SERVER_NAME_VARIABLE, "").strip() or None,
        allow=parse_allow(environ.get(ALLOW_VARIABLE, "")),
    )


def parse_allow(text: str) -> dict[str, tuple[str, ...]]:
    """Parse ``worker=w1,w2;client=web``. A role that is named twice has all the names.

    Raises:
      ConfigurationError: it is none.
    """
    allow: dict[str, tuple[str, ...]] = {}
    for part in filter(None, (each.strip() for each in text.split(";"))):
        role, equals, names = part.partition("=")
        found = tuple(name.strip() for name in names.split(","))
        if not equals or not all(found):
            raise ConfigurationError(
                f"{part!r} allows nothing: use ROLE=NAME,NAME with the common names of "
                f"certificates, such as 'worker=w1,w2'"
            )
        allow[role.strip()] = (*allow.get(role.strip(), ()), *found)
    return allow


def tls_context(
    settings: TlsSettings | None, addresses: Mapping[str, Address], *, listening: bool
) -> TlsContext | None:
    """Read and check the files, if these addresses want TLS.

    Args:
      settings: what was given, or None.
      addresses: that are dialed or listened on, by the name of their setting.
      listening: which of the two.

    Raises:
      ConfigurationError: the files cannot be used, or files and addresses do not
        go together.
    """
    plain = {name: address for name, address in addresses.items() if not address.has_tls}
    secure = {name: address for name, address in addresses.items() if address.has_tls}
    if plain and secure:
        raise ConfigurationError(
            f"{_shown(secure)} with TLS and {_shown(plain)} without: use the same for all"
        )
    if settings is None:
        if secure:
            raise ConfigurationError(f"{_shown(secure)} has TLS, which needs files: {_HOW}")
        return None
    if plain:
        name, address = next(iter(plain.items()))
        written = Address(address.host, address.port, "tls+tcp")
        raise ConfigurationError(
            f"TLS files were given with {_shown(plain)}, where nothing is encrypted; write "
            f"{name} as {written}, or leave the files out (--tls-…, FASTWORKER_TLS_…)"
        )
    return load(settings, listening=listening)


def load(settings: TlsSettings, *, listening: bool) -> TlsContext:
    """Read the files, and find out whether they go together.

    Raises:
      ConfigurationError: they do not; the message names the file.
    """
    authority = _read(Path(settings.ca), "authority")
    names = dict(DEFAULT_NAMES)
    names |= {PeerRole(role): frozenset(some) for role, some in settings.allow.items()}
    if settings.cert is None or settings.key is None:
        if listening:
            raise ConfigurationError(f"who listens needs a certificate: {_HOW}")
        return TlsContext(authority, server_name=settings.server_name)
    certificate = _read(Path(settings.cert), "certificate")
    key = read_private_file(
        Path(settings.key), "the TLS key", max_bytes=_MAX_FILE_BYTES, hint=_MAKE_SOME
    ).decode("ascii", errors="ignore")
    identity = check_files(settings, listening=listening)
    return TlsContext(
        authority,
        certificate,
        key,
        files=(os.fspath(settings.cert), os.fspath(settings.key)),
        own_name=identity.name,
        is_mutual=settings.mutual,
        server_name=settings.server_name,
        names=names,
    )


def settings_on_this_machine(settings: TlsSettings) -> TlsSettings:
    """A control plane's own files for what dials it from beside it.

    By whatever address it is dialed, the name to expect is one in its certificate.
    """
    hosts = check_files(settings, listening=True).hosts
    name = hosts[0].replace("*", "x") if hosts else settings.server_name
    return dataclasses.replace(settings, server_name=name)


def environ_on_this_machine(
    environ: Mapping[str, str], settings: TlsSettings | None
) -> dict[str, str]:
    """This environment for a process that a control plane with these settings starts."""
    changed = dict(environ)
    if settings is not None:
        name = settings_on_this_machine(settings).server_name
        changed[SERVER_NAME_VARIABLE] = name or ""
    return changed


def check_files(settings: TlsSettings, *, listening: bool) -> Identity:
    """Shake hands with ourselves: what peers would refuse is refused here, with a reason.

    Args:
      settings: the files.
      listening: whether the certificate is shown to whoever dials, or when dialing.

    Raises:
      ConfigurationError: the certificate is no good for the key, the authority or
        the present day.
    """
    assert settings.cert is not None
    assert settings.key is not None
    certificate, key = os.fspath(settings.cert), os.fspath(settings.key)
    authority = os.fspath(settings.ca)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    shows, looks = (server, client) if listening else (client, server)
    try:
        for end in (server, client):
            end.load_cert_chain(certificate, key, password=_no_password)
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"the TLS certificate {certificate} does not go with the key {key} "
            f"({_reason(error)}); {_MAKE_SOME}"
        ) from None
    try:
        looks.load_verify_locations(authority)
    except OSError as error:
        raise ConfigurationError(
            f"the TLS authority {authority} has no certificate that can be used "
            f"({_reason(error)}); {_MAKE_SOME}"
        ) from None
    looks.verify_mode = ssl.CERT_REQUIRED
    try:
        found = _shake_hands(shows, looks)
    except ssl.SSLError as error:
        raise ConfigurationError(
            f"the TLS certificate {certificate} would be refused by every peer with the "
            f"authority {authority}: {_reason(error)}; {_MAKE_SOME}"
        ) from None
    subject = dict(pair for group in found.get("subject", ()) for pair in group)
    hosts = tuple(
        value for kind, value in found.get("subjectAltName", ()) if kind in _HOST_KINDS
    )
    return Identity(subject.get("commonName", ""), hosts)


_HOST_KINDS: Final = ("DNS", "IP Address")


def _shake_hands(shows: ssl.SSLContext, looks: ssl.SSLContext) -> dict[str, Any]:
    """Let two ends in memory meet, and return what one learns of the other."""
    there_to_here, here_to_there = ssl.MemoryBIO(), ssl.MemoryBIO()
    is_server = looks.protocol is ssl.PROTOCOL_TLS_SERVER
    here = looks.wrap_bio(there_to_here, here_to_there, server_side=is_server)
    there = shows.wrap_bio(here_to_there, there_to_here, server_side=not is_server)
    waiting = [here, there]
    while waiting:
        for end in list(waiting):
            try:
                end.do_handshake()
                waiting.remove(end)
            except ssl.SSLWantReadError:
                pass
    return here.getpeercert() or {}


def _names(role: str, names: Any) -> tuple[str, ...]:
    roles = [each.value for each in PeerRole]
    if role not in roles:
        raise ConfigurationError(f"tls allow: {role!r} is no role; use {', '.join(roles)}")
    found = () if isinstance(names, str) else tuple(names)
    if not found or not all(isinstance(name, str) and name for name in found):
        raise ConfigurationError(
            f"tls allow: {role}={names!r} must be a list of names in certificates"
        )
    return found


def _no_password() -> str:
    raise ValueError("it has a password, and a service has nobody who could type it")


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    if isinstance(error, ssl.SSLError):
        return (error.reason or str(error)).lower().replace("_", " ")
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)


def _read(path: Path, what: str) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(
            f"the TLS {what} {path} cannot be read: {error.strerror}; {_MAKE_SOME}"
        ) from None
    if len(content) > _MAX_FILE_BYTES or b"-----BEGIN CERTIFICATE-----" not in content:
        raise ConfigurationError(
            f"the TLS {what} {path} has no certificate in PEM; {_MAKE_SOME}"
        )
    return content.decode("ascii", errors="ignore")


def _shown(addresses: Mapping[str, Address]) -> str:
    return ", ".join(f"{name}={address}" for name, address in addresses.items())
