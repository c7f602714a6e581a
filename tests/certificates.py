"""Certificates for tests: good ones, and each kind that has to be refused."""

from __future__ import annotations

import atexit
import datetime
import itertools
import shutil
import tempfile
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from fastworker._certificates import (
    CONTROL_PLANE_NAME,
    Authority,
    Issued,
    authority_pem,
    issue,
    new_authority,
)
from fastworker._tls import TlsSettings
from fastworker._transport._tls import TlsContext

HOSTS = ("localhost", "127.0.0.1")


class Certificates:
    """An authority, and whatever it, or somebody else, signs."""

    def __init__(self, authority: Authority | None = None) -> None:
        self.now = datetime.datetime.now(datetime.UTC)
        self.authority = authority or new_authority(now=self.now)
        self._folder = Path(tempfile.mkdtemp())
        atexit.register(shutil.rmtree, self._folder, ignore_errors=True)
        self._count = itertools.count()

    @classmethod
    def from_folder(cls, folder: Path) -> Certificates:
        """Those of the authority that ``fastworker certs init`` has put there."""
        certificate = x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes())
        key = load_pem_private_key((folder / "ca.key").read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        return cls(Authority(certificate, key))

    @property
    def ca(self) -> str:
        return authority_pem(self.authority).certificate.decode()

    def plane(self, *hosts: str) -> Issued:
        """A control plane's, for this machine if no other host is named."""
        return issue(self.authority, CONTROL_PLANE_NAME, now=self.now, hosts=hosts or HOSTS)

    def of(self, name: str, *, days_ago: int = 0, days: int = 30) -> Issued:
        """A peer's, for so many days from some day on."""
        then = self.now - datetime.timedelta(days=days_ago)
        return issue(self.authority, name, now=then, days=days)

    def plane_of_last_year(self) -> Issued:
        then = self.now - datetime.timedelta(days=400)
        return issue(self.authority, CONTROL_PLANE_NAME, now=then, days=30, hosts=HOSTS)

    def of_another_authority(self, name: str, *hosts: str) -> Issued:
        return issue(new_authority(now=self.now), name, now=self.now, hosts=hosts)

    def self_signed(self, name: str) -> Issued:
        return authority_pem(new_authority(now=self.now, name=name))

    def context(self, issued: Issued | None, *, ca: str = "") -> TlsContext:
        """What a socket is given that has not looked at its own certificate."""
        if issued is None:
            return TlsContext(ca or self.ca)
        files = self.files(self._folder, str(next(self._count)), issued)
        return TlsContext(
            ca or self.ca,
            issued.certificate.decode(),
            issued.key.decode(),
            files=(str(files.cert), str(files.key)),
        )

    def files(
        self, folder: Path, name: str, issued: Issued, authority: Authority | None = None
    ) -> TlsSettings:
        """The same as files in a folder, with a key that nobody else may read."""
        ca = authority_pem(authority or self.authority).certificate
        paths = {what: folder / f"{name}.{what}" for what in ("ca", "pem", "key")}
        for what, content in zip(paths, (ca, issued.certificate, issued.key), strict=True):
            paths[what].write_bytes(content)
        paths["key"].chmod(0o600)
        return TlsSettings(ca=paths["ca"], cert=paths["pem"], key=paths["key"])
