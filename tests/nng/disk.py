"""A disk that fails when a test wants it to, for processes of the test."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

FAULTS = ("full", "readonly", "nosync", "slow", "flip")


class Disk:
    """See the module's first lines, and ``disk.c``.

    Args:
      folder: for the shim and what controls it.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        source = Path(__file__).with_name("disk.c")
        shim = folder / "disk.so"
        command = ["cc", "-shared", "-fPIC", "-O1", "-o", str(shim), str(source), "-ldl"]
        subprocess.run(command, check=True)
        self._control = folder / "control"
        self.environment = {
            **os.environ,
            "LD_PRELOAD": str(shim),
            "FASTWORKER_TEST_FAULTS": str(self._control),
        }

    def fail(self, fault: str, part: str = "tasks.db") -> None:
        """From now on files whose path has this part meet that fault."""
        assert fault in FAULTS
        new = self._control.with_suffix(".new")
        new.write_text(f"{fault} {part}\n")
        new.rename(self._control)

    def work(self) -> None:
        """The fault has ended."""
        self._control.unlink(missing_ok=True)
