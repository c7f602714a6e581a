"""A cluster with TLS, each part in its own process, as a user types it."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from fastworker import Client, SyncClient, TlsSettings
from fastworker._certificates import Authority
from fastworker._errors import AuthenticationError, ConfigurationError, LinkBroken
from fastworker.cli._errors import Exit
from tests.certificates import Certificates
from tests.nng.shell import Background, Shell, open_shell, wait_until
from tests.ports import free_port

pytestmark = [pytest.mark.nng, pytest.mark.slow]

TASKS = """
from fastworker import task

@task
def add(x: int, y: int) -> int:
    return x + y
"""


def options(name: str, folder: str = "certs") -> list[str]:
    return [
        f"--tls-ca={folder}/ca.pem",
        f"--tls-cert={folder}/{name}.pem",
        f"--tls-key={folder}/{name}.key",
    ]


class Cluster:
    """A control plane with TLS, and what is typed at it."""

    def __init__(self, shell: Shell, *arguments: str, certs: str = "certs") -> None:
        self.shell = shell
        base, discovery, self.port = free_port(), free_port(), free_port()
        self.discovery = f"tls+tcp://127.0.0.1:{discovery}"
        self.plane = shell.start(
            "control-plane",
            # Every interface, with certificates and without --insecure.
            f"--base-address=tls+tcp://0.0.0.0:{base}",
            f"--discovery-address=tls+tcp://0.0.0.0:{discovery}",
            f"--subworker-port={self.port}",
            "--task-modules=mytasks",
            "--store=memory",
            *options("control-plane", certs),
            *arguments,
        )
        self.plane.wait_for("  run by ")

    def ask(self, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.shell.run(command, f"--discovery-address={self.discovery}", *arguments)

    def add(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.ask("submit", "--task-name=add", "--args", "1", "2", *arguments)

    def start_subworker(self, worker_id: str, *arguments: str) -> Background:
        return self.shell.start(
            "subworker",
            f"--worker-id={worker_id}",
            f"--control-plane-address=tls+tcp://127.0.0.1:{self.port}",
            "--task-modules=mytasks",
            *arguments,
        )


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    folder = tmp_path_factory.mktemp("tls")
    (folder / "mytasks.py").write_text(TASKS)
    with open_shell(folder) as shell:
        made = shell.run("certs", "init", "certs", "--host", "queue.example")
        assert made.returncode == 0, made.stderr
        yield shell


@pytest.fixture(scope="module")
def cluster(shell: Shell) -> Cluster:
    return Cluster(shell)


def test_a_cluster_works_with_the_certificates_that_were_made(cluster: Cluster) -> None:
    done = cluster.add(*options("client"))
    assert (done.stdout, done.returncode) == ("3\n", 0), done.stderr
    subworker = cluster.start_subworker("far", *options("worker"))
    subworker.wait_for("joined ")
    seen = cluster.ask("workers", *options("operator"))
    assert "far " in seen.stdout
    assert "control-plane-1 " in seen.stdout
    subworker.process.terminate()
    assert subworker.wait() == 0


def test_options_may_be_variables(cluster: Cluster) -> None:
    names = {"CA": "certs/ca.pem", "CERT": "certs/client.pem", "KEY": "certs/client.key"}
    for name, path in names.items():
        cluster.shell.environ[f"FASTWORKER_TLS_{name}"] = path
    try:
        assert cluster.add().stdout == "3\n"
    finally:
        for name in names:
            del cluster.shell.environ[f"FASTWORKER_TLS_{name}"]


def test_a_certificate_is_good_for_its_role_only(cluster: Cluster) -> None:
    # X3 in docs/faults.md.
    refused = cluster.ask("workers", *options("client"))
    assert refused.returncode != 0
    assert "is for operators" in refused.stderr
    refused = cluster.add(*options("worker"))
    assert refused.returncode == Exit.NO_CONTROL_PLANE
    assert "is not good for a client" in refused.stderr
    subworker = cluster.start_subworker("wrong", *options("client"))
    assert subworker.wait() == Exit.NO_CONTROL_PLANE
    assert "is not good for a subworker" in subworker.stderr


def test_a_plain_client_is_told_to_use_tls(cluster: Cluster) -> None:
    refused = cluster.shell.run(
        "submit",
        f"--discovery-address={cluster.discovery.removeprefix('tls+')}",
        *("--task-name=add", "--args", "1", "2"),
    )
    assert refused.returncode == Exit.NOT_PERMITTED
    assert "speaks TLS; write it as tls+tcp://" in refused.stderr


def test_a_client_that_knows_another_authority_says_so(cluster: Cluster) -> None:
    others = cluster.shell.run("certs", "init", "others")
    assert others.returncode == 0
    refused = cluster.add(*options("client", "others"))
    assert refused.returncode == Exit.NOT_PERMITTED
    assert "is not accepted: unable to get local issuer certificate" in refused.stderr
    cluster.plane.wait_for("failed in the TLS handshake")


def test_a_name_that_nobody_allowed_is_refused_and_logged(
    cluster: Cluster, tmp_path: Path
) -> None:
    # X9 in docs/faults.md.
    made = Certificates.from_folder(cluster.shell.folder / "certs")
    settings = made.files(tmp_path, "eve", made.of("eve"))
    with pytest.raises(LinkBroken, match="not good for a client"), client(cluster, settings):
        pass
    cluster.plane.wait_for("the name in its certificate, 'eve', has no role")


def test_a_host_that_is_not_in_the_certificate_is_refused(
    cluster: Cluster, tmp_path: Path
) -> None:
    made = Certificates.from_folder(cluster.shell.folder / "certs")
    settings = made.files(tmp_path, "web", made.of("fastworker-client"))
    wrong = dataclasses.replace(settings, server_name="elsewhere.example")
    with (
        pytest.raises(AuthenticationError, match=r"not valid for 'elsewhere\.example'"),
        client(cluster, wrong),
    ):
        pass
    right = dataclasses.replace(settings, server_name="queue.example")
    with client(cluster, right) as connected:
        assert connected.submit_task("add", (1, 2)).result == 3


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_a_client_works_on_both_loops_and_a_refused_one_hears_why_at_once(
    cluster: Cluster, tmp_path: Path
) -> None:
    made = Certificates.from_folder(cluster.shell.folder / "certs")
    settings = made.files(tmp_path, "web", made.of("fastworker-client"))
    async with Client(cluster.discovery, tls=settings) as connected:
        assert (await connected.submit_task("add", (1, 2))).result == 3
    strange = made.files(tmp_path, "strange", made.of("fastworker-client"), new_authority())
    with pytest.raises(ConfigurationError, match="would be refused by every peer"):
        Client(cluster.discovery, tls=strange)
    # Without a certificate of its own it cannot know before it has tried.
    with anyio.fail_after(5), pytest.raises(AuthenticationError, match="wants a certificate"):
        async with Client(
            cluster.discovery, tls=TlsSettings(ca=settings.ca), connect_timeout=60
        ):
            pass


def new_authority() -> Authority:
    return Certificates().authority


def client(cluster: Cluster, settings: TlsSettings) -> SyncClient:
    return SyncClient(cluster.discovery, tls=settings)


def test_the_names_of_a_role_can_be_others(shell: Shell, tmp_path: Path) -> None:
    made = Certificates.from_folder(shell.folder / "certs")
    cluster = Cluster(shell, "--tls-allow=client=web,cron", "--tls-allow=operator=olga")
    web = made.files(tmp_path, "web", made.of("web"))
    with client(cluster, web) as connected:
        assert connected.submit_task("add", (1, 2)).result == 3
    # Whose name it was before has no role now.
    refused = cluster.add(*options("client"))
    assert "is not good for a client" in refused.stderr


def test_what_is_beside_a_control_plane_uses_its_certificate_wherever_that_is_for(
    shell: Shell,
) -> None:
    # Not for 127.0.0.1, where its own processes and its dashboard dial it.
    made = Certificates.from_folder(shell.folder / "certs")
    far = shell.folder / "far"
    far.mkdir()
    for name, issued in (
        ("control-plane", made.plane("queue.example")),
        ("client", made.of("fastworker-client")),
    ):
        (far / "ca.pem").write_text(made.ca)
        (far / f"{name}.pem").write_bytes(issued.certificate)
        (far / f"{name}.key").touch(0o600)
        (far / f"{name}.key").write_bytes(issued.key)
    port = free_port()
    shell.environ["FASTWORKER_GUI_ENABLED"] = "1"
    try:
        cluster = Cluster(shell, f"--gui-port={port}", certs="far")
    finally:
        shell.environ["FASTWORKER_GUI_ENABLED"] = "0"
    done = cluster.add(*options("client", "far"), "--tls-server-name=queue.example")
    assert (done.stdout, done.returncode) == ("3\n", 0), done.stderr
    # To be ready it has asked the control plane what only operators may.
    wait_until(lambda: status_of(f"http://127.0.0.1:{port}/readyz") == 200, "ready")


def status_of(address: str) -> int:
    try:
        with urllib.request.urlopen(address, timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def test_without_mutual_tls_a_client_needs_no_certificate(shell: Shell) -> None:
    cluster = Cluster(shell, "--no-tls-mutual", "--insecure")
    done = cluster.add("--tls-ca=certs/ca.pem")
    assert (done.stdout, done.returncode) == ("3\n", 0), done.stderr


def test_the_commands_that_certs_init_shows_work(tmp_path: Path) -> None:
    (tmp_path / "mytasks.py").write_text(TASKS)
    with open_shell(tmp_path) as shell:
        shown = shell.run("certs", "init", "my certs").stderr
        ports = {port: str(free_port()) for port in ("5555", "5550", "5560")}
        for port, free in ports.items():
            shown = shown.replace(port, free)
        commands = re.findall(r"^  fastworker ((?:.*\\\n)*.*)$", shown, re.MULTILINE)
        plane, subworker, ask = (
            [word.strip("'") for word in re.findall(r"'[^']*'|[^\s\\]+", command)]
            for command in commands
        )
        words = {"MODULE": "mytasks"}
        started = shell.start(*(words.get(word, word) for word in plane), "--store=memory",
                              f"--subworker-port={ports['5560']}")  # fmt: skip
        started.wait_for("  run by ")
        joined = shell.start(*(words.get(word, word) for word in subworker))
        joined.wait_for("joined ")
        assert "add(x: int, y: int)" in shell.run(*ask).stdout
