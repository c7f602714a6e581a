"""The rules of the one socket factory, each against the harm it prevents.

The hazards' numbers (H1 and so on) are those of the reliability notes.
"""

from __future__ import annotations

import ast
import os
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random

import anyio
import pytest

import fastworker
from fastworker._transport._abc import MAX_FRAME_BYTES
from fastworker._transport._nng import NngLink, NngListener, NngTransport
from fastworker._transport._nng_socket import RawSocket

from .processes import DIAL, SERVE, read_line, running

pytestmark = pytest.mark.nng

ANY_PORT = "tcp://127.0.0.1:0"
FROM_REQ = b"\0SP\0\0\x30\0\0"
FROM_REP = b"\0SP\0\0\x31\0\0"
REQUEST = b"\x80\0\0\1"
MIB = 1024 * 1024

# Lengths of a message, none of which is ever sent. The first one aborts the
# process of a socket that has no limit; the others make it reserve the memory.
HOSTILE_LENGTHS = [2**64 - 32, 2**64 - 1, 2**63, 2**40, 2**31, MAX_FRAME_BYTES + 1]


def port_of(address: str) -> int:
    return int(address.rpartition(":")[2])


def framed(body: bytes) -> bytes:
    return struct.pack(">Q", len(body)) + body


def connect(address: str) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port_of(address)), timeout=5)


def is_closed_by_peer(connection: socket.socket) -> bool:
    """Read until the peer closes; False if it does not within the timeout."""
    try:
        while connection.recv(4096):
            pass
    except ConnectionResetError:
        pass
    except TimeoutError:
        return False
    return True


async def ask(address: str, frame: bytes = b"still there?") -> None:
    """Do one round trip with a server that echoes."""
    link = NngTransport().dial(address)
    try:
        # Listeners of NNG sleep 0.1 s after each bad connect (H9).
        with anyio.fail_after(15):
            await link.wait_sendable()
            assert link.send_nowait(frame)
            assert await link.receive() == [frame + b"!"]
    finally:
        link.close()


def wait_until(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    """NNG frees things on its own threads, and tells nobody."""
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


@contextmanager
def connection() -> Iterator[tuple[NngListener, NngLink]]:
    listener = NngTransport().listen(ANY_PORT)
    link = NngTransport().dial(listener.address)
    try:
        yield listener, link
    finally:
        link.close()
        listener.close()


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def test_hostile_lengths_leave_a_listener_serving() -> None:  # H1
    # N7 in docs/faults.md.
    with running(SERVE) as server:
        address = read_line(server)
        for length in HOSTILE_LENGTHS:
            with connect(address) as attacker:
                attacker.sendall(FROM_REQ + struct.pack(">Q", length) + REQUEST)
                assert is_closed_by_peer(attacker), f"{length} was accepted"
        anyio.run(ask, address)
        assert server.poll() is None


def test_hostile_lengths_leave_a_link_dialing() -> None:  # H1
    with socket.create_server(("127.0.0.1", 0)) as impostor:
        impostor.settimeout(10)
        address = f"tcp://127.0.0.1:{impostor.getsockname()[1]}"
        with running(DIAL, address) as victim:
            assert read_line(victim) == "dialing"
            for length in HOSTILE_LENGTHS:
                with impostor.accept()[0] as pipe:
                    pipe.settimeout(5)
                    pipe.sendall(FROM_REP + struct.pack(">Q", length) + REQUEST)
                    assert is_closed_by_peer(pipe), f"{length} was accepted"
            with impostor.accept()[0] as pipe:
                pipe.sendall(FROM_REP + framed(REQUEST + b"welcome"))
                assert read_line(victim) == "welcome"


def test_garbage_connections_leave_a_listener_serving() -> None:
    # N8 in docs/faults.md.
    random = Random(6)
    garbage = [
        b"",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        FROM_REP + framed(REQUEST + b"I am a server too"),
        b"\0SP\1\0\x30\0\0" + framed(REQUEST + b"another version"),
        FROM_REQ + framed(b"") + framed(b"abc"),
        FROM_REQ + framed(b"\0\0\0\1" * 2),
        FROM_REQ + framed(b"\0\0\0\1" * 30 + REQUEST + b"too many hops"),
        FROM_REQ + random.randbytes(64),
        *(random.randbytes(random.randrange(1, 200)) for _ in range(6)),
    ]
    with running(SERVE) as server:
        address = read_line(server)
        for data in garbage:
            with connect(address) as stranger:
                stranger.sendall(data)
        anyio.run(ask, address)
        assert server.poll() is None


def test_peers_that_fall_silent_keep_nobody_else_waiting() -> None:
    with running(SERVE) as server:
        address = read_line(server)
        with connect(address) as mute, connect(address) as half:
            mute.sendall(FROM_REQ)
            half.sendall(FROM_REQ + struct.pack(">Q", 16 * MIB) + bytes(MIB))
            anyio.run(ask, address)


@pytest.mark.slow
def test_a_peer_that_reads_no_replies_keeps_nobody_else_waiting() -> None:
    with running(SERVE) as server:
        address = read_line(server)
        with connect(address) as greedy:
            greedy.settimeout(0.5)
            try:
                greedy.sendall(FROM_REQ)
                for _ in range(400):
                    greedy.sendall(framed(REQUEST + bytes(200_000)))
            except TimeoutError:
                pass  # as good: it is made to wait
            anyio.run(ask, address)


def test_an_oversize_message_costs_only_its_own_pipe() -> None:  # H11
    async def scenario() -> None:
        with connection() as (listener, link), anyio.fail_after(10):
            await link.wait_sendable()
            assert link.send_nowait(b"before")
            [(route, _)] = await listener.receive()
            with connect(listener.address) as attacker:
                body = bytes(MAX_FRAME_BYTES - len(REQUEST) + 1)
                with suppress(ConnectionError):  # it need not read to the end
                    attacker.sendall(FROM_REQ + framed(REQUEST + body))
                assert await anyio.to_thread.run_sync(is_closed_by_peer, attacker)
            assert link.send_nowait(b"after")
            assert await listener.receive() == [(route, b"after")]

    anyio.run(scenario)


@pytest.mark.parametrize("make", [RawSocket.open_req, RawSocket.open_rep])
def test_every_socket_has_the_options_that_the_rules_ask_for(
    make: Callable[[], RawSocket],
) -> None:
    raw = make()
    try:
        options = raw._socket
        assert options.raw
        assert options.recv_max_size == MAX_FRAME_BYTES  # H1
        assert options.recv_buffer_size <= 32
        assert options.tcp_nodelay
        assert options.tcp_keepalive  # H19
        assert options.reconnect_time_min == 100  # H24
        assert options.reconnect_time_max == 1000
    finally:
        raw.close()


def test_the_options_reach_the_pipes() -> None:
    with connection() as (listener, link):
        [of_listener] = listener._socket._socket.listeners
        [of_link] = link._socket._socket.dialers
        for end in (of_listener, of_link):
            assert end.recv_max_size == MAX_FRAME_BYTES
            assert end.tcp_nodelay
            assert end.tcp_keepalive


def test_a_link_queues_nothing_for_nobody() -> None:
    raw = RawSocket.open_req()
    try:
        assert raw._socket.send_buffer_size == 0
        assert not raw.send(REQUEST, b"x")
    finally:
        raw.close()


def test_messages_that_cannot_be_sent_are_freed() -> None:  # H2
    raw = RawSocket.open_req()
    frame = bytes(MIB)
    try:
        raw.send(REQUEST, frame)
        before = resident_bytes()
        for _ in range(200):
            assert not raw.send(REQUEST, frame)
        assert resident_bytes() - before < 20 * MIB
    finally:
        raw.close()


@pytest.mark.slow
def test_descriptors_threads_and_pipes_return_to_where_they_were() -> None:  # H16, H24
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    def threads() -> int:
        return len(os.listdir("/proc/self/task"))

    async def come_and_go(listener: NngListener, times: int) -> None:
        transport = NngTransport()
        for _ in range(times):
            link = transport.dial(listener.address)
            with anyio.fail_after(10):
                await link.wait_sendable()
                link.send_nowait(b"hello")
                await listener.receive()
            link.close()
            # Most news of pipes is ignored, some is noted late: as it comes.
            listener._note_news()

    listener = NngTransport().listen(ANY_PORT)
    try:
        anyio.run(come_and_go, listener, 3)
        before = descriptors(), threads()
        anyio.run(come_and_go, listener, 200)

        def is_clean() -> bool:
            listener._note_news()
            return (
                descriptors() <= before[0]
                and threads() <= before[1]
                and not listener._alive
                and not listener._socket._socket._pipes
            )

        assert wait_until(is_clean), (before, descriptors(), threads(), listener._alive)
    finally:
        listener.close()


def test_a_descriptor_that_somebody_waits_for_is_announced_before_it_closes() -> None:
    async def scenario() -> None:
        with connection() as (listener, link):
            async with anyio.create_task_group() as group:
                for wait in (listener.receive, link.receive):
                    group.start_soon(ends_by_itself, wait)
                await anyio.wait_all_tasks_blocked()
                waited_for = list(listener._waiting)
                listener.close()
                link.close()
                # The number may be used again at once, and must not be polled.
                reused = [os.open("/dev/null", os.O_RDONLY) for _ in range(8)]
            assert waited_for
            for fd in reused:
                os.close(fd)

    async def ends_by_itself(wait: Callable[[], object]) -> None:
        with pytest.raises(fastworker._errors.LinkClosed):
            await wait()  # type: ignore[misc]

    for backend in ("trio", "asyncio"):
        anyio.run(scenario, backend=backend)


EXITS = """
import anyio
from fastworker._transport._nng import NngTransport

listener = NngTransport().listen("tcp://127.0.0.1:0")
link = NngTransport().dial(listener.address)

async def main():
    await link.wait_sendable()
    link.send_nowait(b"x")
    await listener.receive()

anyio.run(main, backend="{backend}")
"""


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_an_interpreter_exits_cleanly_with_open_sockets(backend: str) -> None:  # H18
    for _ in range(5):
        done = subprocess.run(
            [sys.executable, "-c", EXITS.format(backend=backend)],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


PACKAGE = Path(fastworker.__file__).parent


def imports_of(tree: ast.AST) -> set[str]:
    """The top-level names of what a module imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found


def modules() -> list[tuple[str, ast.AST]]:
    return [
        (path.relative_to(PACKAGE).as_posix(), ast.parse(path.read_text()))
        for path in sorted(PACKAGE.rglob("*.py"))
    ]


COLLECT_IN_A_FORK = """
import gc, os
from fastworker._transport._nng import NngTransport

gc.disable()
transport = NngTransport()
for state in ("open", "closed"):
    link = transport.dial("tcp://127.0.0.1:9")
    cycle = [link]
    cycle.append(cycle)
    if state == "closed":
        link.close()
    del link, cycle
child = os.fork()
if not child:
    gc.collect()
    os._exit(0)
_, status = os.waitpid(child, 0)
assert status == 0, status
gc.collect()
print("fine")
"""


def test_sockets_that_are_collected_in_a_fork_say_nothing_to_nng() -> None:  # H17
    ended = subprocess.run(
        [sys.executable, "-c", COLLECT_IN_A_FORK], capture_output=True, text=True, timeout=30
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "fine\n", "")


# The second one makes what a socket is told about TLS, and no socket.
OURS_OF_PYNNG = ["_transport/_nng_socket.py", "_transport/_nng_tls.py"]


def nodes_of_pynngs_users() -> list[tuple[str, ast.AST]]:
    return [
        (name, node)
        for name in OURS_OF_PYNNG
        for node in ast.walk(ast.parse((PACKAGE / name).read_text()))
    ]


def test_two_modules_import_pynng_and_make_sockets_in_one_place() -> None:
    importers = [name for name, tree in modules() if "pynng" in imports_of(tree)]
    assert sorted(importers) == OURS_OF_PYNNG
    made = [
        (name, node.attr)
        for name, node in nodes_of_pynngs_users()
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "pynng"
        and (node.attr == "Socket" or node.attr[-1] in "01")
    ]
    assert made == [("_transport/_nng_socket.py", "Socket")]


def test_nothing_of_the_library_that_loses_messages_is_used() -> None:  # H2 to H6, H10, H13
    # H12 in docs/faults.md.
    forbidden = {"asend", "arecv", "asend_msg", "arecv_msg", "new_context", "Context"}
    nodes = [node for _, node in nodes_of_pynngs_users()]
    assert not forbidden & {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    dials = [
        ast.unparse(node)
        for node in nodes
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "self._socket.dial"
    ]
    assert dials == ["self._socket.dial(address, block=False)"]
