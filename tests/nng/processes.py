"""Peers that hostile bytes may kill without killing the tests."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

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
