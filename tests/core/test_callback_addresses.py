"""X19: where callbacks may go, by who asks for them and what the operator has listed."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastworker._core._callback_addresses import CallbackRules, parse_allowed

CLIENT = "192.0.2.5"
OWN_PORT = 5555
# This machine has it beside loopback.
HERE = "198.51.100.1"


def rules(*allowed: str) -> CallbackRules:
    return CallbackRules(
        map(parse_allowed, allowed),
        [OWN_PORT],
        is_here=lambda place: place == ipaddress.ip_address(HERE),
    )


@pytest.mark.parametrize(
    "address",
    [
        "tcp://127.0.0.1:9000",
        "tcp://127.8.9.1:9000",
        "tcp://[::1]:9000",
        "tcp://[::ffff:127.0.0.1]:9000",
        "tcp://localhost:9000",
        "tcp://LOCALHOST.:9000",
        f"tcp://{CLIENT}:9000",
        f"tcp://[::ffff:{CLIENT}]:9000",
        f"tcp://{CLIENT}:{OWN_PORT}",  # of another machine
    ],
)
def test_loopback_and_the_clients_own_host_need_no_list(address: str) -> None:
    assert rules().refuse(address, CLIENT) is None


@pytest.mark.parametrize(
    "address",
    [
        "tcp://192.0.2.6:9000",
        "tcp://0.0.0.0:9000",
        "tcp://[::]:9000",
        "tcp://hooks.example.com:9000",
        "tcp://2130706433:9000",  # what resolvers take for 127.0.0.1
        "tcp://0x7f.1:9000",
        "tcp://localhost.example.com:9000",
        "tcp://[64:ff9b::c000:206]:9000",
    ],
)
def test_any_other_place_is_refused_with_its_name_and_the_option(address: str) -> None:
    # X19 in docs/faults.md.
    reason = rules().refuse(address, CLIENT)
    assert reason is not None
    assert reason.startswith(f"callback_address={address}: ")
    assert "--callback-allow" in reason
    assert "FASTWORKER_CALLBACK_ALLOW" in reason
    assert CLIENT in reason


def test_a_client_of_unknown_origin_has_loopback_alone() -> None:
    assert rules().refuse("tcp://127.0.0.1:9000", "") is None
    assert rules().refuse("tcp://192.0.2.5:9000", "") is not None


@pytest.mark.parametrize(
    ("allowed", "address", "is_allowed"),
    [
        ("hooks.example.com", "tcp://Hooks.Example.com.:9000", True),
        ("Hooks.Example.com.", "tcp://hooks.example.com:1", True),
        ("hooks.example.com:9000", "tcp://hooks.example.com:9000", True),
        ("hooks.example.com:9000", "tcp://hooks.example.com:9001", False),
        ("example.com", "tcp://hooks.example.com:9000", False),
        ("10.0.0.7", "tcp://10.0.0.7:9000", True),
        ("10.0.0.7:9000", "tcp://10.0.0.7:9001", False),
        ("10.0.0.0/8", "tcp://10.200.0.7:9000", True),
        ("10.0.0.0/8", "tcp://[::ffff:10.200.0.7]:9000", True),
        ("10.0.0.0/8", "tcp://[2002:ac8:7::]:9000", True),  # 10.200.0.7, by 6to4
        ("10.0.0.0/8", "tcp://11.0.0.7:9000", False),
        ("fd00::/8", "tcp://[fd00::7]:9000", True),
        ("[fd00::7]:9000", "tcp://[fd00::7]:9000", True),
        ("[fd00::7]:9000", "tcp://[fd00::7]:9001", False),
        ("fd00::7", "tcp://[fd00::7]:9001", True),
        ("*", "tcp://10.0.0.7:9000", True),
        ("*", "tcp://[fd00::7]:9000", True),
        ("*", "tcp://hooks.example.com:9000", True),
    ],
)
def test_what_is_listed_is_allowed_and_no_more(
    allowed: str, address: str, is_allowed: bool
) -> None:
    assert (rules(allowed).refuse(address, CLIENT) is None) is is_allowed


@pytest.mark.parametrize(
    "address",
    [
        f"tcp://127.0.0.1:{OWN_PORT}",
        f"tcp://127.0.0.2:{OWN_PORT}",
        f"tcp://[::1]:{OWN_PORT}",
        f"tcp://[::ffff:127.0.0.1]:{OWN_PORT}",
        f"tcp://localhost:{OWN_PORT}",
        f"tcp://0.0.0.0:{OWN_PORT}",
        f"tcp://[::]:{OWN_PORT}",
        f"tcp://{HERE}:{OWN_PORT}",
    ],
)
def test_a_port_of_our_own_is_refused_whatever_is_listed(address: str) -> None:
    # X19 in docs/faults.md.
    strict = rules("*", "0.0.0.0/0", "::/0", "localhost", HERE)
    reason = strict.refuse(address, HERE)
    assert reason is not None
    assert "is a port of this control plane itself" in reason


def test_a_port_that_is_added_later_is_our_own_too() -> None:
    later = rules()
    assert later.refuse("tcp://127.0.0.1:8080", CLIENT) is None
    later.add_own_port(8080)
    assert later.refuse("tcp://127.0.0.1:8080", CLIENT) is not None


@pytest.mark.parametrize(
    "place", ["169.254.169.254", "[::ffff:169.254.169.254]", "[fd00:ec2::254]", "[fe80::1]"]
)
def test_where_clouds_answer_questions_is_refused_unless_it_is_listed_itself(
    place: str,
) -> None:
    # X19 in docs/faults.md.
    address = f"tcp://{place}:80"
    everything = rules("*", "0.0.0.0/0", "::/0")
    for client in (CLIENT, place.strip("[]")):
        assert "link-local" in (everything.refuse(address, client) or "")
    listed = place.strip("[]").removeprefix("::ffff:")
    assert rules(listed).refuse(address, CLIENT) is None


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ("127.0.0.1", f"tcp://hooks.example.com:{OWN_PORT} is a port of this control plane"),
        ("169.254.169.254", "is link-local"),
        (HERE, "is a port of this control plane itself"),
    ],
)
def test_a_listed_name_may_not_stand_for_what_is_always_refused(found: str, words: str) -> None:
    listed = rules("hooks.example.com")
    address = f"tcp://hooks.example.com:{OWN_PORT}"
    assert listed.refuse(address, CLIENT) is None
    assert words in (listed.refuse_name(address, ipaddress.ip_address(found)) or "")
    assert listed.refuse_name(address, ipaddress.ip_address("203.0.113.9")) is None


def test_a_name_that_is_listed_no_more_is_not_connected_to() -> None:
    place = ipaddress.ip_address("203.0.113.9")
    assert "--callback-allow" in (rules().refuse_name("tcp://hooks:1", place) or "")


def test_localhost_that_stands_for_another_machine_is_not_connected_to() -> None:
    address = "tcp://localhost:9000"
    assert rules().refuse_name(address, ipaddress.ip_address("127.0.0.1")) is None
    assert "not loopback" in (
        rules().refuse_name(address, ipaddress.ip_address("10.0.0.1")) or ""
    )


@pytest.mark.parametrize(
    "text",
    ["", " ", "a b", "http://a", "a:b", "a:0", "a:65536", "10.0.0.0/33", "10.0.0.1/8", "*.a",
     "a:" + "9" * 5000, "é.example"],
)  # fmt: skip
def test_what_is_no_place_is_told_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="is no place for callbacks") as caught:
        parse_allowed(text)
    assert "hooks.example.com" in str(caught.value)


def unmapped(place: ipaddress.IPv4Address | ipaddress.IPv6Address) -> object:
    return getattr(place, "ipv4_mapped", None) or place


def is_or_holds_loopback(place: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    tail = ipaddress.IPv4Address(place.packed[-4:])
    return (
        place.is_loopback or tail.is_loopback or place in ipaddress.ip_network("2002:7f00::/24")
    )


@settings(deadline=None)
@given(st.ip_addresses(), st.integers(1, 65535), st.ip_addresses())
def test_without_a_list_only_loopback_and_the_client_are_ever_allowed(
    place: ipaddress.IPv4Address | ipaddress.IPv6Address,
    port: int,
    client: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    host = f"[{place}]" if place.version == 6 else str(place)
    if rules().refuse(f"tcp://{host}:{port}", str(client)) is None:
        # Other spellings of one address are no other place.
        assert is_or_holds_loopback(place) or unmapped(place) == unmapped(client)
        assert port != OWN_PORT or not place.is_loopback
