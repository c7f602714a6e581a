"""The cluster of docs/how-to/deploy.md, typed as it stands there, on two hosts."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastworker.cli._errors import Exit
from tests.docs.page import DOCS, blocks
from tests.nng.shell import open_shell, wait_until
from tests.nng.two_hosts import FIRST, SECOND, TwoHosts, two_hosts

pytestmark = [pytest.mark.nng, pytest.mark.slow]

PAGE = blocks((DOCS / "how-to" / "deploy.md").read_text())
TYPED = [block for block in PAGE if block.language == "bash"]
LISTENER = Path(__file__).with_name("pair_listener.py")
CALL = """
import sys
from fastworker import SyncClient
with SyncClient(sys.argv[1]) as client:
    print(client.delay_with_callback("add", sys.argv[2], 3, 4))
"""


@pytest.fixture(params=["apart", "on loopback"])
def hosts(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TwoHosts]:
    """Two hosts; without the right to make networks, twice on loopback."""
    with open_shell(tmp_path) as shell:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        shell.environ |= {"PATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
        with two_hosts(tmp_path, shell, apart=request.param == "apart") as made:
            (tasks,) = [block.text for block in PAGE if block.file_name == "mytasks.py"]
            for host in made.hosts.values():
                (host.folder / "mytasks.py").write_text(tasks)
                (host.folder / "call.py").write_text(CALL)
            yield made


def set_up(hosts: TwoHosts, first: int) -> str:
    """Type two blocks of the page, that one and the next; return what the last line prints."""
    printed = ""
    for block in TYPED[first : first + 2]:
        host = block.caption.removeprefix("Host ")
        for line in block.text.splitlines():
            if line:
                printed = hosts.type(host, line)
    return printed


def test_a_cluster_over_two_hosts_has_ten_lines() -> None:
    lines = [line for block in TYPED[:2] for line in block.text.splitlines()]
    assert len(lines) == 10
    assert [block.caption for block in TYPED] == [f"Host {FIRST}", f"Host {SECOND}"] * 2


def test_a_cluster_of_two_hosts_works_as_the_page_says(hosts: TwoHosts) -> None:
    assert set_up(hosts, 0) == "3\n"
    # Who has no token, or another one, is let in nowhere.
    submit = "fastworker submit --task-name add --args 1 2"
    second = hosts.hosts[SECOND]
    token = second.environ.pop("FASTWORKER_AUTH_TOKEN_FILE")
    assert hosts.run(SECOND, submit).returncode != Exit.OK
    hosts.type(SECOND, "fastworker token new another")
    refused = hosts.run(SECOND, f"{submit} --auth-token-file another")
    assert refused.returncode == Exit.NOT_PERMITTED, refused.stderr
    second.environ["FASTWORKER_AUTH_TOKEN_FILE"] = token
    assert hosts.type(SECOND, submit) == "3\n"
    secret = (second.folder / "token").read_text().strip()
    for host in hosts.hosts:
        assert secret not in hosts.logs(host)


def test_a_cluster_of_two_hosts_works_with_certificates(hosts: TwoHosts) -> None:
    assert set_up(hosts, 2) == "3\n"
    # Without a certificate, or with another authority's, nobody is let in.
    hosts.type(SECOND, f"fastworker certs init others --host {FIRST}")
    submit = "fastworker submit --task-name add --args 1 2 --timeout 5"
    for own in (
        "--tls-ca ca.pem",
        "--tls-ca ca.pem --tls-cert others/client.pem --tls-key others/client.key",
        "--tls-ca others/ca.pem --tls-cert client.pem --tls-key client.key",
    ):
        assert hosts.run(SECOND, f"{submit} {own}").returncode != Exit.OK
    keys = list((hosts.hosts[FIRST].folder / "certs").glob("*.key"))
    assert len(keys) > 1
    assert {key.stat().st_mode & 0o777 for key in keys} == {0o600}


def test_a_callback_finds_its_client_on_the_other_host_and_goes_nowhere_else(
    hosts: TwoHosts,
) -> None:
    # X19 in docs/faults.md.
    set_up(hosts, 0)
    log = hosts.hosts[SECOND].folder / "heard"
    listener = f"{sys.executable} {LISTENER} tcp://{SECOND}:9000 >{log}"
    hosts.start(SECOND, listener)
    wait_until(lambda: log.exists() and "listening" in log.read_text(), "it listens")
    call = f"{sys.executable} call.py tcp://{FIRST}:5550"
    task_id = hosts.type(SECOND, f"{call} tcp://{SECOND}:9000").strip()
    wait_until(lambda: task_id in log.read_text(), "it hears")
    for address in (f"tcp://{FIRST}:5555", "tcp://10.0.0.3:9000", "tcp://169.254.169.254:80"):
        refused = hosts.run(SECOND, f"{call} {address}")
        assert f"callback_address={hosts.here(address)}" in refused.stderr


def test_without_a_token_no_other_host_is_listened_to(hosts: TwoHosts) -> None:
    # X1 in docs/faults.md.
    if not hosts.are_apart:
        # Loopback needs none: there the address of every interface stands for the host's.
        hosts.hosts[FIRST].environ["FASTWORKER_DISCOVERY_ADDRESS"] = "tcp://0.0.0.0:0"
    hosts.type(FIRST, f"export FASTWORKER_BASE_ADDRESS=tcp://{FIRST}:5555")
    if hosts.are_apart:
        hosts.type(FIRST, f"export FASTWORKER_DISCOVERY_ADDRESS=tcp://{FIRST}:5550")
    for command in ("control-plane", "doctor"):
        refused = hosts.run(FIRST, f"fastworker {command}")
        assert refused.returncode == Exit.BAD_CONFIGURATION
        assert "other machines c" in refused.stderr + refused.stdout
