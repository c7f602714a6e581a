"""Fault N11: ports that somebody has, and a control plane that comes back on others."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from fastworker import AddressInUse, Client, ControlPlaneWorker
from fastworker._core._link_requester import LinkState
from fastworker.cli._errors import Exit
from tests.nng.processes import Processes
from tests.nng.shell import open_shell
from tests.nng.test_cluster import until
from tests.ports import free_port

pytestmark = [pytest.mark.nng, pytest.mark.slow]


@contextmanager
def outgoing_connection() -> Iterator[int]:
    """A connection of somebody else; yields the port that it has on its own side."""
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as connection,
    ):
        yield int(connection.getsockname()[1])


@pytest.mark.trio
async def test_a_port_that_an_outgoing_connection_has_taken_is_in_use() -> None:
    # N11 in docs/faults.md.
    with outgoing_connection() as port:
        for taken in range(3):
            base, discovery, management = (
                port if number == taken else free_port() for number in range(3)
            )
            worker = ControlPlaneWorker(
                "plane",
                f"tcp://127.0.0.1:{base}",
                f"tcp://127.0.0.1:{discovery}",
                subworker_management_port=management,
            )
            with pytest.raises(AddressInUse, match=f"tcp://127.0.0.1:{port} "):
                await worker.start()


def test_a_command_whose_port_an_outgoing_connection_has_says_which(tmp_path: Path) -> None:
    # N11 in docs/faults.md.
    with outgoing_connection() as port, open_shell(tmp_path) as shell:
        done = shell.run("control-plane", "--base-address", f"tcp://127.0.0.1:{port}")
    assert (done.returncode, done.stdout) == (Exit.BAD_CONFIGURATION, "")
    assert done.stderr.count("\n") == 1
    assert f"tcp://127.0.0.1:{port} is in use" in done.stderr


@pytest.mark.trio
async def test_a_control_plane_that_comes_back_on_other_ports_is_found_again(
    processes: Processes,
) -> None:
    # N11 in docs/faults.md: its discovery port is the one that has to stay.
    plane = processes.control_plane()
    worker = processes.start("subworker", connect=processes.discovery)
    worker.wait_ready()
    async with Client(processes.discovery) as client:
        assert (await client.submit_task("add", (1, 2))).result == 3
        plane.kill()
        await until(lambda: client.statistics().link is LinkState.DOWN)
        with (
            socket.create_server(("127.0.0.1", _port(plane.facts["base"]))),
            socket.create_server(("127.0.0.1", plane.facts["management"])),
        ):
            moved = processes.restart(base="tcp://127.0.0.1:0", management=0)
            assert moved.facts["base"] != plane.facts["base"]
            assert moved.facts["management"] != plane.facts["management"]
            with trio.fail_after(30):
                result = await client.submit_task("add", (3, 4))
        assert result.result == 7
        assert result.worker_id == "subworker"
        assert client.statistics().link is LinkState.OPEN


def _port(address: str) -> int:
    return int(address.rpartition(":")[2])
