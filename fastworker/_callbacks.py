"""The part of a control plane that tells callback addresses of tasks' ends.

It has a nursery, a machine (``_core/_callbacks.py``) and an alarm of its own,
and takes what to tell without ever waiting: whatever happens on the way to a
listener, tasks do not notice.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from typing import Final

import trio

from fastworker._callback_places import place_to_dial
from fastworker._core._callback_addresses import CallbackRules
from fastworker._core._callback_events import (
    CallbackDue,
    CallbackEvent,
    Deliver,
    DeliveryEnded,
    Disconnect,
    Settled,
)
from fastworker._core._callbacks import CallbackState, CallbackStatistics
from fastworker._core._messages import Callback, CallbacksAsked, CallbacksReply, TaskEvent
from fastworker._core._pipes import DeadlinePassed
from fastworker._errors import ConfigurationError, LinkError
from fastworker._transport._abc import Link, Transport
from fastworker._transport._callback_sender import CallbackSender, Delivery
from fastworker._validation import validated

log = logging.getLogger("fastworker.callbacks")

# When the control plane stops: what is being told gets this long.
FAREWELL_SECONDS: Final = 1.0


class Callbacks:
    """See the module's first lines. All methods belong to one Trio loop.

    Args:
      transport: makes the connections.
      rng: draws how long is waited after a failure.
      on_settled: takes the ids of tasks of whose ends nobody has to be told any more.
      rules: where it may connect to.
    """

    def __init__(
        self,
        transport: Transport,
        rng: random.Random,
        on_settled: Callable[[list[str]], None],
        rules: CallbackRules,
    ) -> None:
        self._rules = rules
        self._on_settled = on_settled
        self._transport = transport
        self._state = CallbackState(rng=rng)
        self._handle = validated(self._state)
        self._connections: dict[str, _Connection] = {}
        self._nursery: trio.Nursery | None = None
        self._alarm = trio.CancelScope()
        self._changed = trio.Event()

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Work until cancelled. Afterwards :meth:`tell` still takes, and sends nothing."""
        try:
            async with trio.open_nursery() as self._nursery:
                task_status.started()
                await self._watch_deadlines()
        finally:
            self._nursery = None

    def close(self, *, are_kept: bool = False) -> None:
        """Close all connections; what has not been told by now is lost, or kept by a store."""
        for connection in self._connections.values():
            connection.close()
        self._connections.clear()
        queued = self._state.statistics().queued
        if queued and are_kept:
            log.info("%d callbacks are still to be sent, after the next start", queued)
        elif queued:
            log.warning("%d callbacks are lost: they were still to be sent", queued)

    def tell(self, callback: Callback, event: TaskEvent) -> None:
        """Take what is to be told of a task that has ended. Never waits."""
        self._apply(CallbackDue(callback, event))

    async def wait_quiet(self) -> None:
        """Wait until nothing is on its way to a listener, for a bounded moment.

        What waits for another try does not count.
        """
        with trio.move_on_after(FAREWELL_SECONDS):
            while self._state.is_busy:
                await self._changed.wait()

    def statistics(self) -> CallbackStatistics:
        """Return a snapshot."""
        return self._state.statistics()

    def describe(self, asked: CallbacksAsked) -> CallbacksReply:
        """Describe the callbacks that have not arrived."""
        return self._state.describe(asked)

    async def _watch_deadlines(self) -> None:
        while True:
            with trio.CancelScope(deadline=self._state.next_deadline()) as self._alarm:
                await trio.sleep_forever()
            self._apply(DeadlinePassed())

    def _apply(self, event: CallbackEvent) -> None:
        for command in self._handle(event, now=trio.current_time()):
            match command:
                case Deliver(address=address, payloads=payloads):
                    if self._nursery is not None:
                        self._nursery.start_soon(
                            self._deliver, self._nursery, address, payloads
                        )
                case Settled(task_ids=task_ids):
                    self._on_settled(task_ids)
                case Disconnect(address=address):
                    connection = self._connections.pop(address, None)
                    if connection is not None:
                        connection.close()
        self._alarm.deadline = self._state.next_deadline()
        self._changed.set()
        self._changed = trio.Event()

    async def _deliver(
        self, nursery: trio.Nursery, address: str, payloads: list[bytes]
    ) -> None:
        try:
            connection = await self._connection(nursery, address)
            delivery = await connection.sender.deliver(payloads)
        except (LinkError, ConfigurationError, OSError) as error:
            # For example: no descriptors are left.
            delivery = Delivery(0, str(error))
        if delivery.error:
            log.info("callback to %s: %s", address, delivery.error)
        self._apply(DeliveryEnded(address, *delivery))

    async def _connection(self, nursery: trio.Nursery, address: str) -> _Connection:
        connection = self._connections.get(address)
        if connection is None:
            link = self._transport.dial_pair(await place_to_dial(address, self._rules))
            connection = self._connections[address] = _Connection(link)
            nursery.start_soon(connection.sender.run)
        return connection


class _Connection:
    def __init__(self, link: Link) -> None:
        self.sender = CallbackSender(link)
        self.close = link.close
