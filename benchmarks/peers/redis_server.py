"""A Redis of our own: on a free port of loopback, and nothing of it is kept."""

from __future__ import annotations

import random
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

START_SECONDS = 10


class RedisMissing(RuntimeError):
    """Raised when there is no Redis; the text says how to get one."""


@contextmanager
def redis_server() -> Iterator[str]:
    """Run one while the block is entered; gives its URL."""
    program = shutil.which("redis-server")
    if program is None:
        raise RedisMissing("no redis-server: apt-get install redis-server")
    port = _free_port()
    with tempfile.TemporaryDirectory() as folder:
        where = ["--bind", "127.0.0.1", "--port", str(port), "--dir", folder]
        process = subprocess.Popen(
            [program, *where, "--save", "", "--appendonly", "no"], stdout=subprocess.DEVNULL
        )
        try:
            _wait_listening(process, port)
            yield f"redis://127.0.0.1:{port}"
        finally:
            process.kill()
            process.wait()


def _wait_listening(process: subprocess.Popen[bytes], port: int) -> None:
    end = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < end:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.01)
    raise RedisMissing(f"Redis did not start within {START_SECONDS} s")


def _free_port() -> int:
    """Below 32768, so that nobody's outgoing connection takes it meanwhile."""
    for port in random.sample(range(10_240, 32_768), 100):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RedisMissing("no port is free")
