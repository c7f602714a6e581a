"""Others run between the steps of a large message, at both ends of the way."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from fastworker import _control_plane
from fastworker._control_plane import ControlPlaneWorker
from fastworker._transport import _connection
from fastworker._transport._limits import PAUSE_BYTES
from tests.shell.world import open_world

pytestmark = pytest.mark.trio
LARGE = "x" * (PAUSE_BYTES + 1000)


async def run_one(text: str) -> None:
    """Have a task give back a text, while somebody else always has something to do."""

    async def take_turns() -> None:
        while True:
            await trio.lowlevel.checkpoint()

    async with (
        open_world() as world,
        world.client() as client,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(take_turns)
        result = await client.submit_task("note", (text,))
        nursery.cancel_scope.cancel()
    assert result.result == text


def note_steps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a control plane does with what arrives, and its pauses, from now on."""
    steps: list[str] = []
    take, gather, pause = (
        ControlPlaneWorker._take,
        ControlPlaneWorker._gather,
        _control_plane._let_others_go,
    )

    def noted_take(self: ControlPlaneWorker, *args: Any) -> int:
        size = take(self, *args)
        steps.append("took a large one" if size >= PAUSE_BYTES else "took")
        return size

    def noted_gather(self: ControlPlaneWorker) -> None:
        steps.append("gathers")
        gather(self)

    async def noted_pause() -> None:
        steps.append("pauses")
        await pause()
        steps.append("goes on")

    monkeypatch.setattr(ControlPlaneWorker, "_take", noted_take)
    monkeypatch.setattr(ControlPlaneWorker, "_gather", noted_gather)
    monkeypatch.setattr(_control_plane, "_let_others_go", noted_pause)
    return steps


async def test_a_control_plane_pauses_between_the_steps_of_a_large_message(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    steps = note_steps(monkeypatch)
    await run_one(LARGE)
    taken = [place for place, step in enumerate(steps) if step == "took a large one"]
    assert len(taken) == 2, "the arguments and the result"
    for place in taken:
        # Whatever others do in the pauses: it goes on behind them.
        assert steps[place + 1] == "pauses"
        first = steps.index("goes on", place)
        assert steps[first + 1 : first + 3] == ["gathers", "pauses"]
        second = steps.index("goes on", first + 1)
        assert steps[second + 1] == "gathers"


async def test_a_control_plane_does_not_pause_for_a_small_message(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    steps = note_steps(monkeypatch)
    await run_one("small")
    assert "took" in steps
    assert "pauses" not in steps


async def test_a_pause_lets_everybody_run_who_could() -> None:
    turns = 0

    async def take_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(take_turns)
        await trio.lowlevel.checkpoint()
        for _ in range(50):
            before = turns
            await _control_plane._let_others_go()
            assert turns > before
        nursery.cancel_scope.cancel()


async def test_a_peer_makes_a_large_message_and_hands_it_over_in_two_steps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = kept = 0
    join = _connection.join

    def noted_join(frames: list[bytes]) -> bytes:
        nonlocal made
        message = join(frames)
        made += len(message) >= PAUSE_BYTES
        return message

    class Noted(_connection.Connection):
        def flush(self) -> None:
            nonlocal kept
            before = made
            super().flush()
            kept += made > before and self._message is not None

    monkeypatch.setattr(_connection, "join", noted_join)
    for module in ("_client_session", "_subworker_session"):
        monkeypatch.setattr(f"fastworker.{module}.Connection", Noted)
    await run_one(LARGE)
    assert made == kept == 2, "the arguments and the result"
