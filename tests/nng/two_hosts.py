"""Two hosts with a wire between them: network namespaces, or else two loopback addresses.

A namespace has interfaces and ports of its own, so that what listens on one host is
reached from the other by its address only, as between machines. Where this process may
not make any, 127.0.0.2 and 127.0.0.3 stand for the hosts.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.nng.shell import Shell
from tests.ports import free_port

# As the page has them.
FIRST, SECOND = "10.0.0.1", "10.0.0.2"
PORTS = ("5550", "5555", "5560", "9000")


@dataclass
class Host:
    """Somewhere commands are typed.

    ``prefix`` goes before each command, ``environ`` is what was exported.
    """

    name: str
    folder: Path
    shell: Shell
    prefix: list[str] = field(default_factory=list)
    environ: dict[str, str] = field(default_factory=dict)


class TwoHosts:
    """See the module's first lines. Commands are written with the addresses of the page."""

    def __init__(self, hosts: dict[str, Host], real: dict[str, str]) -> None:
        self.hosts = hosts
        self._real = real
        self._started: list[subprocess.Popen[str]] = []

    @property
    def are_apart(self) -> bool:
        """Whether the hosts have networks of their own."""
        return bool(self.hosts[FIRST].prefix)

    def here(self, text: str) -> str:
        """What stands for the page's addresses and ports here."""
        for shown, real in self._real.items():
            text = text.replace(shown, real)
        return text

    def type(self, host: str, line: str) -> str:
        """Type a line as it is on the page; return what it prints.

        ``export`` is for the lines that follow, ``scp`` copies to the other host's
        folder, and what ends with ``&`` goes on.
        """
        at = self.hosts[host]
        words = line.split()
        if words[0] == "export":
            name, _, value = words[1].partition("=")
            at.environ[name] = self.here(value)
            return ""
        if words[0] == "scp":
            other = self.hosts[words[-1].rstrip(":")]
            for name in words[2:-1]:
                shutil.copy2(at.folder / name, other.folder)
            return ""
        if words[-1] == "&":
            self.start(host, " ".join(words[:-1]))
            return ""
        done = self.run(host, line)
        assert done.returncode == 0, f"{line}:\n{done.stderr}"
        return done.stdout

    def run(self, host: str, line: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            self._command(host, line), cwd=self.hosts[host].folder, env=self._environ(host),
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip

    def start(self, host: str, line: str) -> subprocess.Popen[str]:
        """Start a command and go on."""
        at = self.hosts[host]
        log = at.folder / f"log-{len(self._started)}"
        with log.open("w") as stderr:
            process = subprocess.Popen(
                self._command(host, line), cwd=at.folder, env=self._environ(host),
                stdin=subprocess.DEVNULL, stdout=stderr, stderr=stderr, text=True,
            )  # fmt: skip
        self._started.append(process)
        return process

    def _command(self, host: str, line: str) -> list[str]:
        return [*self.hosts[host].prefix, "bash", "-c", f"exec {self.here(line)}"]

    def _environ(self, host: str) -> dict[str, str]:
        at = self.hosts[host]
        return {**at.shell.environ, **at.environ}

    def logs(self, host: str) -> str:
        """What the commands that go on have written."""
        return "".join(path.read_text() for path in self.hosts[host].folder.glob("log-*"))

    def stop(self) -> None:
        """End what goes on, the last first."""
        for process in reversed(self._started):
            process.send_signal(signal.SIGTERM)
        for process in self._started:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._started.clear()


@contextlib.contextmanager
def two_hosts(folder: Path, shell: Shell, *, apart: bool) -> Iterator[TwoHosts]:
    """Make the hosts: ``apart`` in namespaces, if this process may make some."""
    tag = f"fw{os.getpid() % 100_000}"
    names = {FIRST: f"{tag}a", SECOND: f"{tag}b"}
    is_made = apart and _make_namespaces(names)
    hosts: dict[str, Host] = {}
    for address, name in names.items():
        home = folder / name[-1]
        home.mkdir()
        prefix = ["ip", "netns", "exec", name] if is_made else []
        hosts[address] = Host(name, home, shell, prefix)
    real: dict[str, str] = {}
    if not is_made:
        real = {FIRST: "127.0.0.2", SECOND: "127.0.0.3"}
        real |= {f":{port}": f":{free_port()}" for port in PORTS}
        # The page has no need to say where, since there it is free.
        management = real[":5560"].removeprefix(":")
        hosts[FIRST].environ["FASTWORKER_SUBWORKER_PORT"] = management
    made = TwoHosts(hosts, real)
    try:
        yield made
    finally:
        made.stop()
        if is_made:
            _remove_namespaces(names)


def _make_namespaces(names: dict[str, str]) -> bool:
    """Two namespaces with one cable; False if this process may not."""
    first, second = names[FIRST], names[SECOND]
    steps = [
        ["ip", "netns", "add", first],
        ["ip", "netns", "add", second],
        ["ip", "link", "add", first, "netns", first, "type", "veth", "peer", "name", second,
         "netns", second],
        *(
            step
            for address, name in names.items()
            for step in (
                ["ip", "-n", name, "address", "add", f"{address}/24", "dev", name],
                ["ip", "-n", name, "link", "set", name, "up"],
                ["ip", "-n", name, "link", "set", "lo", "up"],
            )
        ),
    ]  # fmt: skip
    if shutil.which("ip") is None:
        return False
    for step in steps:
        if subprocess.run(step, capture_output=True, check=False).returncode:
            _remove_namespaces(names)
            return False
    return True


def _remove_namespaces(names: dict[str, str]) -> None:
    for name in names.values():
        subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)
