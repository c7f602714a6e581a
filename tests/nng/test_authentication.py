"""Tokens as a user gives them to commands, and strangers at a real socket."""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastworker._core._listener_gate import HANDSHAKE_SECONDS, MAX_STRANGER_BYTES
from fastworker.cli._errors import Exit
from tests.nng.shell import Background, Shell, open_shell
from tests.ports import free_port

pytestmark = [pytest.mark.nng, pytest.mark.slow]

TASKS = """
from fastworker import task

@task
def add(a, b):
    return a + b

@task
def pair():
    return {(1, 2): {3}}  # no JSON has such keys
"""
ROLES = ("client", "worker", "operator")
# What NNG's requesters say first, and what they hear.
REQ, REP = b"\0SP\0\0\x30\0\0", b"\0SP\0\0\x31\0\0"


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    (tmp_path / "mytasks.py").write_text(TASKS)
    with open_shell(tmp_path) as shell:
        for role in ROLES:
            made = shell.run("token", "new", f"{role}.token")
            assert (made.returncode, made.stdout, made.stderr) == (0, "", "")
        yield shell


def start(shell: Shell, *options: str, host: str = "127.0.0.1") -> tuple[Background, str]:
    """A control plane with one worker process, and where clients find it."""
    discovery = f"tcp://127.0.0.1:{(port := free_port())}"
    plane = shell.start(
        "control-plane",
        f"--base-address=tcp://{host}:{free_port()}",
        f"--discovery-address=tcp://{host}:{port}",
        f"--subworker-port={free_port()}",
        "--task-modules=mytasks",
        *(f"--auth-token-file={role}={role}.token" for role in ROLES),
        *options,
    )
    plane.wait_for("fastworker.subworker: joined")
    return plane, discovery


def test_commands_are_let_in_by_the_tokens_they_are_given(shell: Shell) -> None:
    # X3 and X17 in docs/faults.md.
    plane, discovery = start(shell)
    submit = ("submit", "--task-name=add", f"--discovery-address={discovery}")
    asks = ("tasks", f"--discovery-address={discovery}")
    for options, submitted, asked in (
        (["--auth-token-file=client=client.token"], Exit.OK, Exit.NOT_PERMITTED),
        (["--auth-token-file=operator=operator.token"], Exit.OK, Exit.OK),
        (["--auth-token-file=client=worker.token"], *[Exit.NOT_PERMITTED] * 2),
        (["--auth-token-file=worker=worker.token"], *[Exit.BAD_CONFIGURATION] * 2),
        (["--auth-token-file=missing.token"], *[Exit.BAD_CONFIGURATION] * 2),
        ([], *[Exit.NOT_PERMITTED] * 2),
    ):
        done = shell.run(*submit, *options, "--args", "1", "2")
        assert done.returncode == submitted, done.stderr
        assert done.stdout == ("3\n" if submitted is Exit.OK else "")
        done = shell.run(*asks, *options)
        assert done.returncode == asked, done.stderr
    assert "a peer from 127.0.0.1 was refused: its token for client is wrong" in plane.stderr
    secrets = [(shell.folder / f"{role}.token").read_text().strip() for role in ROLES]
    for pid in shell.processes():
        seen = Path(f"/proc/{pid}/cmdline").read_text()
        seen += Path(f"/proc/{pid}/environ").read_text()
        assert not any(secret in seen for secret in secrets)
        if "\0subworker\0" in seen:
            assert "FASTWORKER_AUTH_TOKEN_FILE=worker=worker.token\0" in seen
            assert "operator.token" not in seen
    logs = "".join(path.read_text() for path in shell.folder.glob("stderr-*"))
    assert not any(secret in logs for secret in secrets)


def test_with_tokens_it_listens_everywhere_and_takes_pickles(shell: Shell) -> None:
    # X1 and X5 in docs/faults.md.
    plane, discovery = start(shell, "--serialization-format=pickle", host="0.0.0.0")
    assert "INSECURE" not in plane.stderr
    done = shell.run(
        "submit",
        "--task-name=pair",
        "--serialization-format=pickle",
        f"--discovery-address={discovery}",
        "--auth-token-file=client=client.token",
    )
    assert done.returncode == Exit.OK, done.stderr


def test_a_control_plane_whose_tokens_got_lost_does_not_start(shell: Shell) -> None:
    # X23 in docs/faults.md.
    plane, _ = start(shell, "--store=tasks.db")
    plane.process.terminate()
    assert plane.wait() == Exit.OK
    ports = [
        "--base-address=tcp://127.0.0.1:0",
        "--discovery-address=tcp://127.0.0.1:0",
        "--subworker-port=0",
        "--processes=0",
    ]
    open_now = shell.run("control-plane", "--store=tasks.db", *ports)
    assert open_now.returncode == Exit.BAD_CONFIGURATION
    assert "has wanted peers to prove who they are" in open_now.stderr
    (shell.folder / "client.token").unlink()
    without = shell.run(
        "control-plane", "--store=tasks.db", *ports, "--auth-token-file=client=client.token"
    )
    assert without.returncode == Exit.BAD_CONFIGURATION
    assert "client.token cannot be read" in without.stderr
    told = shell.start("control-plane", "--store=tasks.db", *ports, "--insecure")
    told.wait_for("  run by ")


def connect(port: int) -> socket.socket:
    """A peer that speaks NNG, and has proved nothing."""
    peer = socket.create_connection(("127.0.0.1", port), 5)
    peer.sendall(REQ)
    assert peer.recv(8, socket.MSG_WAITALL) == REP
    return peer


def seconds_until_closed(peer: socket.socket) -> float:
    began = time.monotonic()
    peer.settimeout(4 * HANDSHAKE_SECONDS)
    try:
        while peer.recv(4096):
            pass
    except ConnectionResetError:
        pass
    return time.monotonic() - began


def test_strangers_are_closed_and_cost_little(shell: Shell) -> None:
    # X2 in docs/faults.md.
    plane, discovery = start(shell)
    port = int(discovery.rpartition(":")[2])
    silent = [connect(port) for _ in range(20)]
    too_long = connect(port)
    size = MAX_STRANGER_BYTES + 1
    too_long.sendall(struct.pack(">Q", size + 4) + b"\x80\0\0\1FWA\x01" + os.urandom(size - 4))
    assert seconds_until_closed(too_long) < HANDSHAKE_SECONDS
    too_long.close()
    for peer in silent:
        assert seconds_until_closed(peer) < 2 * HANDSHAKE_SECONDS
        peer.close()
    done = shell.run(
        "submit",
        "--task-name=add",
        f"--discovery-address={discovery}",
        "--auth-token-file=client=client.token",
        "--args",
        "1",
        "2",
    )
    assert done.stdout == "3\n"
    assert plane.process.poll() is None
