"""The programs in docs/callbacks.md work as they stand there, but for the addresses."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from fastworker._core._callback_payload import CallbackPayload
from tests.nng.shell import Plane, open_shell
from tests.ports import free_address

pytestmark = [pytest.mark.nng, pytest.mark.slow]

PAGE = Path(__file__).parents[2] / "docs" / "callbacks.md"
TASKS = """
from fastworker import task

@task
def add(a: int, b: int) -> int:
    return a + b
"""


def program(name: str, address: str) -> str:
    found = re.search(rf"^```python\n# {name}\n(.*?)^```", PAGE.read_text(), re.S | re.M)
    assert found is not None
    assert '"tcp://127.0.0.1:9000"' in found[1]
    return found[1].replace("tcp://127.0.0.1:9000", address)


def test_the_listener_hears_of_the_task_that_was_submitted(tmp_path: Path) -> None:
    (tmp_path / "mytasks.py").write_text(TASKS)
    address = free_address()
    for name in ("listener.py", "submit.py"):
        (tmp_path / name).write_text(program(name, address))
    with open_shell(tmp_path) as shell:
        plane = Plane(shell, "--task-modules", "mytasks")
        environ = {**shell.environ, "FASTWORKER_DISCOVERY_ADDRESS": plane.discovery}
        python = [sys.executable, "-X", "dev", "-W", "error"]
        with subprocess.Popen(
            [*python, "listener.py"],
            cwd=tmp_path,
            env=environ,
            stdout=subprocess.PIPE,
            text=True,
        ) as listener:
            try:
                assert listener.stdout is not None
                assert listener.stdout.readline() == "listening\n"
                done = subprocess.run(
                    [*python, "submit.py"], cwd=tmp_path, env=environ,
                    capture_output=True, text=True, timeout=30, check=False,
                )  # fmt: skip
                assert (done.returncode, done.stderr) == (0, "")
                assert listener.stdout.readline() == f"{done.stdout.strip()} success 7\n"
            finally:
                listener.kill()


def test_the_page_names_every_key_of_the_message() -> None:
    text = PAGE.read_text()
    assert [key for key in CallbackPayload.__struct_fields__ if f"`{key}`" not in text] == []
