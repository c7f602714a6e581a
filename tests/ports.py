"""Free ports for tests that must name a port before anybody listens there.

Below 32768, so that the kernel does not hand one of them to some outgoing
connection between our look and its use.
"""

from __future__ import annotations

import random
import socket

_LOWEST, _HIGHEST = 10_240, 32_767
# Not the module's own generator: Hypothesis seeds that, and then two tests
# that run at the same time would choose the same ports.
_random = random.SystemRandom()
_given: set[int] = set()


def free_port() -> int:
    """A port of 127.0.0.1 that is free, and that this process gave nobody before."""
    for _ in range(1000):
        port = _random.randint(_LOWEST, _HIGHEST)
        if port in _given:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _given.add(port)
        return port
    raise AssertionError("no free port was found")


def free_address() -> str:
    """``tcp://127.0.0.1:port`` with a free port."""
    return f"tcp://127.0.0.1:{free_port()}"
