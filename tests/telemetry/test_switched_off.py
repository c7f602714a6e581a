"""Nobody pays for telemetry, nor has it installed, who has not switched it on."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from fastworker import _instruments, telemetry
from fastworker.cli._errors import Exit
from tests.ports import free_address

pytestmark = pytest.mark.slow

RUN_A_TASK = """
import sys, trio
from fastworker import local, task

@task
def add(x, y): return x + y

async def main():
    async with local() as client:
        assert (await client.submit_task("add", (1, 2))).result == 3

trio.run(main)
print(*sorted(sys.modules))
"""
WITHOUT = """
import sys
sys.modules[{name!r}] = None  # as if it were not installed
from fastworker.__main__ import run
sys.argv = ["fastworker", *{arguments!r}]
run()
"""


def run(program: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=60,
    )


def submit(missing: str, *options: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """The command, without a package; nobody listens where it would submit."""
    arguments = ["submit", "--task-name=x", f"--discovery-address={free_address()}"]
    program = WITHOUT.format(name=missing, arguments=[*arguments, *options])
    return run(program, **variables)


def test_nothing_of_it_is_imported() -> None:
    done = run(RUN_A_TASK)
    assert done.returncode == 0, done.stderr
    loaded = done.stdout.split()
    assert "fastworker._lanes._execution" in loaded
    assert not [name for name in loaded if name.startswith("opentelemetry")]
    assert "fastworker.telemetry" not in loaded


def test_without_the_package_the_command_says_what_to_install() -> None:
    done = submit("opentelemetry", "--otel")
    assert done.returncode == Exit.BAD_CONFIGURATION
    assert done.stderr.count("\n") == 1
    assert "pip install 'fastworker[otel]'" in done.stderr


def test_without_the_sdk_too() -> None:
    done = submit("opentelemetry.sdk", FASTWORKER_OTEL="1")
    assert done.returncode == Exit.BAD_CONFIGURATION
    assert done.stderr.count("\n") == 1
    assert "pip install opentelemetry-sdk" in done.stderr


def test_the_option_beats_the_variable() -> None:
    done = submit("opentelemetry", "--no-otel", "--timeout=1", FASTWORKER_OTEL="1")
    assert "no control plane answered" in done.stderr


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("OTEL_TRACES_EXPORTER", "pigeon", "OTEL_TRACES_EXPORTER=pigeon: no exporter"),
        ("OTEL_METRICS_EXPORTER", "prometheus", "pip install opentelemetry-exporter-prom"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "smoke", "OTEL_EXPORTER_OTLP_PROTOCOL='smoke': use"),
        (
            "OTEL_EXPORTER_OTLP_PROTOCOL",
            "grpc",
            "pip install opentelemetry-exporter-otlp",
        ),
    ],
)
def test_an_exporter_that_is_not_there_is_said_in_one_line(
    variable: str, value: str, said: str
) -> None:
    done = submit("nothing", "--otel", **{"OTEL_TRACES_EXPORTER": "", variable: value})
    assert done.returncode == Exit.BAD_CONFIGURATION
    assert done.stderr.count("\n") == 1
    assert said in done.stderr


def test_it_can_be_switched_off_again() -> None:
    telemetry.instrument()
    assert _instruments.current is not None
    telemetry.uninstrument()
    assert _instruments.current is None
