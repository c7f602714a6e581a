"""Whatever a test does: every machine in it checks itself after every event."""

from __future__ import annotations

import importlib.util
import os

# Set for the processes that tests start, too.
os.environ["FASTWORKER_VALIDATE"] = "1"
# Port 8080 is not ours; the tests of the dashboard choose one that is free.
os.environ["FASTWORKER_GUI_ENABLED"] = "0"

# Where nothing drives a browser, nothing there can even be imported.
collect_ignore = [] if importlib.util.find_spec("playwright") else ["browser"]
