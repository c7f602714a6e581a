"""``python -m fastworker.testing``: the same as ``fastworker simulate``."""

from __future__ import annotations

from fastworker.cli._simulate import simulate

if __name__ == "__main__":
    simulate(prog_name="python -m fastworker.testing")
