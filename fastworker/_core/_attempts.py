"""One execution of one task, as the subworker and its lanes speak of it."""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

OUTCOME_SUCCESS: Final = 0
OUTCOME_FAILURE: Final = 1
OUTCOME_CANCELLED: Final = 2
OUTCOME_EXPIRED: Final = 3


class AttemptKey(NamedTuple):
    """Names one execution of one task: the fence, as the worker sees it."""

    task_id: str
    epoch: int
    attempt: int


class AttemptStarted(msgspec.Struct, frozen=True, gc=False):
    """User code is about to run. ``wall`` is seconds since 1970, UTC.

    ``span`` is the one that it runs in, empty if nobody traces.
    """

    key: AttemptKey
    wall: float
    span: str = ""


class AttemptEnded(msgspec.Struct, frozen=True, gc=False):
    """User code has ended; exactly one for each attempt that was started.

    ``kind`` is one of the OUTCOME_* numbers. ``payload`` holds the encoded
    result in ``format`` when it is OUTCOME_SUCCESS; else ``error`` is one line
    ("ValueError: bad") and ``traceback`` the text of the traceback. The walls
    are seconds since 1970, UTC; ``seconds`` is how long user code ran.
    ``signal`` is the number of the signal that ended its process, if one did;
    ``is_retryable`` whether the function's ``retry_on`` names the error.
    """

    key: AttemptKey
    kind: int
    started_wall: float
    wall: float
    seconds: float
    payload: bytes = b""
    format: int = 0
    error: str = ""
    traceback: str = ""
    signal: int = 0
    is_retryable: bool = True


class AttemptProgressed(msgspec.Struct, frozen=True, gc=False):
    """User code says how far it is: ``fraction`` from 0 to 1, and a text."""

    key: AttemptKey
    fraction: float
    message: str = ""


class AttemptPaused(msgspec.Struct, frozen=True, gc=False):
    """User code waits for a task of its own (``is_waiting``), or goes on.

    While it waits its lane runs one attempt more, so that tasks that wait for
    their children cannot take all the places that those need.
    """

    key: AttemptKey
    is_waiting: bool


class AttemptYielded(msgspec.Struct, frozen=True, gc=False):
    """A generator has yielded value number ``index``, from 0; here it is encoded.

    They come in order, after AttemptStarted and before AttemptEnded.
    """

    key: AttemptKey
    index: int
    payload: bytes
    format: int


LaneEvent = AttemptStarted | AttemptEnded | AttemptProgressed | AttemptPaused | AttemptYielded
