"""What happens to a subworker, and what it wants done."""

from __future__ import annotations

import msgspec

from fastworker._core._attempts import AttemptKey, LaneEvent
from fastworker._core._held_attempts import Why
from fastworker._core._link_requester import (
    DropPipe,
    Redirected,
    SendFrame,
    SessionOpened,
    SessionRefused,
)
from fastworker._core._messages import Assignment
from fastworker._core._pipes import DeadlinePassed, Flush, PipeClosed, PipeOpened

# --- events -----------------------------------------------------------------


class FrameArrived(msgspec.Struct, frozen=True, gc=False):
    """Bytes came from the control plane."""

    data: bytes | memoryview


class LaneNews(msgspec.Struct, frozen=True, gc=False):
    """The lanes have started or ended attempts."""

    events: list[LaneEvent]


class AttemptsTakenBack(msgspec.Struct, frozen=True, gc=False):
    """These attempts were removed from their lane before they started."""

    keys: list[AttemptKey]


class DrainRequested(msgspec.Struct, frozen=True, gc=False):
    """Take no more work; what runs may end."""


class DrainCancelled(msgspec.Struct, frozen=True, gc=False):
    """Take work again after all."""


class Interrupted(msgspec.Struct, frozen=True, gc=False):
    """What runs has to stop within ``grace`` seconds, and goes back uncounted."""

    grace: float


class SubworkerStopped(msgspec.Struct, frozen=True, gc=False):
    """Say goodbye: nothing runs here any more, or nobody waits for it."""


SubworkerEvent = (
    FrameArrived
    | LaneNews
    | AttemptsTakenBack
    | DrainRequested
    | DrainCancelled
    | Interrupted
    | SubworkerStopped
    | PipeOpened
    | PipeClosed
    | Flush
    | DeadlinePassed
)

# --- commands ---------------------------------------------------------------


class StartAttempts(msgspec.Struct, frozen=True, gc=False):
    """Give these to the lane, in this order."""

    lane: str
    epoch: int
    assignments: list[Assignment]


class CancelAttempt(msgspec.Struct, frozen=True, gc=False):
    """Ask the lane to stop this attempt, within ``grace`` seconds if it can kill.

    ``why`` is None if the attempt counts for nothing any more: its lease is gone.
    """

    lane: str
    key: AttemptKey
    grace: float
    why: Why | None = None


class AttemptAbandoned(msgspec.Struct, frozen=True, gc=False):
    """This attempt has not stopped in its grace: nobody waits for it any more."""

    key: AttemptKey


class GiveCredit(msgspec.Struct, frozen=True, gc=False):
    """Tell the lane how many values of this attempt's stream have been read."""

    lane: str
    key: AttemptKey
    count: int


class TakeBack(msgspec.Struct, frozen=True, gc=False):
    """Take what has not started out of the lane, then say AttemptsTakenBack."""

    lane: str


class Drained(msgspec.Struct, frozen=True, gc=False):
    """Nothing runs here and every report has arrived."""


class DrainOrdered(msgspec.Struct, frozen=True, gc=False):
    """The control plane wants this subworker drained, which has begun."""


class WornOut(msgspec.Struct, frozen=True, gc=False):
    """All slots of this lane are taken by attempts that were given up and run on."""

    lane: str


class SaidGoodbye(msgspec.Struct, frozen=True, gc=False):
    """The control plane knows that this subworker has left."""


SubworkerCommand = (
    StartAttempts
    | CancelAttempt
    | AttemptAbandoned
    | GiveCredit
    | TakeBack
    | Drained
    | DrainOrdered
    | WornOut
    | SaidGoodbye
    | SendFrame
    | DropPipe
    | SessionOpened
    | Redirected
    | SessionRefused
)
