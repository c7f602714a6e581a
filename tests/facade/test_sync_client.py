"""``SyncClient`` between threads, signals and forks, and at the end of a program."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pynng
import pytest

from fastworker import (
    ClientBroken,
    ClientClosed,
    ConfigurationError,
    ControlPlaneUnreachable,
    NotEncodable,
    SyncClient,
    TaskStatus,
    UnknownTask,
)
from fastworker._client import Client
from fastworker._client_thread import Call, ClientThread
from fastworker._core._client_events import TaskSubmitted
from fastworker._registry import Registry
from tests.facade.plane import Plane, count_threads, live_threads, running_plane
from tests.ports import free_address

pytestmark = pytest.mark.nng


@pytest.fixture(scope="module")
def plane() -> Iterator[Plane]:
    with running_plane() as plane:
        yield plane


def add(a: int, b: int) -> int:
    return a + b


@pytest.fixture
def registry() -> Registry:
    registry = Registry()
    registry.register(add)
    return registry


def until(condition: Callable[[], object], within: float = 10) -> None:
    end = time.monotonic() + within
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_every_call_of_a_client_works_without_await(plane: Plane) -> None:
    with SyncClient(plane.address) as client:
        assert repr(client) == f"<SyncClient of {plane.address}: open>"
        result = client.submit_task("add", (1, 2))
        assert (result.status, result.result) == (TaskStatus.SUCCESS, 3)
        task_id = client.delay("add", 3, b=4, priority="high")
        until(lambda: client.get_status(task_id) is TaskStatus.SUCCESS)
        got = client.get_result(task_id)
        asked = client.get_task_result(task_id)
        assert got is not None
        assert asked is not None
        assert (got.result, asked.result) == (7, 7)
        assert client.get_task_result("no such id") is None
        assert "add" in [function.name for function in client.list_task_functions()]
        assert client.statistics().waiting == 0


def test_it_calls_back_as_a_client_does(plane: Plane) -> None:
    address = free_address()
    with (
        pynng.Pair0(listen=address, recv_timeout=5000) as listener,
        SyncClient(plane.address) as client,
    ):
        task_id = client.delay_with_callback("add", address, 1, 2, callback_data={"x": 1})
        assert task_id.encode() in listener.recv()


def test_errors_are_those_of_the_client(plane: Plane) -> None:
    with SyncClient(plane.address) as client:
        with pytest.raises(NotEncodable):
            client.submit_task("add", (object(), 1))
        with pytest.raises(ValueError, match="urgent"):
            client.delay("add", 1, 2, priority="urgent")
    with pytest.raises(ConfigurationError, match="timeout"):
        SyncClient(timeout=-1)
    with pytest.raises(ConfigurationError, match="no task module 'mytaskz'"):
        SyncClient.local("mytaskz")


def test_settings_are_those_of_the_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTWORKER_TIMEOUT", "7")
    inner = SyncClient("tcp://127.0.0.1:9", "PICKLE", retries=1, connect_timeout=2)._client
    expected = Client("tcp://127.0.0.1:9", "PICKLE", 7, 1, connect_timeout=2)
    for name in ("serialization_format", "timeout", "retries", "connect_timeout"):
        assert getattr(inner, name) == getattr(expected, name)


def test_many_threads_use_one_client(plane: Plane) -> None:
    """Each gets its own answers, and nobody waits for anybody else."""
    wrong: list[object] = []

    def use(number: int) -> None:
        for step in range(20):
            result = client.submit_task("add", (number, step)).result
            if result != number + step:
                wrong.append(result)
            task_id = client.delay("add", number, step)
            asked = client.get_task_result(task_id)
            if asked is None or asked.task_id != task_id:
                wrong.append(asked)

    before = count_threads()
    with SyncClient(plane.address) as client:
        threads = [threading.Thread(target=use, args=(number,)) for number in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert wrong == []
    assert count_threads() == before


def test_many_threads_may_start_it_at_once(plane: Plane) -> None:
    client = SyncClient(plane.address)
    together = threading.Barrier(8)
    results: list[object] = []

    def use() -> None:
        together.wait()
        client.start()
        results.append(client.submit_task("add", (1, 2)).result)

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert results == [3] * 8
    names = [thread.name for thread in threading.enumerate()]
    assert names.count("fastworker-client") == 1
    client.close()


def test_it_may_be_started_and_stopped_twice_and_again(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = ClientThread.start

    def start_alone(thread: ClientThread) -> None:
        # The one before has said its goodbye: two would share one client.
        assert "fastworker-client" not in [each.name for each in threading.enumerate()]
        start(thread)

    monkeypatch.setattr(ClientThread, "start", start_alone)
    client = SyncClient(plane.address)
    client.stop()
    for _ in range(5):
        client.start()
        client.start()
        assert client.submit_task("add", (1, 2)).result == 3
        client.stop()
        client.stop()
    client.close()
    client.close()
    with client:
        assert client.submit_task("add", (1, 2)).result == 3


def test_use_before_start_and_after_close_says_so_and_results_stay(plane: Plane) -> None:
    client = SyncClient(plane.address)
    with pytest.raises(ClientClosed, match=r"client\.start\(\)"):
        client.delay("add", 1, 2)
    assert client.get_result("x") is None
    client.start()
    task_id = client.delay("add", 1, 2)
    until(lambda: client.get_result(task_id))
    client.close()
    with pytest.raises(ClientClosed):
        client.submit_task("add", (1, 2))
    with pytest.raises(ClientClosed):
        client.get_task_result(task_id)
    result = client.get_result(task_id)
    assert result is not None
    assert result.result == 3
    assert client.get_status(task_id) is TaskStatus.SUCCESS


def test_stopping_it_frees_every_thread_that_waits(plane: Plane) -> None:
    freed: list[str] = []

    def wait() -> None:
        with pytest.raises(ClientClosed) as caught:
            client.submit_task("wait")
        freed.append(str(caught.value))

    client = SyncClient(plane.address)
    client.start()
    with plane.closed_gate():
        threads = [threading.Thread(target=wait) for _ in range(5)]
        for thread in threads:
            thread.start()
        until(lambda: client.statistics().waiting == 5)
        client.stop()
        for thread in threads:
            thread.join(5)
    client.close()
    assert freed == ["the client was stopped"] * 5


def test_a_start_that_fails_leaves_nothing_behind() -> None:
    before = live_threads()
    client = SyncClient("tcp://127.0.0.1:9", connect_timeout=0.1)
    for _ in range(2):
        with pytest.raises(ControlPlaneUnreachable, match=r"tcp://127\.0\.0\.1:9"):
            client.start()
        # None is new; one of a test before this one may have ended.
        assert live_threads() <= before
        with pytest.raises(ClientClosed):
            client.delay("add", 1, 2)


def test_stopping_it_ends_a_start_that_still_looks_for_a_control_plane() -> None:
    client = SyncClient("tcp://127.0.0.1:9", connect_timeout=60)
    errors: list[Exception] = []

    def start() -> None:
        try:
            client.start()
        except ClientClosed as error:
            errors.append(error)

    thread = threading.Thread(target=start)
    thread.start()
    until(lambda: client._thread is not None and client._thread._token is not None)
    client.stop()
    thread.join(5)
    assert len(errors) == 1
    assert "fastworker-client" not in [thread.name for thread in threading.enumerate()]


def test_a_failure_in_the_background_reaches_every_caller(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    with SyncClient(plane.address) as client:
        state = client._client._state
        handle = state.handle

        def fail(event: object, *, now: float) -> object:
            if isinstance(event, TaskSubmitted):
                return handle(event, now=now)
            raise LookupError("a bug of ours")

        monkeypatch.setattr(client._client._session, "_handle", fail)
        for _ in range(2):
            with pytest.raises(ClientBroken, match="a bug of ours"):
                client.submit_task("add", (1, 2))


def test_the_local_one_runs_what_is_registered_and_leaves_nothing(registry: Registry) -> None:
    before = count_threads()
    client = SyncClient.local(registry=registry, concurrency=2, timeout=10)
    for _ in range(2):
        with client:
            assert repr(client) == "<local SyncClient: open>"
            assert client.submit_task(add, (1, 2)).result == 3
            with pytest.raises(UnknownTask, match="did you mean 'add'"):
                client.delay("ad", 1, 2)
        assert count_threads() == before


# --- whole programs -----------------------------------------------------------

HEAD = """
import os, signal, sys, threading, time
from fastworker import ClientClosed, ForkedClient, SyncClient, task

@task
def double(x):
    return 2 * x

def open_client():
    if sys.argv[1] == "local":
        return SyncClient.local(concurrency=2)
    return SyncClient(sys.argv[1])
"""

FORGOTTEN = """
client = open_client()
client.start()
for _ in range(3):
    client.delay("double" if sys.argv[1] == "local" else "add", 1)
print("done")
"""

# A daemon thread waits for an outcome when the interpreter goes.
WAITED_FOR = """
client = open_client()
client.start()
name = "double" if sys.argv[1] == "local" else "add"

def wait():
    while True:
        try:
            client.submit_task(name, (1, 2))
        except ClientClosed:
            return

threading.Thread(target=wait, daemon=True).start()
client.submit_task(name, (1,))
print("done")
"""

# os._exit, because NNG hangs at the normal exit of a forked process.
FORKED = """
client = open_client()
client.start()
handle = client.submit("add", 1, 2)
handle.result()
child = os.fork()
if not child:
    try:
        def enter(block):
            with block:
                pass

        for call in (client.delay, client.submit_task, client.get_task_result,
                     client.get_result, client.get_status, client.submit, client.cancel,
                     client.options(priority="low").submit, client.options().delay,
                     lambda name: enter(client.open_task_group()),
                     lambda name: enter(client.map(name, [1])),
                     lambda name: enter(client.stream(name)),
                     lambda name: handle.wait(), lambda name: handle.result(1),
                     lambda name: handle.cancel(), lambda name: handle.status(),
                     lambda name: handle.progress(), lambda name: handle.is_done,
                     lambda name: handle.outcome):
            try:
                call("add")
            except ForkedClient as error:
                assert str(os.getppid()) in str(error)
            else:
                os._exit(3)
        for call in (client.start, client.statistics):
            try:
                call()
            except ForkedClient:
                pass
            else:
                os._exit(4)
        client.stop()
        client.close()
        os._exit(0)
    except BaseException as error:
        print(repr(error), file=sys.stderr, flush=True)
        os._exit(5)
_, status = os.waitpid(child, 0)
assert status == 0, status
client.submit_task("add", (1, 2))  # what the child stopped was its own
client.close()
print("done")
"""

# As a server does that loads the program first and forks its workers then.
FORKED_BEFORE = """
client = open_client()
children = []
for _ in range(2):
    child = os.fork()
    if not child:
        try:
            with client:
                client.submit_task("add", (1, 2))
            os._exit(0)
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(5)
    children.append(child)
for child in children:
    _, status = os.waitpid(child, 0)
    assert status == 0, status
print("done")
"""


def run(script: str, argument: str) -> tuple[int, str, str]:
    ended = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", HEAD + script, argument],
        capture_output=True,
        text=True,
        timeout=30,
    )
    return ended.returncode, ended.stdout, ended.stderr


@pytest.mark.slow
@pytest.mark.parametrize("where", ["local", "remote"])
@pytest.mark.parametrize("script", [FORGOTTEN, WAITED_FOR], ids=["forgotten", "waited for"])
def test_a_program_ends_without_a_word_though_its_client_is_open(
    plane: Plane, script: str, where: str
) -> None:
    address = "local" if where == "local" else plane.address
    before = plane.clients
    assert run(script, address) == (0, "done\n", "")
    until(lambda: plane.clients <= before, within=2)  # it has even said goodbye


@pytest.mark.slow
@pytest.mark.parametrize("script", [FORKED, FORKED_BEFORE], ids=["after", "before"])
def test_a_fork_after_the_start_raises_and_one_before_it_works(
    plane: Plane, script: str
) -> None:
    assert run(script, plane.address) == (0, "done\n", "")


# Ctrl-C in the middle of a call; the end is abrupt, so that nothing but the
# call itself can have taken the task back.
INTERRUPTED = """
client = open_client()
client.start()
print("ready", flush=True)
try:
    {call}
except KeyboardInterrupt as error:
    print("interrupted", flush=True)
    os._exit(0)
"""


class OnTerminal:
    """A Python program whose terminal we hold."""

    def __init__(self, script: str, argument: str) -> None:
        self.master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-c", HEAD + script, argument],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        os.close(slave)
        self.output = ""

    def wait_for(self, text: str) -> None:
        while text not in self.output:
            self.output += os.read(self.master, 4096).decode()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.master)


@pytest.mark.slow
@pytest.mark.parametrize(
    "call",
    [
        "client.submit_task('add', (1, 2))",
        "client.submit_task(task_name='wait')",
        "client.submit('add', 1, 2).result()",
        "client.options(grace=3).submit('wait').result(timeout=20)",
        "with client.open_task_group() as group: group.submit('wait')",
        "with client.open_task_group() as group: group.submit('wait').wait()",
        "with client.open_task_group() as g: g.submit('wait'); next(g.as_completed())",
        "with client.map('wait', [1]) as values: next(values)",
    ],
)
def test_ctrl_c_takes_back_the_task_that_is_waited_for(plane: Plane, call: str) -> None:
    before = plane.tasks.cancelled
    with SyncClient(plane.address) as other, plane.closed_gate():
        blocker = other.delay("wait")
        until(lambda: other.get_status(blocker) is TaskStatus.STARTED)
        program = OnTerminal(INTERRUPTED.format(call=call), plane.address)
        try:
            program.wait_for("ready")
            until(lambda: sum(plane.tasks.ready) == 1)
            time.sleep(0.1)  # between two calls nobody could take it back
            interrupted_at = time.monotonic()
            os.kill(program.process.pid, signal.SIGINT)
            program.wait_for("interrupted")
            assert time.monotonic() - interrupted_at < 1
            assert plane.tasks.cancelled == before + 1
        finally:
            program.close()
    assert "Traceback" not in program.output


@pytest.mark.parametrize("call", ["submit", "delay"])
def test_a_task_that_nobody_has_heard_of_yet_is_taken_back(
    plane: Plane, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    wait = Call.wait

    def wait_and_be_interrupted(waited: Call[object], timeout: float | None = None) -> None:
        monkeypatch.setattr(Call, "wait", wait)
        wait(waited, timeout)
        raise KeyboardInterrupt

    with SyncClient(plane.address) as client, plane.closed_gate():
        blocker = client.delay("wait")
        until(lambda: client.get_status(blocker) is TaskStatus.STARTED)
        before = plane.tasks
        monkeypatch.setattr(Call, "wait", wait_and_be_interrupted)
        with pytest.raises(KeyboardInterrupt):
            getattr(client, call)("add", 1, 2)
        assert plane.tasks.submitted == before.submitted + 1
        assert plane.tasks.cancelled == before.cancelled + 1


@pytest.mark.slow
def test_ctrl_c_waits_a_second_at_most_for_a_task_that_does_not_stop(plane: Plane) -> None:
    with plane.closed_gate():
        call = "client.submit_task('wait')"
        program = OnTerminal(INTERRUPTED.format(call=call), plane.address)
        try:
            program.wait_for("ready")
            until(lambda: plane.tasks.started == 1)
            interrupted_at = time.monotonic()
            os.kill(program.process.pid, signal.SIGINT)
            program.wait_for("interrupted")
            assert 0.9 < time.monotonic() - interrupted_at < 2
        finally:
            program.close()
    until(lambda: plane.tasks.started == 0)


@pytest.mark.slow
def test_ctrl_c_ends_a_start_that_finds_nobody() -> None:
    script = INTERRUPTED.replace("client.start()\n", "").format(call="client.start()")
    program = OnTerminal(script, "tcp://127.0.0.1:9")
    try:
        program.wait_for("ready")
        time.sleep(0.2)
        interrupted_at = time.monotonic()
        os.kill(program.process.pid, signal.SIGINT)
        program.wait_for("interrupted")
        assert time.monotonic() - interrupted_at < 2
    finally:
        program.close()


@pytest.mark.slow
def test_without_a_handler_ctrl_c_ends_the_program_as_it_does_elsewhere(plane: Plane) -> None:
    script = "print('ready', flush=True)\nwith open_client() as c:\n    c.submit_task('wait')\n"
    with plane.closed_gate():
        program = OnTerminal(script, plane.address)
        try:
            program.wait_for("ready")
            until(lambda: plane.tasks.started == 1)
            os.kill(program.process.pid, signal.SIGINT)
            program.wait_for("KeyboardInterrupt")
            assert program.process.wait(10) == -signal.SIGINT
        finally:
            program.close()
    until(lambda: plane.tasks.started == 0)


def test_it_needs_no_module_of_the_control_plane_unless_it_is_local() -> None:
    code = (
        "import sys, fastworker; fastworker.SyncClient();"
        "assert not {'fastworker._control_plane', 'fastworker._local'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=20)
