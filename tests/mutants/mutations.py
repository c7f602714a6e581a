"""Mistakes that somebody could make in FastWorker: each a text, and what it becomes.

Every one breaks a promise; the simulation has to notice each within its seeds.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutation:
    """One mistake. ``before`` stands exactly ``count`` times in ``file``."""

    name: str
    file: str
    before: str
    after: str
    count: int = 1


DELIVERIES = "_core/_deliveries.py"
LOSSES = "_core/_losses.py"
REPORTS = "_core/_reports.py"
SUBMITTING = "_core/_submitting.py"
CLIENT_TASKS = "_core/_client_tasks.py"
SESSIONS = "_core/_sessions.py"

MUTATIONS = (
    Mutation(
        "acknowledged before it is committed",
        DELIVERIES,
        "            self._barrier.when_durable(\n"
        "                lambda: self._answer_asker(asker), asker, is_waited_for=asker.hurry\n"
        "            )\n",
        "            self._answer_asker(asker)\n",
    ),
    Mutation(
        "an outcome is told before it is committed",
        DELIVERIES,
        "        self._barrier.when_durable(lambda: self._tell(news))\n",
        "        self._tell(news)\n",
    ),
    Mutation(
        "whoever asks hears of an end before it is committed",
        "_core/_task_lookup.py",
        "if not self._changes.has(task_id):",
        "if True:",
    ),
    Mutation(
        "what a lost worker had is not queued again",
        LOSSES,
        "                worker.release(record)\n                if fate is None:\n",
        "                worker.release(record)\n                if False:\n",
    ),
    Mutation(
        "a late report is accepted",
        REPORTS,
        "            or record.worker.key != key\n"
        "            or record.fence != attempt\n"
        "            or record.fence_epoch != epoch\n",
        "",
    ),
    Mutation(
        "one task more than there is room for is leased",
        "_core/_subworkers.py",
        "        if len(self.leased) < self.capacity:\n",
        "        if len(self.leased) <= self.capacity:\n",
    ),
    Mutation(
        "the store's writer is not woken",
        "_store_writer.py",
        "            self._next = records\n            self._wake.set()\n",
        "            self._next = records\n",
    ),
    Mutation(
        "a paused worker goes on after its lease",
        "_core/_subworker.py",
        "        if self._fence_at() <= self._now:",
        "        if False:",
    ),
    Mutation(
        "a cancel ends a task that is running and may complete",
        REPORTS,
        "        if step is Step.CANCEL and not record.is_cancel_requested:\n",
        "        if step is Step.SUCCEED and record.is_cancel_requested:\n"
        "            step = Step.CANCEL\n"
        "        if step is Step.CANCEL and not record.is_cancel_requested:\n",
    ),
    Mutation(
        "a repeated request is taken for an old one",
        "_core/_link_responder.py",
        "if request.sequence < slot.sequence:",
        "if request.sequence <= slot.sequence:",
    ),
    Mutation(
        "the epoch of the store is not used",
        "_control_plane.py",
        "            epoch=opened.epoch,\n",
        "            epoch=1,\n",
        count=2,
    ),
    Mutation(
        "an outcome is dropped before its client has it",
        SESSIONS,
        "self._items = [entry for entry in self._items if entry[0] > cursor]",
        "self._items = [entry for entry in self._items if entry[0] > cursor + 1]",
    ),
    Mutation(
        "what was acknowledged is not watched in the next session",
        CLIENT_TASKS,
        "                if task.is_own:\n                    self.to_watch.append(task_id)\n",
        "",
    ),
    Mutation(
        "a transaction that failed is forgotten",
        "_core/_pending_changes.py",
        "        for record in self._updated:\n"
        "            self._records[record.spec.id] = record\n",
        "",
    ),
    Mutation(
        "what is submitted twice runs twice",
        SUBMITTING,
        "            known = open_tasks.by_id.get(spec.id)\n",
        "            known = None\n",
    ),
    Mutation(
        "the least urgent tasks go first",
        "_core/_waiting.py",
        "        for priority in PRIORITIES:",
        "        for priority in reversed(PRIORITIES):",
    ),
    Mutation(
        "the latest tasks of a priority go first",
        "_core/_waiting.py",
        "                    heads.append((head.sequence, name))",
        "                    heads.append((-head.sequence, name))",
    ),
    Mutation(
        "a retry does not wait",
        REPORTS,
        "        self._open.retry(record, now + decision.delay)\n",
        "        self._open.retry(record, now)\n",
    ),
    Mutation(
        "a subworker that is kept for a suspect lets nobody in",
        "_core/_waiting.py",
        "            if given.worker.is_kept:\n",
        "            if False:\n",
    ),
)

# What continuous integration tries; the rest takes minutes.
FEW = (
    "acknowledged before it is committed",
    "a cancel ends a task that is running and may complete",
    "what was acknowledged is not watched in the next session",
)
