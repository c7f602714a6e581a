"""A callback listener that knows pynng and nothing of FastWorker, as a process.

    python pair_listener.py ADDRESS

It prints each message that it gets, one JSON object to a line.
"""

from __future__ import annotations

import sys

import pynng


def main() -> None:
    with pynng.Pair0(listen=sys.argv[1], recv_max_size=18 * 1024 * 1024) as socket:
        print("listening", flush=True)
        while True:
            sys.stdout.buffer.write(socket.recv() + b"\n")
            sys.stdout.buffer.flush()


main()
