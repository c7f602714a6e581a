"""X17, X18: secrets are nowhere that others look, and files are for their owner alone."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.nng.shell import Plane, Shell, open_shell, wait_until
from tests.ports import free_address, free_port

pytestmark = [pytest.mark.nng, pytest.mark.slow]

TASKS = """
import logging
from fastworker import task

@task
def greet(name, password):
    return len(password)

@task
def fail(password):
    raise ValueError("no luck")

@task(isolation="process")
def apart(password):
    return len(password)

@task
async def sleep(password):
    import anyio
    await anyio.sleep(60)
"""
# What a client says and shows of everything that holds a secret.
CLIENT = """
import logging, sys
from fastworker import SyncClient, FastWorkerError
logging.basicConfig(level=logging.DEBUG)
discovery, nowhere, argument, data = sys.argv[1], sys.argv[2], *sys.stdin.read().split()
with SyncClient(discovery) as client:
    print(client)
    keyed = client.options(idempotency_key="order 7")
    print(keyed, keyed.submit_task("greet", ("a",), {"password": argument}).status)
    for name in ("greet", "apart"):
        handle = client.submit(name, **({"name": "b"} if name == "greet" else {}),
                               password=argument)
        print(handle, repr(handle), handle.result())
    print(client.submit_task("fail", (argument,)))
    client.delay_with_callback("greet", nowhere, "c", argument, callback_data={"x": data})
    for address in ("tcp://192.0.2.7:1", "ipc:///x", discovery):
        try:
            told = {"x": data}
            client.delay_with_callback("greet", address, "d", argument, callback_data=told)
        except FastWorkerError as error:
            print(repr(error), error)
    for arguments in ((argument, object()), (argument, "x" * 17 * 2**20)):
        try:
            client.submit_task("greet", arguments)
        except FastWorkerError as error:
            print(repr(error), error)
    slow = client.submit("sleep", argument)
    print(slow, slow.status())
    print(slow.cancel(), slow)
"""


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    (tmp_path / "mytasks.py").write_text(TASKS)
    (tmp_path / "client.py").write_text(CLIENT)
    with open_shell(tmp_path) as shell:
        shell.environ["FASTWORKER_GUI_ENABLED"] = "1"
        yield shell


def command_lines(shell: Shell) -> str:
    """What a process list shows of all that has come of this shell."""
    shown: list[str] = []
    for pid in shell.processes():
        try:
            shown.append(Path(f"/proc/{pid}/cmdline").read_text())
        except OSError:
            continue
    return "\n".join(shown)


def ask(port: int, path: str, token: str, method: str = "GET") -> None:
    """Ask the dashboard; whatever it answers is for who has the token."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}",
        method=method,
        headers={"Authorization": f"Bearer {token}", "X-FastWorker": "1"},
    )
    try:
        urllib.request.urlopen(request, timeout=10).close()
    except urllib.error.HTTPError as error:
        error.close()


def test_no_log_error_repr_or_process_list_has_a_secret(shell: Shell) -> None:
    # X17 in docs/faults.md.
    gui = free_port()
    secrets = {
        name: f"{name}MARK{os.urandom(8).hex()}"
        for name in ("argument", "callback", "exporter", "wrong")
    }
    shell.environ["OTEL_EXPORTER_OTLP_HEADERS"] = f"authorization=Bearer {secrets['exporter']}"
    options = ["--task-modules=mytasks", "--log-level=DEBUG"]
    for name in ("shared", "other"):
        assert shell.run("token", "new", name).returncode == 0
        secrets[name] = (shell.folder / name).read_text().strip()
    shell.environ["FASTWORKER_AUTH_TOKEN_FILE"] = "shared"
    plane = Plane(shell, *options, "--processes=2", f"--gui-port={gui}")
    apart = shell.start(
        "subworker", "--worker-id=far", f"--control-plane-address={plane.management}", *options
    )
    where = ("--discovery-address", plane.discovery)
    wait_until(lambda: "far" in shell.run("workers", *where).stdout, "it has joined")
    (token_file,) = shell.folder.rglob("*.token")
    secrets["token"] = token_file.read_text().strip()
    said = subprocess.run(
        [sys.executable, "client.py", plane.discovery, free_address()],
        input="\n".join(secrets[name] for name in ("argument", "callback")),
        cwd=shell.folder, env=shell.environ, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert said.returncode == 0, said.stderr
    shown = [said.stdout, said.stderr, command_lines(shell)]
    for token in (secrets["token"], secrets["wrong"]):
        for path in ("/api/overview", "/api/tasks", "/api/nowhere", f"/{token}"):
            ask(gui, path, token)
        ask(gui, "/api/tasks/nobody/cancel", token, "POST")
    for command in (
        ["tasks", *where],
        ["workers", *where],
        ["queues", *where],
        ["callbacks", *where, "--json"],
        ["list", *where, "--json"],
        ["top", "--once", f"--gui-port={gui}", f"--base-address={plane.base}"],
        ["doctor", *plane.addresses(), f"--gui-port={gui}", "--task-modules=mytasks"],
        ["status", *where, "--task-id", "nobody"],
        ["submit", *where, "--task-name", "nobody"],
        ["submit", *where, "--task-name", "greet", "--auth-token-file", "other"],
        ["submit", *where, "--task-name", "greet", "--auth-token-file", "nowhere"],
        ["doctor", "--base-address=tcp://0.0.0.0:0", "--auth-token-file=client=other"],
    ):
        done = shell.run(*command)
        shown += [done.stdout, done.stderr, command_lines(shell)]
    for process in (apart, plane.command):
        process.process.terminate()
        process.wait()
        shown.append(process.stderr)
    assert "DEBUG" in plane.command.stderr
    everything = "\n".join(shown)
    assert "order 7" in everything  # what is no secret is shown
    hits = {name for name, secret in secrets.items() if secret in everything}
    assert hits == set()


def test_every_file_that_is_made_is_for_its_owner_alone_whatever_the_umask_is(
    shell: Shell,
) -> None:
    # X18 in docs/faults.md.
    temporary = shell.folder / "temporary"
    temporary.mkdir()
    shell.environ["TMPDIR"] = str(temporary)
    before = set(shell.folder.rglob("*"))
    mask = os.umask(0)
    try:
        gui = free_port()
        plane = Plane(shell, "--task-modules=mytasks", f"--gui-port={gui}")
        for name in ("greet", "apart"):
            arguments = ["--args", "x", "y"] if name == "greet" else ["--args", "x"]
            assert plane.submit(name, *arguments).returncode == 0
        wait_until(lambda: list(shell.folder.rglob("*-wal")), "the store's log")
        made = set(shell.folder.rglob("*")) - before
        while_it_runs = loose(made)
        plane.command.process.terminate()
        plane.command.wait()
    finally:
        os.umask(mask)
    made |= set(shell.folder.rglob("*")) - before
    names = {path.suffix for path in made}
    assert {".db", ".token", ".lock"} <= names
    assert while_it_runs == loose(made) == {}


def loose(paths: set[Path]) -> dict[str, str]:
    """Those that others can read, write or enter, with their modes."""
    found: dict[str, str] = {}
    for path in paths:
        # Of the test itself, or of Python.
        if path.name.startswith("stderr-") or "__pycache__" in path.parts:
            continue
        try:
            mode = path.lstat().st_mode
        except FileNotFoundError:
            continue
        if stat.S_IMODE(mode) & 0o077:
            found[path.name] = f"{stat.S_IMODE(mode):04o}"
    return found
