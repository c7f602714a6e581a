"""What happens to callbacks, and what has to be done about them."""

from __future__ import annotations

import msgspec

from fastworker._core._messages import Callback, TaskEvent
from fastworker._core._pipes import DeadlinePassed

# --- events -----------------------------------------------------------------


class CallbackDue(msgspec.Struct, frozen=True, gc=False):
    """A task has ended, durably, and somebody wants to be told."""

    callback: Callback
    event: TaskEvent


class DeliveryEnded(msgspec.Struct, frozen=True, gc=False):
    """The delivery that was under way to ``address`` is over.

    The first ``delivered`` of its payloads have arrived; ``error`` says why the
    next one has not, and is empty if all have.
    """

    address: str
    delivered: int
    error: str = ""


CallbackEvent = CallbackDue | DeliveryEnded | DeadlinePassed

# --- commands ---------------------------------------------------------------


class Deliver(msgspec.Struct, frozen=True, gc=False):
    """Send these to ``address`` in this order, connecting if need be; say DeliveryEnded."""

    address: str
    payloads: list[bytes]


class Disconnect(msgspec.Struct, frozen=True, gc=False):
    """Close the connection to ``address``, on which nothing is under way."""

    address: str


class Settled(msgspec.Struct, frozen=True, gc=False):
    """These tasks' callbacks have arrived, or nobody will hear of them any more."""

    task_ids: list[str]


CallbackCommand = Deliver | Disconnect | Settled
