"""What ``--watch`` does while a control plane is away."""

from __future__ import annotations

import json

import pytest
import trio
from trio.testing import MockClock

from fastworker.cli._queues import lines_of, object_of
from fastworker.cli._watch import look_again_and_again
from tests.shell.world import BASE, open_world

pytestmark = pytest.mark.trio


@pytest.mark.parametrize("as_json", [True, False])
async def test_a_control_plane_that_is_away_is_said_once_and_waited_for(
    as_json: bool, autojump_clock: MockClock, capsys: pytest.CaptureFixture[str]
) -> None:
    async with (
        open_world() as world,
        world.client(timeout=3) as client,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(
            look_again_and_again,
            client._operations.overview,
            lines_of,
            object_of if as_json else None,
        )
        await trio.sleep(2.5)
        out, err = capsys.readouterr()
        assert err == ""
        if as_json:
            assert [json.loads(line)["workers"] for line in out.splitlines()] == [1, 1, 1]
        else:
            assert out.count("critical") == 3
            assert "\n\nQUEUE" in out, "one below the other"
        world.cut_off(BASE)
        await trio.sleep(20)
        out, err = capsys.readouterr()
        assert err.count("the control plane does not answer; waiting") == 1
        world.network.heal(BASE)
        await trio.sleep(5)
        out, err = capsys.readouterr()
        assert (bool(out), err) == (True, "")
        nursery.cancel_scope.cancel()
