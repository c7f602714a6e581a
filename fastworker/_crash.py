"""``FASTWORKER_CRASH=point:n``: this process kills itself where a test wants it.

The shells name the points at which losing the process is most awkward. The
n-th time that the named one is passed, the process ends as by ``kill -9``:
nothing is flushed, closed or said. Without the variable a point is an empty call.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from typing import Final

_name, _, _number = os.environ.get("FASTWORKER_CRASH", "").partition(":")

# Whether the variable is set; guards what a point's name would cost to make.
IS_ARMED: Final = _name != ""
# NNG's threads send what they were handed; "after" has to mean after that.
_SENT_SECONDS: Final = 0.02

_lock: Final = threading.Lock()
_left = int(_number or 1)


def _pass_by(name: str) -> None:
    """The variable is not set."""


def _count(name: str) -> None:
    global _left
    if name != _name:
        return
    with _lock:
        _left -= 1
        if _left:
            return
        sys.stderr.write(f"FASTWORKER_CRASH: killed at {name}\n")
        if name.startswith("after-"):
            time.sleep(_SENT_SECONDS)
        os.kill(os.getpid(), signal.SIGKILL)


crash_point: Final = _count if IS_ARMED else _pass_by
