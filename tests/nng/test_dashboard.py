"""The dashboard beside a control plane, as a user starts and opens it."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from fastworker import ConfigurationError, SyncClient
from tests.nng.shell import Background, Plane, Shell, open_shell, wait_until
from tests.ports import free_port

pytestmark = pytest.mark.nng

TASKS = """
from fastworker import task

@task
def add(a: int, b: int) -> int:
    return a + b
"""


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    (tmp_path / "some_tasks.py").write_text(TASKS)
    with open_shell(tmp_path) as shell:
        shell.environ["FASTWORKER_GUI_ENABLED"] = "1"
        yield shell


def start(shell: Shell, port: int, *arguments: str, **settings: object) -> Plane:
    return Plane(
        shell,
        "--processes=0",
        "--task-modules=some_tasks",
        f"--gui-port={port}",
        *arguments,
        **settings,  # type: ignore[arg-type]
    )


def get(port: int, path: str, **headers: str) -> tuple[int, bytes]:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def is_served(port: int) -> bool:
    try:
        return get(port, "/livez")[0] == 200
    except OSError:
        return False


def token_of(shell: Shell) -> str:
    (file,) = shell.folder.rglob("*.token")
    assert file.stat().st_mode & 0o777 == 0o600
    return file.read_text().strip()


def open_command(plane: Plane, port: int, *arguments: str) -> list[str]:
    return [
        "dashboard",
        "--print-url",
        f"--base-address={plane.base}",
        f"--gui-port={port}",
        *arguments,
    ]


def overview(port: int, token: str) -> dict[str, object]:
    status, body = get(port, "/api/overview", Authorization=f"Bearer {token}")
    assert status == 200, body
    found: dict[str, object] = json.loads(body)
    return found


def test_it_is_served_and_the_command_opens_it_signed_in(shell: Shell) -> None:
    port = free_port()
    plane = start(shell, port)
    token = token_of(shell)
    plane.command.wait_for(f"  dashboard   http://127.0.0.1:{port}/\n")
    assert get(port, "/")[0] == 401
    assert overview(port, token)["workers"] == 1
    printed = shell.run(*open_command(plane, port))
    assert printed.stdout == f"http://127.0.0.1:{port}/#token={token}\n"
    # Not where a log would keep it (X17 in docs/faults.md).
    assert token not in plane.command.stderr
    plane.command.process.send_signal(signal.SIGTERM)
    assert plane.command.wait() == 0
    restarted = start(shell, port, like=plane)
    assert overview(port, token)["epoch"] != 0
    assert token not in restarted.command.stderr
    assert shell.run(*open_command(plane, port)).stdout == printed.stdout


@pytest.mark.parametrize("store", ["memory", "kept/tasks.db"])
def test_the_token_is_found_by_the_options_of_the_control_plane(
    shell: Shell, store: str
) -> None:
    port = free_port()
    plane = start(shell, port, f"--store={store}", "--worker-id=mine")
    (file,) = shell.folder.rglob("*.token")
    assert (file.parent == shell.folder / "kept") is (store != "memory")
    found = shell.run(*open_command(plane, port, f"--store={store}", "--worker-id=mine"))
    assert found.stdout.endswith(f"#token={token_of(shell)}\n"), found.stderr
    other = shell.run(*open_command(plane, port, "--store=elsewhere.db"))
    assert other.returncode == 78
    assert "there is no token" in other.stderr


def test_a_person_at_a_terminal_is_shown_the_address_with_the_token(shell: Shell) -> None:
    port = free_port()
    plane = Plane.__new__(Plane)
    plane.shell, plane.base, plane.discovery = shell, "", ""
    command = shell.start(
        "control-plane",
        *("--base-address=tcp://127.0.0.1:0", "--discovery-address=tcp://127.0.0.1:0"),
        *("--subworker-port=0", f"--gui-port={port}", "--store=memory"),
        terminal=True,
        stderr_too=True,
    )
    wait_until(lambda: is_served(port), "the dashboard answers")
    wait_until(lambda: list(shell.folder.rglob("*.token")), "there is a token")
    command.press_ctrl_c()
    shown = command.read_terminal()
    assert f"http://127.0.0.1:{port}/#token={token_of(shell)}" in shown


def test_a_port_that_is_taken_is_a_warning_and_tried_again(shell: Shell) -> None:
    port = free_port()
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        plane = start(shell, port)
        plane.command.wait_for("in use by another program; choose another with --gui-port")
        assert "  dashboard " not in plane.command.stderr
        assert plane.submit("add", "--args", "1", "2").returncode == 0
    wait_until(lambda: is_served(port), "the dashboard answers")
    assert overview(port, token_of(shell))["succeeded"] == 1


class Impostor(BaseHTTPRequestHandler):
    """Listens where the dashboard should, and would like to have its token."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("x-fastworker-proof", "0" * 64)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_the_token_is_not_shown_to_another_program_at_that_port(shell: Shell) -> None:
    # X17 in docs/faults.md.
    with HTTPServer(("127.0.0.1", 0), Impostor) as server:
        port = server.server_port
        threading.Thread(target=server.serve_forever, daemon=True).start()
        plane = start(shell, port)
        found = shell.run(*open_command(plane, port))
        server.shutdown()
    assert found.returncode == 69
    assert token_of(shell) not in found.stdout + found.stderr
    assert "no dashboard with this token answers" in found.stderr


@pytest.mark.parametrize(
    ("arguments", "environ"),
    [(["--no-gui"], {}), ([], {"FASTWORKER_GUI_ENABLED": "0"})],
)
def test_whoever_wants_none_has_none(
    shell: Shell, arguments: list[str], environ: dict[str, str]
) -> None:
    shell.environ.update(environ)
    port = free_port()
    plane = start(shell, port, *arguments)
    assert plane.submit("add", "--args", "1", "2").returncode == 0
    assert not is_served(port)
    assert not list(shell.folder.rglob("*.token"))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_it_does_not_listen_for_other_machines_unless_that_is_meant(
    shell: Shell, host: str
) -> None:
    shell.environ["FASTWORKER_GUI_HOST"] = host
    found = shell.run("control-plane", "--store=memory")
    assert found.returncode == 78
    assert "other machines could connect there" in found.stderr
    assert "--insecure" in found.stderr


def test_with_consent_it_listens_there_and_knows_the_names_it_was_told(shell: Shell) -> None:
    port = free_port()
    shell.environ["FASTWORKER_GUI_ALLOWED_HOSTS"] = "tasks.example.com"
    start(shell, port, "--gui-host=0.0.0.0", "--insecure")
    assert get(port, "/livez", Host="tasks.example.com")[0] == 200
    assert get(port, "/livez", Host="other.example.com")[0] == 421
    assert get(port, "/livez", Host=f"0.0.0.0:{port}")[0] == 421


def test_a_token_that_others_can_read_means_no_dashboard_and_nothing_else(
    shell: Shell,
) -> None:
    port = free_port()
    plane = start(shell, port)
    (file,) = shell.folder.rglob("*.token")
    plane.command.process.send_signal(signal.SIGTERM)
    assert plane.command.wait() == 0
    file.chmod(0o644)
    again = start(shell, port, like=plane)
    again.command.wait_for("there is no dashboard: the token")
    assert "can be read by others (mode 0644)" in again.command.stderr
    assert again.submit("add", "--args", "1", "2").returncode == 0


def stalled_browsers(port: int, token: str) -> list[socket.socket]:
    """Live feeds that nobody reads, and a request that never comes to its end."""
    found = []
    for _ in range(3):
        browser = socket.create_connection(("127.0.0.1", port))
        browser.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        browser.sendall(
            f"GET /api/live HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n"
            f"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
            f"Authorization: Bearer {token}\r\n\r\n".encode()
        )
        assert browser.recv(12) == b"HTTP/1.1 101"
        found.append(browser)
    slow = socket.create_connection(("127.0.0.1", port))
    slow.sendall(b"POST /api/session HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n")
    return [*found, slow]


def ends(command: Background) -> int:
    command.process.send_signal(signal.SIGTERM)
    return command.wait(10)


def test_the_control_plane_ends_though_browsers_are_connected(shell: Shell) -> None:
    port = free_port()
    plane = start(shell, port)
    browsers = stalled_browsers(port, token_of(shell))
    assert ends(plane.command) == 0
    for browser in browsers:
        browser.close()
    assert "Traceback" not in plane.command.stderr


def test_what_somebody_does_leaves_a_line(shell: Shell) -> None:
    # X21 in docs/faults.md.
    port = free_port()
    plane = start(shell, port)
    task_id = json.loads(plane.submit("add", "--args", "1", "2", "--json").stdout)["task_id"]
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/api/tasks/{task_id}/retry",
        method="POST",
        headers={"Authorization": f"Bearer {token_of(shell)}", "X-FastWorker": "1"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.status == 200
    plane.command.wait_for("fastworker.audit: ")
    (line,) = re.findall(r"fastworker\.audit: (.*)", plane.command.stderr)
    assert json.loads(line) == {
        "action": "retry",
        "outcome": "done",
        "address": "127.0.0.1",
        "signed_in_by": "token",
        "task_ids": [task_id],
    }


@pytest.mark.parametrize("is_taken", [False, True])
def test_no_callback_goes_to_it_nor_to_where_it_will_be(
    shell: Shell, *, is_taken: bool
) -> None:
    # X19 in docs/faults.md.
    port = free_port()
    with contextlib.ExitStack() as stack:
        if is_taken:
            stack.enter_context(socket.create_server(("127.0.0.1", port)))
        plane = start(shell, port)
    with (
        SyncClient(plane.discovery) as client,
        pytest.raises(ConfigurationError, match="a port of this control plane itself"),
    ):
        client.delay_with_callback("add", f"tcp://127.0.0.1:{port}", 1, 2)
