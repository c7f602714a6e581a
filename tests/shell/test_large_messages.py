"""Others run between the steps of a large message, at both ends of the way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio

from fastworker._control_plane import ControlPlaneWorker
from fastworker._transport import _connection
from fastworker._transport._limits import PAUSE_BYTES
from tests.shell.world import open_world

pytestmark = pytest.mark.trio
LARGE = "x" * (PAUSE_BYTES + 1000)


class Log:
    """What happens while a task is under way, and each turn that somebody else has."""

    def __init__(self) -> None:
        self.steps: list[str] = []

    async def take_turns(self) -> None:
        while True:
            self.steps.append("turn")
            await trio.lowlevel.checkpoint()

    def noting(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*args: Any, **kwargs: Any) -> Any:
            self.steps.append(name)
            return call(*args, **kwargs)

        return noted

    def turns_after(self, name: str, before: str) -> list[int]:
        """How many turns there were from each step of this name to the next of the other."""
        counts: list[int] = []
        for start, step in enumerate(self.steps):
            if step == name:
                rest = self.steps[start + 1 :]
                counts.append(rest[: rest.index(before)].count("turn"))
        return counts


async def run_one(log: Log, text: str) -> None:
    async with (
        open_world() as world,
        world.client() as client,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(log.take_turns)
        result = await client.submit_task("note", (text,))
        nursery.cancel_scope.cancel()
    assert result.result == text


async def test_a_control_plane_pauses_between_taking_in_and_passing_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def noted_take(self: ControlPlaneWorker, *args: Any) -> int:
        size = take(self, *args)
        if size >= PAUSE_BYTES:
            log.steps.append("taken in")
        return size

    log, take = Log(), ControlPlaneWorker._take
    monkeypatch.setattr(ControlPlaneWorker, "_take", noted_take)
    for name in ("_gather", "_send"):
        monkeypatch.setattr(
            ControlPlaneWorker, name, log.noting(name, getattr(ControlPlaneWorker, name))
        )
    await run_one(log, LARGE)
    counts = log.turns_after("taken in", "_gather")
    assert len(counts) == 2, "the arguments and the result"
    assert min(counts) >= 1
    assert min(log.turns_after("taken in", "_send")) >= 2


async def test_a_peer_pauses_between_making_a_message_and_handing_it_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log = Log()
    join = _connection.join

    def noted_join(frames: list[bytes]) -> bytes:
        message = join(frames)
        if len(message) >= PAUSE_BYTES:
            log.steps.append("made")
        return message

    class Noted(_connection.Connection):
        def flush(self) -> None:
            if self._message is not None and len(self._message) >= PAUSE_BYTES:
                log.steps.append("handed over")
            super().flush()

    monkeypatch.setattr(_connection, "join", noted_join)
    for module in ("_client_session", "_subworker_session"):
        monkeypatch.setattr(f"fastworker.{module}.Connection", Noted)
    await run_one(log, LARGE)
    counts = log.turns_after("made", "handed over")
    assert len(counts) == 2, "the arguments and the result"
    assert min(counts) >= 1


async def test_nobody_pauses_for_a_small_message(monkeypatch: pytest.MonkeyPatch) -> None:
    log = Log()
    for name in ("_take", "_send"):
        monkeypatch.setattr(
            ControlPlaneWorker, name, log.noting(name, getattr(ControlPlaneWorker, name))
        )
    await run_one(log, "small")
    assert set(log.turns_after("_take", "_send")) == {0}
