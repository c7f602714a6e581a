"""Seeds that once found something: what it was has a test of its own in ``tests/core``."""

from __future__ import annotations

import pytest

from fastworker.testing import draw_plan, run_plan
from tests.simulation.sim_tasks import make_registry


@pytest.mark.parametrize(
    "seed",
    [
        pytest.param(17490, id="a stream was sent again and its values were lost unsaid"),
        pytest.param(7618, id="tasks were submitted while all came to rest"),
        pytest.param(
            919, id="a task had called another that was not heard of when all was over"
        ),
        pytest.param(1570, id="a memory has forgotten a key that flaky tasks had"),
        pytest.param(7025, id="a memory has forgotten a key that long tasks had"),
        pytest.param(9682, id="a memory has forgotten a key of a task that runs once"),
        pytest.param(12959, id="a memory has forgotten a key after a silent crash"),
        pytest.param(15081, id="a memory has forgotten whose lease it was"),
        pytest.param(4139, id="two transactions were very slow by chance"),
        pytest.param(4973, id="a cancel was given up and the client closed"),
        pytest.param(13610, id="a client was closed that had waited"),
    ],
)
def test_what_once_failed_is_sound(seed: int) -> None:
    result = run_plan(draw_plan(seed), registry=make_registry())
    assert result.is_sound, str(result)
