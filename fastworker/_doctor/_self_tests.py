"""Tries the known hazards out, on loopback sockets of our own, within a second or two.

The order matters: what a missing limit would do to this process is tried only if
the library says that the limit is there.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from pathlib import Path
from typing import Final

import trio

from fastworker._doctor._facts import Library, SelfTests, SocketFacts
from fastworker._errors import FastWorkerError
from fastworker._transport._nng import NngLink, NngListener, NngTransport
from fastworker._transport._nng_probe import (
    can_name_tls_peers,
    count_pipes,
    nng_version,
    probe_sockets,
    tls_version,
)

_ANY_PORT: Final = "tcp://127.0.0.1:0"
# The greeting of a Req socket, and the length of a message that wraps around.
_HOSTILE: Final = b"\0SP\0\0\x30\0\0" + struct.pack(">Q", 2**64 - 32)
# A listener may pause 0.1 s; on a busy machine all of it takes longer.
PATIENCE: Final = 10.0
_UNSENT: Final = 100


def read_library() -> Library:
    """All that is known of the library here."""
    sockets = [SocketFacts(*probed) for probed in probe_sockets()]
    has_limits = bool(sockets) and all(0 < each.max_frame < 2**31 for each in sockets)
    tests = (
        trio.run(_run_tests)
        if has_limits
        else SelfTests(hostile_length="not tried: a socket has no limit")
    )
    return Library(
        nng=nng_version(),
        tls=tls_version(),
        can_name_tls_peers=can_name_tls_peers(),
        sockets=sockets,
        tests=tests,
    )


async def _run_tests() -> SelfTests:
    transport = NngTransport()
    listener = transport.listen(_ANY_PORT)
    try:
        hostile = await _survives(transport, listener)
        cancelled = await _loses_nothing(transport, listener)
        threads = _count_threads()
        stale = await _stale_pipes(listener)
    finally:
        listener.close()
    return SelfTests(
        hostile_length=hostile,
        unsent_bytes_kept=_keep_unsent(transport),
        silent_peer=_dial_silent(transport),
        cancelled_receive=cancelled,
        stale_pipes=stale,
        threads=threads,
    )


async def _survives(transport: NngTransport, listener: NngListener) -> str:
    """H1, H9: a hostile peer costs its own connection, and others get in."""
    port = int(listener.address.rpartition(":")[2])
    with trio.move_on_after(PATIENCE) as scope:
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(_HOSTILE)
            try:
                while await stream.receive_some():
                    pass
            except trio.BrokenResourceError:
                pass
        link = transport.dial(listener.address)
        try:
            await _send(link, b"still there?")
            await listener.receive()
        finally:
            link.close()
    return (
        "a hostile peer was not closed, or nobody got in after it"
        if scope.cancelled_caught
        else ""
    )


async def _loses_nothing(transport: NngTransport, listener: NngListener) -> str:
    """H3: what arrives while a receive is given up is still there for the next one."""
    link = transport.dial(listener.address)
    heard = 0
    try:
        with trio.move_on_after(PATIENCE):
            for _ in range(20):
                await _send(link, b"once")
                with trio.CancelScope() as scope:
                    scope.cancel()
                    heard += len(await listener.receive())
            while heard < 20:
                heard += len(await listener.receive())
    finally:
        link.close()
    return "" if heard == 20 else f"{heard} of 20 messages arrived around cancelled receives"


async def _send(link: NngLink, frame: bytes) -> None:
    await link.wait_sendable()
    while not link.send_nowait(frame):
        await link.wait_sendable()


async def _stale_pipes(listener: NngListener) -> int:
    """H16: pipes that are gone are forgotten."""
    with trio.move_on_after(PATIENCE):
        while count_pipes(listener):
            await listener.receive_pipe_events()
    return count_pipes(listener)


def _keep_unsent(transport: NngTransport) -> int:
    """H2: by how much the process grows when messages cannot be sent."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        link = transport.dial(f"tcp://127.0.0.1:{silent.getsockname()[1]}")
        try:
            frame = bytes(1024 * 1024)
            before = _resident()
            for _ in range(_UNSENT):
                link.send_nowait(frame)
            return max(0, _resident() - before)
        finally:
            link.close()


def _count_threads() -> int:
    try:
        return len(os.listdir("/proc/self/task"))
    except OSError:
        return 0


def _resident() -> int:
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGESIZE")


def _dial_silent(transport: NngTransport) -> str:
    """H13: dialing a peer that says nothing returns at once, and so does closing."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        try:
            transport.dial(f"tcp://127.0.0.1:{silent.getsockname()[1]}").close()
        except FastWorkerError as error:
            return str(error)
        took = time.monotonic() - began
    return "" if took < PATIENCE / 2 else f"dialing a silent peer took {took:.1f} s"
