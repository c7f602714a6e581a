"""TLS files: where they come from, whether they go together, and with which addresses."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import pytest

from fastworker import Client, ControlPlaneWorker, SubWorker, TlsSettings
from fastworker._core._roles import EVERYTHING, NOTHING, PeerRole
from fastworker._errors import ConfigurationError
from fastworker._settings import Address
from fastworker._tls import (
    environ_on_this_machine,
    load,
    parse_allow,
    resolve_tls,
    settings_on_this_machine,
    tls_context,
)
from fastworker._transport._tls import DEFAULT_NAMES, roles_of_name
from tests.certificates import Certificates

made = Certificates()
SECURE = Address("127.0.0.1", 5555, "tls+tcp")
PLAIN = Address("127.0.0.1", 5555)
FILES = {"FASTWORKER_TLS_CA": "a", "FASTWORKER_TLS_CERT": "b", "FASTWORKER_TLS_KEY": "c"}


@pytest.fixture
def plane(tmp_path: Path) -> TlsSettings:
    return made.files(tmp_path, "plane", made.plane())


@pytest.fixture
def client(tmp_path: Path) -> TlsSettings:
    return made.files(tmp_path, "client", made.of("fastworker-client"))


# --- where they come from ---


def test_without_a_word_of_tls_there_is_none() -> None:
    assert resolve_tls(None, {}) is None
    assert resolve_tls(None, dict.fromkeys(FILES, " ")) is None


def test_the_variables_name_files_and_names() -> None:
    more = {
        "FASTWORKER_TLS_SERVER_NAME": "queue",
        "FASTWORKER_TLS_MUTUAL": "no",
        "FASTWORKER_TLS_ALLOW": "worker=w1, w2; client=web",
    }
    assert resolve_tls(None, {**FILES, **more}) == TlsSettings(
        ca="a",
        cert="b",
        key="c",
        server_name="queue",
        mutual=False,
        allow={"worker": ("w1", "w2"), "client": ("web",)},
    )


def test_an_argument_counts_more_than_variables() -> None:
    given = TlsSettings(ca="x")
    assert resolve_tls(given, FILES) is given
    assert resolve_tls(False, FILES) is None


@pytest.mark.parametrize("missing", ["FASTWORKER_TLS_CA", "FASTWORKER_TLS_KEY"])
def test_files_that_are_not_enough_are_refused_by_the_name_of_what_is_missing(
    missing: str,
) -> None:
    with pytest.raises(ConfigurationError, match=f"without {missing}: give authority"):
        resolve_tls(None, {name: path for name, path in FILES.items() if name != missing})


def test_a_key_without_a_certificate_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="cert is missing"):
        TlsSettings(ca="a", key="c")


def test_what_is_no_settings_is_refused_by_its_type() -> None:
    wrong: Any = {"ca": "a"}
    with pytest.raises(ConfigurationError, match="tls is a dict; use TlsSettings"):
        resolve_tls(wrong, {})


# --- who is allowed ---


def test_a_role_that_is_named_twice_has_all_the_names() -> None:
    allow = parse_allow("worker=w1;worker=w2;operator=olga")
    assert allow == {"worker": ("w1", "w2"), "operator": ("olga",)}


@pytest.mark.parametrize("text", ["worker", "worker=", "worker=w1,,w2", "=w"])
def test_a_text_that_allows_nothing_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError):
        TlsSettings(ca="a", allow=parse_allow(text))


def test_a_role_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="'boss' is no role; use client, worker"):
        TlsSettings(ca="a", allow={"boss": ["b"]})


def test_a_name_that_is_no_list_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="must be a list of names"):
        TlsSettings(ca="a", allow={"worker": "w1"})


def test_a_name_may_have_several_roles_and_a_strange_one_has_none() -> None:
    names = {PeerRole.CLIENT: frozenset({"web"}), PeerRole.WORKER: frozenset({"web", "w1"})}
    both = frozenset({PeerRole.CLIENT, PeerRole.WORKER})
    assert roles_of_name("web", names, own_name="plane") == both
    assert roles_of_name("w1", names, own_name="plane") == {PeerRole.WORKER}
    assert roles_of_name("plane", names, own_name="plane") == EVERYTHING
    for stranger in ("", "WEB", "web ", "fastworker-client"):
        assert roles_of_name(stranger, names, own_name="plane") == NOTHING


def test_a_certificate_without_a_name_is_not_the_control_planes_own() -> None:
    assert roles_of_name("", DEFAULT_NAMES, own_name="") == NOTHING


def test_names_that_were_given_take_the_place_of_those_of_their_role_only(
    plane: TlsSettings,
) -> None:
    context = load(dataclasses.replace(plane, allow={"worker": ["w1"]}), listening=True)
    assert context.roles_of("w1") == {PeerRole.WORKER}
    assert context.roles_of("fastworker-worker") == NOTHING
    assert context.roles_of("fastworker-client") == {PeerRole.CLIENT}
    assert context.roles_of("fastworker-control-plane") == EVERYTHING


# --- files and addresses ---


def test_files_and_addresses_go_together(plane: TlsSettings, client: TlsSettings) -> None:
    assert tls_context(None, {"base_address": PLAIN}, listening=True) is None
    context = tls_context(plane, {"base_address": SECURE}, listening=True)
    assert context is not None
    assert context.own_name == "fastworker-control-plane"
    assert tls_context(client, {"discovery_address": SECURE}, listening=False) is not None


def test_an_address_with_tls_and_no_files_says_which_to_give() -> None:
    with pytest.raises(ConfigurationError) as caught:
        tls_context(None, {"base_address": SECURE}, listening=True)
    for hint in ("base_address=tls+tcp://127.0.0.1:5555", "--tls-ca", "fastworker certs init"):
        assert hint in str(caught.value)


def test_files_with_a_plain_address_say_how_to_write_it(plane: TlsSettings) -> None:
    with pytest.raises(ConfigurationError) as caught:
        tls_context(plane, {"base_address": PLAIN}, listening=True)
    assert "write base_address as tls+tcp://127.0.0.1:5555" in str(caught.value)


def test_one_address_with_and_one_without_tls_is_refused(plane: TlsSettings) -> None:
    addresses = {"base_address": SECURE, "discovery_address": PLAIN}
    with pytest.raises(ConfigurationError, match="use the same for all"):
        tls_context(plane, addresses, listening=True)


@pytest.mark.parametrize("transport", [Client, ControlPlaneWorker, SubWorker])
def test_every_component_refuses_an_address_with_tls_and_no_files(transport: Any) -> None:
    address = "tls+tcp://127.0.0.1:5555"
    arguments = {
        Client: {"discovery_address": address},
        ControlPlaneWorker: {"base_address": address},
        SubWorker: {"worker_id": "w", "control_plane_address": address},
    }[transport]
    with pytest.raises(ConfigurationError, match="TLS"):
        transport(**arguments)


def test_with_certificates_a_control_plane_may_listen_for_other_machines(
    plane: TlsSettings,
) -> None:
    addresses = ("tls+tcp://0.0.0.0:5555", "tls+tcp://0.0.0.0:5550")
    assert ControlPlaneWorker("p", *addresses, tls=plane).base_address == addresses[0]
    open_to_all = dataclasses.replace(plane, mutual=False)
    with pytest.raises(ConfigurationError, match="other machines could connect"):
        ControlPlaneWorker("p", *addresses, tls=open_to_all)


def test_pickle_goes_to_other_machines_with_a_certificate_only(client: TlsSettings) -> None:
    address = "tls+tcp://10.9.9.9:5550"
    assert Client(address, "pickle", tls=client).discovery_address == address
    with pytest.raises(ConfigurationError, match="unpickling runs code"):
        Client(address, "pickle", tls=TlsSettings(ca=client.ca))


# --- whether the files are good ---


def refusal(settings: TlsSettings, *, listening: bool = False) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load(settings, listening=listening)
    return str(caught.value)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o666])
def test_a_key_that_others_can_use_is_refused(client: TlsSettings, mode: int) -> None:
    # X18 in docs/faults.md.
    assert client.key is not None
    os.chmod(client.key, mode)
    said = refusal(client)
    assert f"can be used by others (mode {mode:04o}); run 'chmod 600 {client.key}'" in said


@pytest.mark.parametrize("file", ["ca", "cert", "key"])
def test_a_file_that_is_not_there_is_named(client: TlsSettings, file: str) -> None:
    Path(getattr(client, file)).unlink()
    assert f"{getattr(client, file)} cannot be read: No such file" in refusal(client)


@pytest.mark.parametrize("file", ["ca", "cert"])
def test_a_file_without_a_certificate_is_named(client: TlsSettings, file: str) -> None:
    Path(getattr(client, file)).write_text("nothing of use")
    assert f"{getattr(client, file)} has no certificate in PEM" in refusal(client)


def test_a_key_of_another_certificate_is_refused(
    client: TlsSettings, plane: TlsSettings
) -> None:
    said = refusal(dataclasses.replace(client, key=plane.key))
    assert f"does not go with the key {plane.key} (key values mismatch)" in said


@pytest.mark.parametrize(
    ("issued", "reason"),
    [
        (made.of("fastworker-client", days_ago=40), "certificate has expired"),
        (made.of("fastworker-client", days_ago=-3), "certificate is not yet valid"),
        (made.of_another_authority("fastworker-client"), "unable to get local issuer"),
        (made.self_signed("fastworker-client"), "self-signed certificate"),
    ],
)
def test_a_certificate_that_every_peer_would_refuse_is_refused_here(
    tmp_path: Path, issued: Any, reason: str
) -> None:
    # X9 in docs/faults.md.
    said = refusal(made.files(tmp_path, "bad", issued))
    assert "would be refused by every peer" in said
    assert reason in said


def test_a_peers_certificate_is_none_to_listen_with(client: TlsSettings) -> None:
    assert "unsuitable certificate purpose" in refusal(client, listening=True)
    authority_only = TlsSettings(ca=client.ca)
    assert "who listens needs a certificate" in refusal(authority_only, listening=True)


def test_secrets_are_in_no_text(client: TlsSettings) -> None:
    context = load(client, listening=False)
    assert repr(context) == "<TlsContext of 'fastworker-client'>"
    assert "PRIVATE" not in repr(client)


# --- on the control plane's own machine ---


def test_what_a_control_plane_starts_expects_a_name_of_its_certificate(
    tmp_path: Path,
) -> None:
    # It dials 127.0.0.1, for which a certificate from elsewhere may not be.
    settings = made.files(tmp_path, "plane", made.plane("queue.example"))
    assert settings_on_this_machine(settings).server_name == "fastworker-control-plane"
    environ = environ_on_this_machine({"PATH": "p", **FILES}, settings)
    assert environ["FASTWORKER_TLS_SERVER_NAME"] == "fastworker-control-plane"
    assert environ["PATH"] == "p"
    assert environ_on_this_machine(FILES, None) == FILES
