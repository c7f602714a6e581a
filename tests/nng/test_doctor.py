"""``fastworker doctor`` as it is typed, on this machine and its real sockets."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fastworker._doctor._hazards import check_hazards
from fastworker._doctor._row import Level
from fastworker._doctor._self_tests import read_library
from fastworker._transport import _nng_socket
from fastworker._transport._nng_socket import RawSocket
from fastworker.cli._errors import Exit
from tests.nng.shell import Plane, Shell, open_shell
from tests.ports import free_address

pytestmark = pytest.mark.nng


TASKS = """
from fastworker import task

@task
def add(x: int, y: int) -> int:
    return x + y
"""


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    (tmp_path / "mytasks.py").write_text(TASKS)
    with open_shell(tmp_path) as shell:
        yield shell


def ports() -> list[str]:
    """Options for ports that nobody has."""
    discovery, base, management, gui = (free_address() for _ in range(4))
    return [
        "--discovery-address", discovery, "--base-address", base,
        "--subworker-port", port_of(management), "--gui-port", port_of(gui),
    ]  # fmt: skip


def port_of(address: str) -> str:
    return address.rpartition(":")[2]


def diagnose(shell: Shell, *options: str) -> dict[str, Any]:
    """What it says, and what it returned, as ``exit``."""
    done = shell.run("doctor", "--json", *options)
    assert done.stdout, done.stderr
    return {**json.loads(done.stdout), "exit": done.returncode}


def levels(told: dict[str, Any]) -> dict[str, str]:
    return {row["check"]: row["level"] for row in told["checks"]}


def test_a_sound_machine_is_told_so_and_nothing_is_changed(shell: Shell) -> None:
    store = shell.folder / "state" / "tasks.db"
    told = diagnose(shell, *ports(), "--store", str(store))
    failed = [row for row in told["checks"] if row["level"] == "fail"]
    assert failed == []
    assert told["exit"] == Exit.OK
    found = levels(told)
    assert sum(1 for check in found if check.startswith("H")) == 24
    assert {"configuration", "python", "nng", "mbedtls", "disk", "clock", "store"} <= set(found)
    assert not store.parent.exists()


def test_for_people_it_is_a_table_that_says_what_to_do(shell: Shell) -> None:
    done = shell.run("doctor", *ports(), "--base-address", "tcp://0.0.0.0:5999")
    assert done.returncode == Exit.BAD_CONFIGURATION
    assert "fail  exposure" in done.stdout
    assert "do: listen on 127.0.0.1, or give a token" in done.stdout
    assert " failed, " in done.stdout.splitlines()[-1]
    assert done.stderr == ""


def test_a_port_that_somebody_has_is_told_with_his_process(shell: Shell) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = f"tcp://127.0.0.1:{other.getsockname()[1]}"
        told = diagnose(shell, *ports(), "--base-address", taken)
    [row] = [row for row in told["checks"] if row["check"] == "base address"]
    assert row["level"] == "fail"
    assert f"process {os.getpid()} (" in row["found"]
    assert told["exit"] == Exit.BAD_CONFIGURATION


def test_it_may_be_run_beside_its_control_plane(shell: Shell) -> None:
    plane = Plane(shell, "--task-modules", "mytasks")
    told = diagnose(shell, *plane.addresses(), "--task-modules", "mytasks")
    found = levels(told)
    for check in ("base address", "discovery address", "subworker management port"):
        assert found[check] == "ok", told
    assert found["task modules"] == "ok"
    assert plane.submit("add", "--args", "1", "2").stdout == "3\n"


@pytest.mark.parametrize(
    ("options", "variables", "check", "level"),
    [
        (["--max-queued", "0"], {}, "configuration", "fail"),
        ([], {"FASTWORKER_MAX_QUEUED": "x"}, "configuration", "fail"),
        ([], {"FASTWORKER_STOER": "x"}, "environment", "warn"),
        (["--task-modules", "nowhere"], {}, "task modules", "fail"),
        (["--gui-host", "0.0.0.0"], {}, "dashboard", "fail"),
        (["--callback-allow", "a b"], {}, "configuration", "fail"),
        (["--insecure", "--base-address", "tcp://0.0.0.0:5999"], {}, "exposure", "warn"),
        (["--base-address", "tcp://192.0.2.7:5999", "--insecure"], {}, "base address", "fail"),
        (["--base-address", f"tcp://{'a' * 70}.b:1", "--insecure"], {}, "base address", "fail"),
        (["--base-address", "tcp://a.invalid:1", "--insecure"], {}, "base address", "fail"),
        (["--base-address", "tcp://localhost:0"], {}, "base address", "ok"),
        (["--base-address", "tcp://[::1]:0"], {}, "base address", "ok"),
    ],
)  # fmt: skip
def test_what_a_control_plane_would_refuse_is_told_before_it_starts(
    shell: Shell, options: list[str], variables: dict[str, str], check: str, level: str
) -> None:
    shell.environ |= {"FASTWORKER_GUI_ENABLED": "1", **variables}
    told = diagnose(shell, *ports(), *options)
    assert levels(told)[check] == level
    if level == "fail":
        assert told["exit"] == Exit.BAD_CONFIGURATION


def test_files_that_others_can_read_are_told(shell: Shell) -> None:
    # X18 in docs/faults.md.
    store = shell.folder / "tasks.db"
    token = shell.folder / "tasks.db.token"
    for path in (store, token):
        path.write_text("")
        path.chmod(0o644)
    told = diagnose(shell, *ports(), "--store", str(store))
    found = levels(told)
    assert (found["store"], found["dashboard token"]) == ("warn", "fail")
    advice = [row["advice"] for row in told["checks"] if row["check"] == "dashboard token"]
    assert advice == [f"chmod 600 {token}"]


def test_with_a_token_others_may_connect_and_its_file_is_looked_at(shell: Shell) -> None:
    token = shell.folder / "token"
    assert shell.run("token", "new", str(token)).returncode == 0
    exposed = ["--base-address", "tcp://0.0.0.0:5999", "--auth-token-file", str(token)]
    told = diagnose(shell, *ports(), *exposed)
    found = levels(told)
    assert (found["exposure"], found["token"]) == ("warn", "ok")
    assert token.read_text().strip() not in json.dumps(told)
    token.chmod(0o644)
    found = levels(diagnose(shell, *ports(), *exposed))
    assert (found["configuration"], found["token"]) == ("fail", "fail")


def test_certificates_are_looked_at_and_make_an_exposed_address_good(shell: Shell) -> None:
    assert shell.run("certs", "init", "certs").returncode == 0
    own = "certs/control-plane"
    files = ["--tls-ca=certs/ca.pem", f"--tls-cert={own}.pem", f"--tls-key={own}.key"]
    exposed = [
        "--base-address=tls+tcp://0.0.0.0:5999",
        f"--discovery-address={free_address().replace('tcp://', 'tls+tcp://')}",
    ]
    told = diagnose(shell, *ports(), *exposed, *files)
    found = levels(told)
    assert (found["exposure"], found["TLS key"], found["certificate"]) == ("ok", "ok", "ok")
    assert told["exit"] == Exit.OK
    # Files with an address that is not encrypted are of no use.
    assert levels(diagnose(shell, *ports(), *files))["configuration"] == "fail"
    (shell.folder / f"{own}.key").chmod(0o640)
    found = levels(diagnose(shell, *ports(), *exposed, *files))
    assert (found["configuration"], found["TLS key"]) == ("fail", "fail")


def test_a_low_limit_of_descriptors_is_told(shell: Shell) -> None:
    command = [
        "bash", "-c", 'ulimit -n 512; exec "$@"', "bash",
        sys.executable, "-m", "fastworker", "doctor", "--json", *ports(),
    ]  # fmt: skip
    done = subprocess.run(
        command, cwd=shell.folder, env=shell.environ, capture_output=True, text=True, check=True
    )
    assert levels(json.loads(done.stdout))["open files"] == "warn"


# --- the self-tests ---


def test_the_sockets_of_this_version_pass_every_self_test() -> None:
    # X22 in docs/faults.md.
    library = read_library()
    assert library.nng
    assert [each.protocol for each in library.sockets] == ["req", "rep", "pair"]
    assert library.tests.hostile_length == ""
    assert library.tests.cancelled_receive == ""
    assert library.tests.silent_peer == ""
    assert library.tests.stale_pipes == 0
    assert library.tests.unsent_bytes_kept < 50 * 1024 * 1024


def test_a_socket_without_a_limit_is_seen_and_not_tried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # H1 in docs/faults.md.
    def open_rep() -> RawSocket:
        return RawSocket(
            _nng_socket._lib.nng_rep0_open_raw, send_queue_frames=1, max_frame_bytes=0
        )

    monkeypatch.setattr(RawSocket, "open_rep", open_rep)
    library = read_library()
    assert "not tried" in library.tests.hostile_length
    failed = [row.check for row in check_hazards(library) if row.level is Level.FAIL]
    assert "H1 a length that kills" in failed
