"""Spans and metrics in memory, of one test each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fastworker import telemetry
from tests.telemetry.recorder import Recorder


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    recorder = Recorder()
    telemetry.instrument(tracer_provider=recorder.tracers, meter_provider=recorder.meters)
    try:
        yield recorder
    finally:
        telemetry.uninstrument()
        recorder.close()
