"""``python -m fastworker`` is the command ``fastworker``."""

from __future__ import annotations

import contextlib
import os
import signal
from typing import NoReturn


def run() -> None:
    """Run the command line, to which this process belongs.

    While a command works, it decides what Ctrl-C does (``cli/_signals.py``).
    Before that there is nothing to clean up, and the process ends at once,
    where Python would show a traceback, or lose the interruption; while the
    interpreter ends, there is nothing to interrupt.
    """
    # Not if whoever started us wants it to be ignored, as shells do for '&'.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)
    from fastworker.cli import main
    from fastworker.cli._errors import has_other_threads

    try:
        main(prog_name="fastworker")
    finally:
        # The exit code stands. With a thread that goes on, Ctrl-C is what ends
        # the wait for it.
        if not has_other_threads():
            signal.signal(signal.SIGINT, signal.SIG_IGN)


def _interrupt(*_: object) -> NoReturn:
    with contextlib.suppress(OSError):
        os.write(2, b"fastworker: interrupted\n")
    os._exit(130)


# Guarded, because multiprocessing imports this module again in its children.
if __name__ == "__main__":
    run()
