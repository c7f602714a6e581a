"""Argument beats variable beats default, and what cannot be used is refused by name."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastworker._config import (
    Address,
    ClientConfig,
    CommandConfig,
    ControlPlaneConfig,
    DashboardConfig,
    SubWorkerConfig,
    parse_address,
    resolve,
)
from fastworker._errors import ConfigurationError
from fastworker._models import SerializationFormat

CONFIGS = [ClientConfig, ControlPlaneConfig, SubWorkerConfig, DashboardConfig, CommandConfig]
REQUIRED = {"worker_id": "w1", "control_plane_address": "tcp://127.0.0.1:5555"}


def subworker(**settings: Any) -> SubWorkerConfig:
    return SubWorkerConfig(**{**REQUIRED, **settings})


def test_default_ports_are_none_that_the_kernel_gives_to_outgoing_connections() -> None:
    # N11 in docs/faults.md: from 32768 on, by default.
    control_plane, dashboard = ControlPlaneConfig(), DashboardConfig()
    ports = {address.port for address in (*control_plane.addresses, dashboard.address)}
    assert len(ports) == 4
    assert all(1024 <= port < 32768 for port in ports)


# --- where a setting comes from ---


def test_an_argument_beats_the_variable_even_when_it_equals_the_default() -> None:
    environ = {"X": "7"}
    assert resolve(None, "X", 3, int, environ={}) == 3
    assert resolve(None, "X", 3, int, environ=environ) == 7
    assert resolve(5, "X", 3, int, environ=environ) == 5
    assert resolve(3, "X", 3, int, environ=environ) == 3
    assert resolve(0, "X", 3, int, environ=environ) == 0


@pytest.mark.parametrize("text", ["", " ", "\t"])
def test_an_empty_variable_is_not_set(text: str) -> None:
    assert resolve(None, "X", 3, int, environ={"X": text}) == 3


def test_space_around_a_variable_is_ignored() -> None:
    assert ClientConfig.resolve({"FASTWORKER_RETRIES": " 5\n"}).retries == 5


@pytest.mark.parametrize(
    ("config", "field", "variable", "text", "value"),
    [
        (ClientConfig, "discovery_address", "DISCOVERY_ADDRESS", "tcp://h:1", "tcp://h:1"),
        (ClientConfig, "serialization_format", "SERIALIZATION_FORMAT", "Pickle", "PICKLE"),
        (ClientConfig, "timeout", "TIMEOUT", "2.5", 2.5),
        (ClientConfig, "timeout", "TIMEOUT", "45", 45),
        (ClientConfig, "retries", "RETRIES", "0", 0),
        (ClientConfig, "connect_timeout", "CONNECT_TIMEOUT", "1e-1", 0.1),
        (ControlPlaneConfig, "worker_id", "WORKER_ID", "plane", "plane"),
        (ControlPlaneConfig, "base_address", "BASE_ADDRESS", "tcp://h:1", "tcp://h:1"),
        (
            ControlPlaneConfig,
            "discovery_address",
            "DISCOVERY_ADDRESS",
            "tcp://h:1",
            "tcp://h:1",
        ),
        (
            ControlPlaneConfig,
            "serialization_format",
            "SERIALIZATION_FORMAT",
            "pickle",
            "PICKLE",
        ),
        (ControlPlaneConfig, "subworker_management_port", "SUBWORKER_PORT", "6000", 6000),
        (ControlPlaneConfig, "result_cache_max_size", "RESULT_CACHE_SIZE", "5", 5),
        (ControlPlaneConfig, "result_cache_ttl_seconds", "RESULT_CACHE_TTL", "60", 60),
        (ControlPlaneConfig, "max_queued", "MAX_QUEUED", "7", 7),
        (ControlPlaneConfig, "max_queued_bytes", "MAX_QUEUED_BYTES", "99000000", 99_000_000),
        (ControlPlaneConfig, "insecure", "INSECURE", "1", True),
        (
            ControlPlaneConfig,
            "callback_allow",
            "CALLBACK_ALLOW",
            "hooks.example.com:9000, 10.0.0.0/8 ::1",
            ("hooks.example.com:9000", "10.0.0.0/8", "::1"),
        ),
        (ControlPlaneConfig, "concurrency", "WORKER_CONCURRENCY", "8", 8),
        (SubWorkerConfig, "worker_id", "WORKER_ID", "w2", "w2"),
        (
            SubWorkerConfig,
            "control_plane_address",
            "CONTROL_PLANE_ADDRESS",
            "tcp://h:1",
            "tcp://h:1",
        ),
        (SubWorkerConfig, "base_address", "BASE_ADDRESS", "tcp://h:1", "tcp://h:1"),
        (SubWorkerConfig, "discovery_address", "DISCOVERY_ADDRESS", "tcp://h:1", "tcp://h:1"),
        (SubWorkerConfig, "serialization_format", "SERIALIZATION_FORMAT", "pickle", "PICKLE"),
        (SubWorkerConfig, "concurrency", "WORKER_CONCURRENCY", "8", 8),
        (DashboardConfig, "gui_enabled", "GUI_ENABLED", "no", False),
        (DashboardConfig, "gui_host", "GUI_HOST", "0.0.0.0", "0.0.0.0"),
        (DashboardConfig, "gui_port", "GUI_PORT", "9000", 9000),
        (
            DashboardConfig,
            "gui_allowed_hosts",
            "GUI_ALLOWED_HOSTS",
            "Tasks.example.com, [::2]:81 ::3",
            ("tasks.example.com", "[::2]:81", "[::3]"),
        ),
        (DashboardConfig, "insecure", "INSECURE", "1", True),
        (CommandConfig, "task_modules", "TASK_MODULES", "a, b.c d", ("a", "b.c", "d")),
        (CommandConfig, "log_level", "LOG_LEVEL", "debug", "DEBUG"),
        (CommandConfig, "log_format", "LOG_FORMAT", "JSON", "json"),
        (CommandConfig, "otel", "OTEL", "1", True),
    ],
)
def test_every_variable_sets_its_setting(
    config: Any, field: str, variable: str, text: str, value: object
) -> None:
    if field == "serialization_format":
        value = SerializationFormat[str(value)]
    required = {} if config is not SubWorkerConfig else {**REQUIRED, field: None}
    resolved = config.resolve({f"FASTWORKER_{variable}": text}, **required)
    assert getattr(resolved, field) == value
    assert type(getattr(resolved, field)) is type(value)


def test_a_setting_that_is_required_and_given_nowhere_is_told_both_ways_to_give_it() -> None:
    with pytest.raises(ConfigurationError, match=r"worker_id is missing.*FASTWORKER_WORKER_ID"):
        SubWorkerConfig.resolve({}, control_plane_address="tcp://h:1")
    with pytest.raises(ConfigurationError, match="FASTWORKER_CONTROL_PLANE_ADDRESS"):
        SubWorkerConfig.resolve({}, worker_id="w1")


def test_a_setting_that_does_not_exist_is_a_bug_of_the_caller() -> None:
    with pytest.raises(TypeError, match="ClientConfig has no setting timeot"):
        ClientConfig.resolve({}, timeot=3)


def test_the_environment_is_only_what_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTWORKER_TIMEOUT", "99")
    assert ClientConfig().timeout == ClientConfig.resolve({}).timeout == 30


# --- defaults ---


def test_the_defaults_are_those_of_the_reference() -> None:
    assert dataclasses.asdict(ClientConfig()) == {
        "discovery_address": "tcp://127.0.0.1:5550",
        "serialization_format": SerializationFormat.JSON,
        "timeout": 30,
        "retries": 3,
        "connect_timeout": 5.0,
        "authenticated": False,
    }
    assert dataclasses.asdict(ControlPlaneConfig()) == {
        "worker_id": "control-plane",
        "base_address": "tcp://127.0.0.1:5555",
        "discovery_address": "tcp://127.0.0.1:5550",
        "serialization_format": SerializationFormat.JSON,
        "subworker_management_port": 5560,
        "result_cache_max_size": 10000,
        "result_cache_ttl_seconds": 3600,
        "max_queued": 1_000_000,
        "max_queued_bytes": 1024**3,
        "insecure": False,
        "store": None,
        "history_max_size": 100_000,
        "history_ttl_seconds": 604_800,
        "callback_allow": (),
        "concurrency": None,
        "backend": "trio",
        "drain_timeout": 30.0,
        "authenticated": False,
    }
    assert dataclasses.asdict(subworker()) == {
        **REQUIRED,
        "base_address": "tcp://127.0.0.1:5555",
        "discovery_address": "tcp://127.0.0.1:5550",
        "serialization_format": SerializationFormat.JSON,
        "concurrency": None,
        "backend": "trio",
        "drain_timeout": 30.0,
        "authenticated": False,
    }
    assert dataclasses.asdict(DashboardConfig()) == {
        "gui_enabled": True,
        "gui_host": "127.0.0.1",
        "gui_port": 8080,
        "gui_allowed_hosts": (),
        "insecure": False,
    }


# --- what is refused ---


@pytest.mark.parametrize(
    ("config", "settings", "words"),
    [
        (ClientConfig, {"timeout": 0}, "timeout=0: must be a positive"),
        (ClientConfig, {"timeout": -1}, "timeout=-1: must be a positive"),
        (ClientConfig, {"timeout": math.inf}, "timeout=inf"),
        (ClientConfig, {"timeout": math.nan}, "timeout=nan"),
        (ClientConfig, {"timeout": "30"}, "timeout='30': is a str"),
        (ClientConfig, {"timeout": True}, "timeout=True: is a bool"),
        (ClientConfig, {"timeout": 10**400}, "timeout=.*huge.*more seconds"),
        (ClientConfig, {"timeout": 10**5000}, "timeout=.*huge.*more seconds"),
        (ClientConfig, {"timeout": None}, "timeout=None"),
        (ClientConfig, {"connect_timeout": 0.0}, "connect_timeout=0.0"),
        (ClientConfig, {"retries": -1}, "retries=-1: must be from 0"),
        (ClientConfig, {"retries": 1.0}, "retries=1.0: is a float"),
        (ClientConfig, {"retries": False}, "retries=False: is a bool"),
        (ClientConfig, {"serialization_format": "yaml"}, "format='yaml': use 'json' or"),
        (ClientConfig, {"discovery_address": "tcp://h:0"}, "'tcp://h:0' has port 0"),
        (ClientConfig, {"discovery_address": "127.0.0.1:5550"}, "'127.0.0.1:5550' is not an"),
        (ClientConfig, {"discovery_address": 5550}, "discovery_address=5550: is a int"),
        (ControlPlaneConfig, {"worker_id": ""}, "worker_id='': use 1 to 200"),
        (ControlPlaneConfig, {"worker_id": "a\nb"}, "worker_id='a"),
        (ControlPlaneConfig, {"worker_id": 5}, "worker_id=5: is a int"),
        (ControlPlaneConfig, {"worker_id": "x" * 5000}, r"worker_id='x+\.\.\.: use"),
        (ControlPlaneConfig, {"base_address": "tcp://h:65536"}, "port 65536"),
        (
            ControlPlaneConfig,
            {"subworker_management_port": 65536},
            "port=65536: must be from 0",
        ),
        (ControlPlaneConfig, {"subworker_management_port": "1"}, "port='1': is a str"),
        (ControlPlaneConfig, {"result_cache_max_size": 0}, "size=0: must be from 1"),
        (ControlPlaneConfig, {"result_cache_ttl_seconds": 0}, "seconds=0: must be a positive"),
        (ControlPlaneConfig, {"max_queued": 0}, "max_queued=0: must be from 1"),
        (ControlPlaneConfig, {"max_queued_bytes": 1}, "max_queued_bytes=1: must be from 3355"),
        (ControlPlaneConfig, {"callback_allow": ["a:b"]}, "'a:b' is no place for callbacks"),
        (ControlPlaneConfig, {"callback_allow": "a"}, "callback_allow='a': is a str"),
        (ControlPlaneConfig, {"insecure": "yes"}, "insecure='yes': is a str"),
        (ControlPlaneConfig, {"concurrency": 0}, "concurrency=0: must be from 1 to 10000"),
        (ControlPlaneConfig, {"backend": "curio"}, "backend='curio': use 'trio' or 'asyncio'"),
        (DashboardConfig, {"gui_enabled": 1}, "gui_enabled=1: is a int"),
        (DashboardConfig, {"gui_host": "a b"}, "gui_host='a b': use a host"),
        (DashboardConfig, {"gui_host": None}, "gui_host=None: is a NoneType"),
        (DashboardConfig, {"gui_port": -1}, "gui_port=-1"),
        (CommandConfig, {"task_modules": "a"}, "task_modules='a': is a str"),
        (CommandConfig, {"task_modules": 5}, "task_modules=5: is a int"),
        (CommandConfig, {"log_level": "loud"}, "log_level='loud': use 'DEBUG' or 'INFO'"),
    ],
)
def test_a_bad_argument_is_named_and_shown(config: Any, settings: Any, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        config(**settings)


def test_a_bad_argument_is_refused_wherever_it_came_through() -> None:
    with pytest.raises(ConfigurationError, match="timeout=0: must be a positive"):
        ClientConfig.resolve({}, timeout=0)


@pytest.mark.parametrize(
    ("config", "variable", "text", "words"),
    [
        (ClientConfig, "TIMEOUT", "soon", "='soon': must be a number of seconds"),
        (ClientConfig, "TIMEOUT", "nan", "='nan': must be a positive, finite"),
        (ClientConfig, "TIMEOUT", "-1", "='-1': must be a positive"),
        (ClientConfig, "RETRIES", "3.0", "='3.0': must be a whole number"),
        (ClientConfig, "RETRIES", "9" * 5000, "must be a whole number"),
        (ClientConfig, "SERIALIZATION_FORMAT", "xml", "='xml': use 'json' or 'pickle'"),
        (ClientConfig, "DISCOVERY_ADDRESS", "5550", "'5550' is not an address"),
        (ControlPlaneConfig, "SUBWORKER_PORT", "99999", "='99999': must be from 0 to 65535"),
        (DashboardConfig, "GUI_ENABLED", "maybe", "='maybe': use 1 or 0, true or false"),
        (DashboardConfig, "GUI_ALLOWED_HOSTS", "http://a", "is no host name"),
        (DashboardConfig, "GUI_ALLOWED_HOSTS", "a:b", "'a:b' is no host name"),
        (DashboardConfig, "GUI_ALLOWED_HOSTS", "*", "'*' is no host name"),
        (CommandConfig, "LOG_LEVEL", "loud", "='loud': use 'DEBUG'"),
    ],
)
def test_a_bad_variable_is_named_and_shown(
    config: Any, variable: str, text: str, words: str
) -> None:
    with pytest.raises(ConfigurationError, match=words) as caught:
        config.resolve({f"FASTWORKER_{variable}": text})
    assert str(caught.value).startswith(f"FASTWORKER_{variable}=")


@given(st.sampled_from(CONFIGS), st.data())
def test_no_text_in_a_variable_raises_anything_else(config: Any, data: st.DataObject) -> None:
    field = data.draw(st.sampled_from(list(dataclasses.fields(config))))
    variable = field.metadata["variable"] or "FASTWORKER_NONE"
    numbers = st.floats().map(str) | st.integers().map(str)
    text = data.draw(st.text(max_size=20) | numbers)
    required = {**REQUIRED, field.name: None} if config is SubWorkerConfig else {}
    try:
        config.resolve({variable: text}, **required)
    except ConfigurationError:
        pass


def test_a_good_argument_hides_a_bad_variable() -> None:
    assert ClientConfig.resolve({"FASTWORKER_TIMEOUT": "soon"}, timeout=3).timeout == 3


def test_listeners_of_one_control_plane_need_ports_of_their_own() -> None:
    with pytest.raises(
        ConfigurationError,
        match=r"base_address and discovery_address are both tcp://127\.0\.0\.1:5555",
    ):
        ControlPlaneConfig(discovery_address="tcp://127.0.0.1:5555")
    with pytest.raises(ConfigurationError, match="base_address and subworker_management_port"):
        ControlPlaneConfig(subworker_management_port=5555)
    ControlPlaneConfig(base_address="tcp://127.0.0.2:5550", subworker_management_port=0)
    ControlPlaneConfig(
        base_address="tcp://127.0.0.1:0",
        discovery_address="tcp://127.0.0.1:0",
        subworker_management_port=0,
    )


def test_a_config_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        ClientConfig().timeout = 5  # type: ignore[misc]


# --- what follows from the settings ---


def test_addresses_come_parsed() -> None:
    config = ControlPlaneConfig(base_address="tcp://[::1]:7000")
    assert [str(address) for address in config.addresses] == [
        "tcp://127.0.0.1:5550",
        "tcp://[::1]:7000",
        "tcp://[::1]:5560",
    ]
    assert ClientConfig().discovery == Address("127.0.0.1", 5550)
    assert subworker().control_plane == Address("127.0.0.1", 5555)
    assert str(DashboardConfig(gui_host="::1").address) == "tcp://[::1]:8080"


def test_pickle_is_decoded_only_where_it_was_chosen() -> None:
    json, pickle = SerializationFormat.JSON, SerializationFormat.PICKLE
    assert subworker().accepted_formats == {json}
    assert subworker(serialization_format=pickle).accepted_formats == {json, pickle}
    assert ControlPlaneConfig(serialization_format="pickle").accepted_formats == {json, pickle}  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("tcp://127.0.0.1:5555", "127.0.0.1", 5555),
        ("tcp://0.0.0.0:0", "0.0.0.0", 0),
        ("tcp://[::1]:65535", "[::1]", 65535),
        ("tcp://plane.example.org:1", "plane.example.org", 1),
    ],
)
def test_an_address_is_its_text(text: str, host: str, port: int) -> None:
    address = parse_address(text)
    assert (address.host, address.port, str(address)) == (host, port, text)
    assert address.with_port(9) == Address(host, 9)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "tcp://",
        "tcp://h",
        "tcp://h:",
        "udp://h:1",
        "tcp://::1:5",
        "tcp://h:65536",
        "tcp://h:-1",
    ],
)
def test_what_is_no_address_is_shown(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"is not an address|has port"):
        parse_address(text)


@pytest.mark.parametrize(
    ("host", "is_loopback"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("localhost", True),
        ("LOCALHOST", True),
        ("[::1]", True),
        ("[::ffff:127.0.0.1]", True),
        ("[::ffff:10.0.0.1]", False),
        ("0.0.0.0", False),
        ("[::]", False),
        ("10.0.0.1", False),
        ("localhost.example.org", False),
        ("[fe80::1%eth0]", False),
    ],
)
def test_loopback_is_known_from_the_address_alone(host: str, is_loopback: bool) -> None:
    assert parse_address(f"tcp://{host}:1").is_loopback is is_loopback
