"""Nothing listens beyond this machine unasked, and no pickle comes from there (X1, X5)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from fastworker._config import ClientConfig, ControlPlaneConfig, SubWorkerConfig
from fastworker._errors import ConfigurationError
from fastworker._exposure import exposed_addresses, names_to_resolve
from fastworker._settings import parse_address

LOOPBACK = ["127.0.0.1", "127.8.8.8", "[::1]", "localhost"]
EXPOSED = ["0.0.0.0", "[::]", "10.0.0.1", "192.168.1.9", "[fe80::1%eth0]", "[::ffff:10.0.0.1]"]
NAMES = ["plane.example.org", "0", "localhost.example.org"]


def control_plane(**settings: Any) -> ControlPlaneConfig:
    return ControlPlaneConfig(**settings)


def subworker(host: str, **settings: Any) -> SubWorkerConfig:
    address = f"tcp://{host}:5555"
    return SubWorkerConfig(worker_id="w1", control_plane_address=address, **settings)


def exposed(host: str, resolved: Mapping[str, list[str]]) -> list[str]:
    return exposed_addresses({"base_address": parse_address(f"tcp://{host}:1")}, resolved)


@pytest.mark.parametrize("host", LOOPBACK)
@pytest.mark.parametrize("format", ["json", "pickle"])
@pytest.mark.parametrize("insecure", [False, True])
def test_every_loopback_address_may_be_listened_on(
    host: str, format: str, insecure: bool
) -> None:
    config = control_plane(
        base_address=f"tcp://{host}:1",
        discovery_address=f"tcp://{host}:2",
        serialization_format=format,
        insecure=insecure,
    )
    assert exposed_addresses(config.listening, {}) == []
    assert names_to_resolve(config.addresses) == []


@pytest.mark.parametrize("host", EXPOSED)
@pytest.mark.parametrize("setting", ["base_address", "discovery_address"])
def test_every_other_address_is_refused_unless_it_is_asked_for(setting: str, host: str) -> None:
    # X1 in docs/faults.md.
    address = f"tcp://{host}:5559"
    with pytest.raises(ConfigurationError) as caught:
        control_plane(**{setting: address})
    message = str(caught.value)
    assert f"{setting}={address}" in message
    # The management port is on the host of the base address.
    assert (f"subworker_management_port=tcp://{host}:5560" in message) == (
        setting == "base_address"
    )
    for way_out in ("127.0.0.1", "insecure=True", "--insecure", "FASTWORKER_INSECURE=1"):
        assert way_out in message
    for way_out in ("auth=", "--auth-token-file", "FASTWORKER_AUTH_TOKEN_FILE", "TLS"):
        assert way_out in message
    assert control_plane(**{setting: address}, insecure=True).insecure
    assert control_plane(**{setting: address}, authenticated=True).authenticated


def test_the_variable_overrides_as_the_argument_does() -> None:
    environ = {"FASTWORKER_BASE_ADDRESS": "tcp://0.0.0.0:5555"}
    with pytest.raises(ConfigurationError, match=r"base_address=tcp://0\.0\.0\.0:5555"):
        ControlPlaneConfig.resolve(environ)
    environ["FASTWORKER_INSECURE"] = "yes"
    assert ControlPlaneConfig.resolve(environ).insecure
    with pytest.raises(ConfigurationError, match="other machines could connect"):
        ControlPlaneConfig.resolve(environ, insecure=False)


@pytest.mark.parametrize("host", NAMES)
def test_a_name_is_judged_by_all_that_it_stands_for(host: str) -> None:
    config = control_plane(base_address=f"tcp://{host}:1")  # known at the start only
    assert names_to_resolve(config.addresses) == [host]
    assert exposed(host, {host: ["127.0.0.1", "[::1]"]}) == []
    assert exposed(host, {host: ["127.0.0.1", "10.0.0.1"]}) == [
        f"base_address=tcp://{host}:1 (127.0.0.1, 10.0.0.1)"
    ]
    assert exposed(host, {host: []}) == exposed(host, {}) == [f"base_address=tcp://{host}:1"]


@pytest.mark.parametrize("host", EXPOSED + NAMES)
@pytest.mark.parametrize("insecure", [False, True])
def test_pickle_is_refused_beyond_this_machine_unless_peers_prove_who_they_are(
    host: str, insecure: bool
) -> None:
    # X5 in docs/faults.md.
    address = f"tcp://{host}:5559"
    words = "serialization_format=PICKLE.*refused beyond this machine"
    for setting in ("base_address", "discovery_address"):
        with pytest.raises(ConfigurationError, match=words):
            control_plane(
                **{setting: address}, serialization_format="pickle", insecure=insecure
            )
    with pytest.raises(ConfigurationError, match=words):
        subworker(host, serialization_format="pickle")
    with pytest.raises(ConfigurationError, match=words):
        ClientConfig(discovery_address=address, serialization_format="pickle")  # type: ignore[arg-type]
    proved = {"serialization_format": "pickle", "authenticated": True}
    control_plane(base_address=address, **proved)
    subworker(host, **proved)
    ClientConfig(discovery_address=address, **proved)  # type: ignore[arg-type]


@pytest.mark.parametrize("host", EXPOSED + NAMES + LOOPBACK)
def test_json_may_be_spoken_with_whom_one_likes(host: str) -> None:
    subworker(host)
    ClientConfig(discovery_address=f"tcp://{host}:5559")
    if host in LOOPBACK:
        subworker(host, serialization_format="pickle")
        ClientConfig(discovery_address=f"tcp://{host}:1", serialization_format="pickle")  # type: ignore[arg-type]
