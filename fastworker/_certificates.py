"""A private certificate authority and one certificate for each role.

For a first set-up with TLS, where nobody has an authority of his own. The
authority's key is needed only to make further certificates, so it can be kept
off line. Nothing here is imported unless ``fastworker certs init`` is run.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fastworker._errors import ConfigurationError

AUTHORITY_NAME: Final = "fastworker-ca"
CONTROL_PLANE_NAME: Final = "fastworker-control-plane"
# What each file is called, without its ending, and the name in its certificate.
NAMES: Final = {
    "control-plane": CONTROL_PLANE_NAME,
    "client": "fastworker-client",
    "worker": "fastworker-worker",
    "operator": "fastworker-operator",
}

AUTHORITY_DAYS: Final = 3652  # ten years
CERTIFICATE_DAYS: Final = 397
# A machine whose clock is behind by this much still accepts a new certificate.
_BACKDATED: Final = datetime.timedelta(minutes=5)
_LOCAL_HOSTS: Final = ("localhost", "127.0.0.1", "::1")


class Authority(NamedTuple):
    """Whoever signs certificates."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


class Issued(NamedTuple):
    """A certificate and its key, as PEM."""

    certificate: bytes
    key: bytes


def new_authority(
    *, now: datetime.datetime, name: str = AUTHORITY_NAME, days: int = AUTHORITY_DAYS
) -> Authority:
    """Make an authority that may sign certificates, but no further authorities."""
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        _builder(name, name, key.public_key(), now=now, days=days)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(
            x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    return Authority(certificate, key)


def issue(
    authority: Authority,
    name: str,
    *,
    now: datetime.datetime,
    hosts: Sequence[str] = (),
    days: int = CERTIFICATE_DAYS,
) -> Issued:
    """Make a certificate with its key.

    Args:
      authority: who signs it.
      name: its common name, by which control planes know the peer's role.
      now: from when it is valid, but for a few minutes.
      hosts: names and IP addresses under which a control plane is dialed. With
        some it is a server's certificate too; any is good for dialing.
      days: for how long it is valid.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    uses = [ExtendedKeyUsageOID.CLIENT_AUTH]
    if hosts:
        uses.insert(0, ExtendedKeyUsageOID.SERVER_AUTH)
    issuer = _name_of(authority.certificate)
    certificate = (
        _builder(name, issuer, key.public_key(), now=now, days=days)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
        .add_extension(
            x509.SubjectAlternativeName(_alternative_names([name, *hosts])), critical=False
        )
        .add_extension(
            x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
        )
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()),
            critical=False,
        )
        .sign(authority.key, hashes.SHA256())
    )
    return Issued(certificate.public_bytes(serialization.Encoding.PEM), key_pem(key))


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """The key as it stands in a file."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def authority_pem(authority: Authority) -> Issued:
    """The authority's certificate and key, as they stand in files."""
    certificate = authority.certificate.public_bytes(serialization.Encoding.PEM)
    return Issued(certificate, key_pem(authority.key))


def make_first_certificates(
    folder: Path, hosts: Iterable[str], *, now: datetime.datetime
) -> list[Path]:
    """Fill a folder with an authority and a certificate for each role.

    The folder is made, with mode 0700, if it is not there. Keys have mode 0600.

    Returns:
      The files that were written.

    Raises:
      ConfigurationError: a file is there already, or cannot be written; a host
        is no host. Nothing was overwritten.
    """
    names = list(dict.fromkeys([*_LOCAL_HOSTS, *hosts]))
    _alternative_names(names)  # refused before anything is written
    authority = new_authority(now=now)
    made = {"ca": authority_pem(authority)}
    for file, name in NAMES.items():
        server = names if name == CONTROL_PLANE_NAME else ()
        made[file] = issue(authority, name, now=now, hosts=server)
    contents: dict[Path, tuple[bytes, int]] = {}
    for file, (certificate, key) in made.items():
        contents[folder / f"{file}.pem"] = certificate, 0o644
        contents[folder / f"{file}.key"] = key, 0o600
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        there = [path.name for path in contents if os.path.lexists(path)]
        if there:
            raise ConfigurationError(
                f"{str(folder)!r} has {', '.join(there)} already, and nothing is overwritten; "
                f"name another folder, or move these away"
            )
        for path, (content, mode) in contents.items():
            _write_new(path, content, mode)
    except OSError as error:
        raise ConfigurationError(
            f"cannot write certificates to {str(folder)!r}: {error}"
        ) from None
    return list(contents)


def _write_new(path: Path, content: bytes, mode: int) -> None:
    # O_EXCL follows no symbolic link and overwrites nothing, also in a race.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with open(descriptor, "wb") as file:
        file.write(content)


def _builder(
    subject: str,
    issuer: str,
    key: ec.EllipticCurvePublicKey,
    *,
    now: datetime.datetime,
    days: int,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + datetime.timedelta(days=days) - _BACKDATED)
    )


def _name_of(certificate: x509.Certificate) -> str:
    (attribute,) = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(attribute.value)


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _alternative_names(hosts: Iterable[str]) -> list[x509.GeneralName]:
    names: list[x509.GeneralName] = []
    for host in hosts:
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(host.strip("[]"))))
            continue
        except ValueError:
            pass
        is_plain = host.isascii() and all(c.isalnum() or c in "-._*" for c in host)
        if not is_plain or not host:
            raise ConfigurationError(
                f"{host!r} is no host; use a name such as 'queue.example.com' or an address "
                f"such as '10.0.0.5', without a port"
            )
        names.append(x509.DNSName(host))
    return names
