"""The authority and the certificates of a first set-up."""

from __future__ import annotations

import datetime
import ipaddress
import os
import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from fastworker._certificates import NAMES, make_first_certificates
from fastworker._errors import ConfigurationError
from fastworker._tls import TlsSettings, load

NOW = datetime.datetime.now(datetime.UTC)


def read(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def alternative_names(path: Path) -> x509.SubjectAlternativeName:
    return read(path).extensions.get_extension_for_class(x509.SubjectAlternativeName).value


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "certs"
    before = os.umask(0)  # what files get must not hang on it
    try:
        make_first_certificates(folder, ["queue.example", "10.1.2.3"], now=NOW)
    finally:
        os.umask(before)
    return folder


def test_each_role_has_a_certificate_and_a_key_for_its_owner_alone(folder: Path) -> None:
    # X18 in docs/faults.md.
    assert {path.stem for path in folder.iterdir()} == {"ca", *NAMES}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for path in folder.glob("*.key"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_a_certificate_lasts_397_days_at_most_and_the_authority_ten_years(folder: Path) -> None:
    for name in NAMES:
        certificate = read(folder / f"{name}.pem")
        life = certificate.not_valid_after_utc - certificate.not_valid_before_utc
        assert datetime.timedelta(days=365) < life <= datetime.timedelta(days=397)
    authority = read(folder / "ca.pem")
    life = authority.not_valid_after_utc - authority.not_valid_before_utc
    assert life.days in (3652, 3653)


def test_every_certificate_is_accepted_for_what_it_is_for(folder: Path) -> None:
    for name, common_name in NAMES.items():
        settings = TlsSettings(
            ca=folder / "ca.pem", cert=folder / f"{name}.pem", key=folder / f"{name}.key"
        )
        assert load(settings, listening=False).own_name == common_name
        if name == "control-plane":
            load(settings, listening=True)
        else:
            with pytest.raises(ConfigurationError):
                load(settings, listening=True)


def test_the_control_planes_certificate_is_for_this_machine_and_the_hosts_named(
    folder: Path,
) -> None:
    names = alternative_names(folder / "control-plane.pem")
    assert set(names.get_values_for_type(x509.DNSName)) == {
        "fastworker-control-plane",
        "localhost",
        "queue.example",
    }
    assert set(names.get_values_for_type(x509.IPAddress)) == {
        ipaddress.ip_address(host) for host in ("127.0.0.1", "::1", "10.1.2.3")
    }


def test_the_authority_signs_no_further_authority_and_serves_nobody(folder: Path) -> None:
    extensions = read(folder / "ca.pem").extensions
    constraints = extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert (constraints.value.ca, constraints.value.path_length) == (True, 0)
    assert not extensions.get_extension_for_class(x509.KeyUsage).value.digital_signature
    uses = read(folder / "worker.pem").extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    assert list(uses.value) == [ExtendedKeyUsageOID.CLIENT_AUTH]


def test_nothing_is_ever_overwritten(folder: Path) -> None:
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(ConfigurationError, match="already, and nothing is overwritten"):
        make_first_certificates(folder, [], now=NOW)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_one_file_that_is_there_is_enough_to_write_none(tmp_path: Path) -> None:
    (tmp_path / "worker.key").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigurationError, match=r"has worker\.key already"):
        make_first_certificates(tmp_path, [], now=NOW)
    assert [path.name for path in tmp_path.iterdir()] == ["worker.key"]


@pytest.mark.parametrize("host", ["", "tcp://queue", "queue:5555", "a b", "bücher.example"])
def test_a_host_that_is_none_is_refused_and_nothing_is_written(
    tmp_path: Path, host: str
) -> None:
    with pytest.raises(ConfigurationError, match="is no host"):
        make_first_certificates(tmp_path / "certs", [host], now=NOW)
    assert not (tmp_path / "certs").exists()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="cannot write certificates to"):
        make_first_certificates(tmp_path / "file" / "certs", [], now=NOW)
