"""Which process this is, without asking the system for each call.

A client looks before each call whether it is in a fork, and where system calls are
slow that took a fifth of its time.
"""

from __future__ import annotations

import os

_pid = os.getpid()


def current_pid() -> int:
    """The id of this process. A fork that Python was told of has its own."""
    return _pid


def _note_fork() -> None:
    global _pid
    _pid = os.getpid()


os.register_at_fork(after_in_child=_note_fork)
