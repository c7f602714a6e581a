"""Ends a supervised process whose parent was killed, in two seconds at most.

The parent holds the other end of our stdin (``_child_process.py``), so its
death, by whatever signal, is EOF here. A thread watches, because it must work
when the loop does not, and while the interpreter waits for threads at its end.
"""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING, Final, NoReturn

if TYPE_CHECKING:
    import trio

# Time for async tasks to clean up. Nobody is left to be told anything.
GRACE: Final = 1.2
# What a shell would say of a process ended by SIGTERM.
EXIT_CODE: Final = 143


class ParentWatch:
    """Watches for the end of the parent from its creation on.

    Make it before anything is imported that takes time, as a parent can die
    that early too. Takes stdin for itself: user code that reads there finds
    it empty.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._token: trio.lowlevel.TrioToken | None = None
        self._scope: trio.CancelScope | None = None
        pipe = os.dup(0)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.close(null)
        threading.Thread(
            target=self._watch, args=(pipe,), name="fastworker-parent-watch", daemon=True
        ).start()

    def cancels(self, scope: trio.CancelScope) -> None:
        """Have this scope of the running loop cancelled before the process ends."""
        import trio

        with self._lock:
            self._token = trio.lowlevel.current_trio_token()
            self._scope = scope

    def _watch(self, pipe: int) -> NoReturn:
        try:
            while os.read(pipe, 4096):
                pass
        except OSError:
            pass  # no pipe any more is no parent any more
        with self._lock:
            if self._token is not None and self._scope is not None:
                self._cancel(self._token, self._scope)
                time.sleep(GRACE)
            os._exit(EXIT_CODE)

    @staticmethod
    def _cancel(token: trio.lowlevel.TrioToken, scope: trio.CancelScope) -> None:
        import trio

        try:
            token.run_sync_soon(scope.cancel)
        except trio.RunFinishedError:
            pass
