"""Real processes for tests: started, waited for, and always ended."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]

SERVE = """
import anyio, sys
from fastworker._transport._nng import NngTransport

async def main():
    listener = NngTransport().listen("tcp://127.0.0.1:0")
    print(listener.address, flush=True)
    while True:
        for route, frame in await listener.receive():
            listener.send(route, frame + b"!")

anyio.run(main, backend="trio")
"""

DIAL = """
import anyio, sys
from fastworker._transport._nng import NngTransport

async def main():
    link = NngTransport().dial(sys.argv[1])
    print("dialing", flush=True)
    while True:
        for frame in await link.receive():
            print(frame.decode("ascii", "replace"), flush=True)

anyio.run(main, backend="trio")
"""


@contextmanager
def running(source: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run Python code as a process, and end it whatever happens."""
    with subprocess.Popen(
        [sys.executable, "-c", source, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def read_line(process: subprocess.Popen[str]) -> str:
    """The next line it prints, or a failure with its last words."""
    assert process.stdout is not None
    assert process.stderr is not None
    line = process.stdout.readline()
    if not line:
        raise AssertionError(f"ended with {process.wait()}: {process.stderr.read()[-2000:]}")
    return line.strip()


class Peer:
    """A process of ``tests.nng.peer`` that is ready; ``facts`` is what it said then."""

    def __init__(
        self, role: str, settings: dict[str, Any], environ: Mapping[str, str] | None = None
    ) -> None:
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - close() does it
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.nng.peer", role, json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            bufsize=0,
            cwd=ROOT,
            env={**os.environ, **(environ or {})},
        )
        self.settings = settings
        self.facts: dict[str, Any] = {}

    @property
    def pid(self) -> int:
        return self.process.pid

    def wait_ready(self) -> None:
        """Read what it says when it is ready."""
        self.facts = self._read()

    def has_spoken(self) -> bool:
        """Whether it has said anything that was not read."""
        return bool(select.select([self.process.stdout], [], [], 0)[0])

    def ask(self) -> dict[str, Any]:
        """Its figures now; see ``tests.nng.peer``."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"?\n")
        return self._read()

    def kill(self) -> None:
        """As kill -9 does it: no goodbye."""
        self.process.kill()
        self.process.wait()

    def is_running(self) -> bool:
        return self.process.poll() is None

    def words(self) -> str:
        """What it wrote to stderr so far."""
        self._stderr.seek(0)
        return self._stderr.read().decode(errors="replace")

    def close(self) -> None:
        """End it, whatever state it is in, and everything that belongs to it."""
        self.kill()
        for stream in (self.process.stdin, self.process.stdout, self._stderr):
            assert stream is not None
            stream.close()

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], 30)
        line = self.process.stdout.readline() if ready else b""
        if not line:
            raise AssertionError(
                f"it said nothing (exit {self.process.poll()}): {self.words()}"
            )
        return dict(json.loads(line))


class Processes:
    """Starts peers for one control plane; :meth:`close` ends them all."""

    def __init__(self) -> None:
        self._peers: list[Peer] = []

    def control_plane(self, **settings: Any) -> Peer:
        """Start a control plane, by default on free ports and without lanes."""
        self.plane = self.start("control-plane", **{"name": "plane", **settings})
        self.plane.wait_ready()
        return self.plane

    def restart(self, **changed: Any) -> Peer:
        """Start a control plane on the ports of the one before, which is dead."""
        known = {name: self.plane.facts[name] for name in ("base", "management", "discovery")}
        return self.control_plane(**{**self.plane.settings, **known, **changed})

    def start(
        self, role: str, *, environ: Mapping[str, str] | None = None, **settings: Any
    ) -> Peer:
        """Start a peer, and do not wait until it is ready."""
        peer = Peer(role, {"name": role, **settings}, environ)
        self._peers.append(peer)
        return peer

    def subworkers(self, *names: str, **settings: Any) -> list[Peer]:
        """Start several subworkers at once."""
        settings["connect"] = self.plane.facts["management_address"]
        peers = [self.start("subworker", name=name, **settings) for name in names]
        for peer in peers:
            peer.wait_ready()
        return peers

    def client(self, **settings: Any) -> Peer:
        """Start a client that waits for one task and has forty others."""
        peer = self.start("client", **{"connect": self.discovery, **settings})
        peer.wait_ready()
        return peer

    @property
    def discovery(self) -> str:
        """Where clients find the control plane."""
        return str(self.plane.facts["discovery"])

    def close(self) -> None:
        for peer in self._peers:
            peer.close()
