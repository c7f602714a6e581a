"""Fault N10: the control plane's host has a name that resolves late, or to another address.

The peers are processes that ask a resolver of ours: ``names.c``, built with the C
compiler of this machine and loaded before the C library's.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import trio

from tests.nng.processes import Peer, Processes
from tests.nng.test_cluster import until

pytestmark = [pytest.mark.nng, pytest.mark.slow, pytest.mark.trio]

NAME = "plane.test"


@pytest.fixture(scope="session")
def resolver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library to preload."""
    library = tmp_path_factory.mktemp("names") / "names.so"
    source = Path(__file__).with_name("names.c")
    subprocess.run(
        ["cc", "-shared", "-fPIC", "-Wall", "-Werror", "-o", library, source, "-ldl"],
        check=True,
    )
    return library


class Names:
    """What the names are, for every process with this environment."""

    def __init__(self, path: Path, resolver: Path) -> None:
        self._path = path
        self.environ = {"LD_PRELOAD": str(resolver), "FASTWORKER_TEST_NAMES": str(path)}
        self.point_to(None)

    def point_to(self, address: str | None) -> None:
        """From now on the name is this address; None: there is no such name."""
        new = self._path.with_suffix(".new")
        new.write_text("" if address is None else f"{NAME} {address}\n")
        os.replace(new, self._path)


@pytest.fixture
def names(tmp_path: Path, resolver: Path) -> Names:
    return Names(tmp_path / "names", resolver)


def with_host(address: str, host: str) -> str:
    return f"tcp://{host}:{address.rpartition(':')[2]}"


def named(address: str) -> str:
    """The same address, by the name of its host."""
    return with_host(address, NAME)


def is_open(peer: Peer) -> bool:
    return bool(peer.ask()["statistics"]["link"] == "open")


@pytest.mark.parametrize("role", ["client", "subworker"])
async def test_a_name_that_resolves_only_later_is_found_then(
    processes: Processes, names: Names, role: str
) -> None:
    # N10 in docs/faults.md.
    plane = processes.control_plane(executes=True)
    connect = plane.facts["discovery" if role == "client" else "management_address"]
    peer = processes.start(role, environ=names.environ, connect=named(connect), patience=30)
    await trio.sleep(1)
    assert not peer.has_spoken()
    names.point_to("127.0.0.1")
    peer.wait_ready()
    assert is_open(peer)


@pytest.mark.parametrize("role", ["client", "subworker"])
async def test_a_name_that_does_not_resolve_in_time_is_told_with_the_address(
    processes: Processes, names: Names, role: str
) -> None:
    # N10 in docs/faults.md.
    address = f"tcp://{NAME}:5555"
    peer = processes.start(role, environ=names.environ, connect=address, patience=0.5)
    with trio.fail_after(20):
        await until(lambda: not peer.is_running())
    assert "ControlPlaneUnreachable" in peer.words()
    assert address in peer.words()


async def test_peers_follow_a_name_to_another_address(
    processes: Processes, names: Names
) -> None:
    # N10 in docs/faults.md.
    plane = processes.control_plane()
    names.point_to("127.0.0.1")
    management = named(plane.facts["management_address"])
    worker = processes.start("subworker", environ=names.environ, connect=management)
    client = processes.start(
        "client", environ=names.environ, connect=named(processes.discovery)
    )
    worker.wait_ready()
    client.wait_ready()

    plane.kill()
    names.point_to(None)
    await until(lambda: not is_open(client) and not is_open(worker))
    assert f"lost the connection to {management}; dialing again" in worker.words()
    moved = processes.restart(
        base=with_host(plane.facts["base"], "127.0.0.2"),
        discovery=with_host(plane.facts["discovery"], "127.0.0.2"),
    )
    names.point_to("127.0.0.2")

    await until(lambda: is_open(client) and is_open(worker), within=20)
    assert list(moved.ask()["status"]["subworkers"]) == ["subworker"]
    assert moved.ask()["statistics"]["clients"] == 1


async def test_a_name_of_ipv6_only_is_found(processes: Processes, names: Names) -> None:
    # N10 in docs/faults.md.
    names.point_to("::1")
    plane = processes.control_plane(
        executes=True, base="tcp://[::1]:0", discovery="tcp://[::1]:0"
    )
    client = processes.start(
        "client", environ=names.environ, connect=named(plane.facts["discovery"])
    )
    client.wait_ready()
    assert is_open(client)
