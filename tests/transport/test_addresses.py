"""What may be given as an address, and what is said about the rest."""

from __future__ import annotations

import pytest

from fastworker._errors import ConfigurationError
from fastworker._transport._address import (
    is_memory_address,
    parse_tcp_address,
    replace_port,
)


@pytest.mark.parametrize(
    ("address", "host", "port"),
    [
        ("tcp://127.0.0.1:5555", "127.0.0.1", 5555),
        ("tcp://localhost:1", "localhost", 1),
        ("tcp://0.0.0.0:65535", "0.0.0.0", 65535),
        ("tcp://control-plane.example.com:5555", "control-plane.example.com", 5555),
        ("tcp://my_service:5555", "my_service", 5555),
        ("tcp://[::1]:5555", "[::1]", 5555),
        ("tcp://[fe80::1%eth0]:5555", "[fe80::1%eth0]", 5555),
        ("tls+tcp://queue.example:5555", "queue.example", 5555),
        ("tls+tcp://[::1]:5555", "[::1]", 5555),
    ],
)
def test_a_tcp_address_has_a_host_and_a_port(address: str, host: str, port: int) -> None:
    assert parse_tcp_address(address, listening=False) == (host, port)


@pytest.mark.parametrize(
    "address",
    [
        "",
        "5555",
        "127.0.0.1:5555",
        "http://127.0.0.1:5555",
        "ipc:///tmp/fastworker",
        "tcp://127.0.0.1",
        "tcp://127.0.0.1:",
        "tcp://127.0.0.1:http",
        "tcp://127.0.0.1:65536",
        "tcp://127.0.0.1:5555/",
        "tcp://127.0.0.1:5555\n",
        "tcp://127.0.0.1:\u0665\u0665\u0665\u0665",
        "tls://127.0.0.1:5555",
        "tls+tcp:127.0.0.1:5555",
        "TLS+TCP://127.0.0.1:5555",
        "tcp://user@127.0.0.1:5555",
        "tcp://:5555",
        "tcp://*:5555",
        "tcp://::1:5555",
        " tcp://127.0.0.1:5555",
    ],
)
@pytest.mark.parametrize("listening", [False, True])
def test_anything_else_is_refused_with_the_value_and_an_example(
    address: str, listening: bool
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_tcp_address(address, listening=listening)
    assert repr(address) in str(caught.value)
    assert "'tcp://127.0.0.1:5555'" in str(caught.value)


def test_port_zero_is_only_for_listening() -> None:
    assert parse_tcp_address("tcp://127.0.0.1:0", listening=True) == ("127.0.0.1", 0)
    with pytest.raises(ConfigurationError, match="port 0"):
        parse_tcp_address("tcp://127.0.0.1:0", listening=False)


def test_another_port_has_the_same_host_and_speaks_the_same() -> None:
    assert replace_port("tls+tcp://[::1]:5550", 5555) == "tls+tcp://[::1]:5555"
    assert replace_port("tcp://queue:5550", 5555) == "tcp://queue:5555"


def test_memory_addresses_are_names() -> None:
    assert is_memory_address("memory://control-plane")
    for address in ("memory://", "memory://a b", "memory://a/b", "memory://a\n", "tcp://a:1"):
        assert not is_memory_address(address)
