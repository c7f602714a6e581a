"""The offline checker: reads a history and says which invariants it breaks.

The invariants have the names of the list that the project is tested against:
S for what must never happen, L for what must happen in time.
"""

from __future__ import annotations

from fastworker.testing import _ends as ends
from fastworker.testing import _liveness as liveness
from fastworker.testing import _order as order
from fastworker.testing import _rest as rest
from fastworker.testing import _safety as safety
from fastworker.testing._history import Event
from fastworker.testing._rules import Check, Rules, Violation
from fastworker.testing._story import Story

CHECKS: tuple[Check, ...] = (
    safety.acked_tasks_are_kept,
    safety.outcomes_agree,
    safety.outcomes_are_right,
    safety.nothing_is_invented,
    safety.submits_are_idempotent,
    safety.leases_are_used_once,
    safety.nothing_runs_twice_at_once,
    safety.workers_fence_themselves,
    safety.old_fences_say_nothing,
    safety.executions_are_bounded,
    safety.nothing_is_told_before_it_is_kept,
    safety.ends_are_of_the_newest_lease,
    safety.completed_tasks_are_not_cancelled,
    order.work_is_given_in_order,
    order.retries_are_not_early,
    safety.children_end_with_their_parent,
    safety.machines_hold,
    safety.tasks_assert_nothing_wrong,
    liveness.awaits_resolve_once,
    liveness.work_goes_on,
    liveness.losses_are_noticed,
    liveness.peers_come_back,
    liveness.links_hold,
    liveness.drained_processes_end,
    ends.callbacks_are_right,
    ends.callbacks_arrive,
    ends.streams_are_whole,
    ends.streams_end_whole,
    rest.nothing_is_left,
    rest.only_a_full_queue_refuses,
)


def check(events: list[Event], rules: Rules) -> list[Violation]:
    """Return everything that is wrong with a history."""
    story = Story(events)
    return [violation for check in CHECKS for violation in check(story, rules)]
