"""Whatever a test does: every machine in it checks itself after every event."""

from __future__ import annotations

import os

# Set for the processes that tests start, too.
os.environ["FASTWORKER_VALIDATE"] = "1"
