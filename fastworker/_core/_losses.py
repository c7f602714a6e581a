"""What becomes of leases whose subworker is lost: again, at last alone, or never.

A task that may have run when its subworker died is a suspect, and runs alone from
then on. Whatever dies beside nobody often enough is poison, and fails.
"""

from __future__ import annotations

from typing import Final

from fastworker._core._messages import Ending
from fastworker._core._open_tasks import OpenTasks
from fastworker._core._scheduler_events import SchedulerCommand
from fastworker._core._stored import POISON
from fastworker._core._subworkers import SubworkerRecord
from fastworker._core._task_states import Step, TaskRecord, TaskState

# A task that was running alone when its worker died, this often, is poison.
MAX_SOLO_LOSSES: Final = 3
HAS_YIELDED: Final = "it is not run again, because it had given values"
ON_LOST_FAIL: Final = "it is not run again (on_lost='fail')"


class Losses:
    """Decides for the open tasks."""

    def __init__(self, open_tasks: OpenTasks) -> None:
        self._open = open_tasks

    def lose_all(
        self,
        worker: SubworkerRecord,
        reason: str,
        is_clean: bool,
        now: float,
        commands: list[SchedulerCommand],
    ) -> None:
        """A subworker is lost; if ``is_clean``, nothing of what it had runs any more."""
        alone = worker.solo
        presumed = [] if is_clean else worker.presumed_started()
        suspects = {record.spec.id for record in presumed}
        for lane in worker.lanes.values():
            for record in list(lane.leased.values()):
                fate = _fate(record, worker, reason)
                if record.state is TaskState.STARTED or record.spec.id in suspects:
                    record.last_ending, record.loss = Ending.LOST, reason
                if fate is None and record.spec.id in suspects:
                    if record is alone:
                        fate = _lose_solo(record, reason)
                    else:
                        record.uncounted += 1
                    record.is_solo = True
                elif fate is None:
                    record.uncounted += 1
                    record.is_wary = record.is_wary or not is_clean
                if fate is not None:
                    step, error = fate
                    self._open.end(record, step, now, commands, error=error, ending=Ending.LOST)
                worker.release(record)
                if fate is None:
                    self._open.requeue(record, Step.LOSE, commands)

    def lose_away(
        self,
        record: TaskRecord,
        was_running: bool,
        reason: str,
        now: float,
        commands: list[SchedulerCommand],
        *,
        is_suspect: bool = True,
    ) -> None:
        """A lease of before the restart has ended without a word of its attempt.

        Not ``is_suspect``: its worker ended because the control plane did, for which
        there are more likely reasons than the task. It is one if that happens again.
        """
        if was_running or record.is_careful:
            record.last_ending, record.loss = Ending.LOST, reason
        fate: tuple[Step, str] | None = None
        if record.is_cancel_requested:
            fate = Step.CANCEL, reason
        elif record.is_careful:
            fate = Step.FAIL, f"lost: {reason}; {ON_LOST_FAIL}"
        elif was_running and record.is_solo:
            fate = _lose_solo(record, reason)
        else:
            record.uncounted += 1
            if was_running and (is_suspect or record.is_wary):
                record.is_solo = True
            record.is_wary = True
        if fate is not None:
            step, error = fate
            self._open.end(record, step, now, commands, error=error, ending=Ending.LOST)
        else:
            self._open.requeue(record, Step.LOSE, commands)


def _fate(record: TaskRecord, worker: SubworkerRecord, reason: str) -> tuple[Step, str] | None:
    """How a task ends that must not run again although its worker is lost."""
    if record.is_cancel_requested:
        return Step.CANCEL, reason
    if worker.functions[record.spec.name].on_lost == "fail":
        return Step.FAIL, f"lost: {reason}; {ON_LOST_FAIL}"
    if record.has_yielded:
        return Step.FAIL, f"lost: {reason}; {HAS_YIELDED}"
    return None


def _lose_solo(record: TaskRecord, reason: str) -> tuple[Step, str] | None:
    """It ran alone: once more its worker died of it, unless by chance."""
    record.losses = (*record.losses, reason)
    if len(record.losses) < MAX_SOLO_LOSSES:
        return None
    reasons = "; ".join(record.losses)
    return Step.FAIL, f"{POISON}{len(record.losses)} times while it ran alone there ({reasons})"
