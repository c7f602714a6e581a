"""Ask a running control plane's dashboard whatever its description permits, and what not.

Schemathesis makes the requests, and compares the answers with the description.
Arguments are passed on to it, such as ``--seed 7``.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

from tests.nng.shell import Plane, open_shell, wait_until
from tests.ports import free_port

TASKS = """
from fastworker import task

@task
def add(a: int, b: int) -> int:
    return a + b

@task
def fail(message: str) -> None:
    raise ValueError(message)
"""


def main() -> int:
    with tempfile.TemporaryDirectory() as folder, open_shell(Path(folder)) as shell:
        (shell.folder / "some_tasks.py").write_text(TASKS)
        shell.environ["FASTWORKER_GUI_ENABLED"] = "1"
        port = free_port()
        plane = Plane(shell, "--task-modules=some_tasks", f"--gui-port={port}")
        root = f"http://127.0.0.1:{port}"
        (token,) = [file.read_text().strip() for file in shell.folder.rglob("*.token")]
        wait_until(lambda: urllib.request.urlopen(f"{root}/readyz").status == 200, "is ready")
        for number in range(20):
            plane.submit("add", "--args", str(number), "1", "--json")
        plane.submit("fail", "--args", "no luck")
        command = [
            str(Path(sys.executable).with_name("schemathesis")),
            "run",
            f"{root}/api/openapi.json",
            *("-H", f"Authorization: Bearer {token}"),
            *("-H", "X-FastWorker: 1"),
            *("--checks", "all"),
            # It tries wrong tokens until it is told to wait, which it does not expect;
            # tests/dashboard/test_guard.py does it for every route.
            *("--exclude-checks", "ignored_auth"),
            "--max-examples=60",
            "--no-color",
            *sys.argv[1:],
        ]
        # Its folder of found examples is not the project's.
        done = subprocess.run(command, cwd=folder, env=os.environ, check=False)
        if "Traceback" in plane.command.stderr:
            print(plane.command.stderr, file=sys.stderr)
            return 1
        return done.returncode


if __name__ == "__main__":
    sys.exit(main())
