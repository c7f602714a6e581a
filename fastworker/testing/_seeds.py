"""Runs many seeds, and says of each failing one how to see it again, and with how little."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from fastworker._transport._memory import Faults
from fastworker.testing._plan import Plan
from fastworker.testing._run import Result

RunPlan = Callable[[Plan], Result]

# So many runs are spent on finding out which faults are needed.
MAX_TRIES = 80
MESSAGES = "messages"


@dataclass(frozen=True)
class Failure:
    """A failing run, and the least of its faults that make it fail the same way.

    Attributes:
      result: of the whole plan.
      least: of the plan with few faults.
      kept: the numbers of those faults in the whole plan; and "messages".
    """

    result: Result
    least: Result
    kept: tuple[str, ...]

    @property
    def seed(self) -> int:
        """The seed."""
        return self.result.plan.seed

    def __str__(self) -> str:
        lines = [f"seed {self.seed} fails:"]
        lines += [str(violation) for violation in self.least.violations[:5]]
        lines += ["with:", *(f"  {line}" for line in self.least.plan.lines())]
        return "\n".join(lines)


def find_failures(
    run: RunPlan, plans: Iterable[Plan], *, tries: int = MAX_TRIES
) -> Iterator[Failure | None]:
    """Run plans one after the other; of each give its failure, None if it is sound."""
    for number, plan in enumerate(plans):
        result = run(plan)
        yield None if result.is_sound else minimise(run, result, tries=tries)
        # Each run leaves cycles, and none may be collected in the midst of one.
        gc.collect(1 if number % 20 else 2)


def minimise(run: RunPlan, result: Result, *, tries: int = MAX_TRIES) -> Failure:
    """Leave faults out for as long as the same invariant is broken."""
    whole = result.plan
    wanted = {violation.invariant for violation in result.violations}
    kept = list(range(len(whole.faults)))
    with_messages = whole.messages != Faults()
    best = result

    def fails(indices: list[int], messages: bool) -> bool:
        nonlocal tries, best
        if tries <= 0:
            return False
        tries -= 1
        found = run(part_of(whole, indices, messages=messages))
        if not wanted & {violation.invariant for violation in found.violations}:
            return False
        best = found
        return True

    if with_messages and fails(kept, False):
        with_messages = False
    size = max(len(kept), 1)
    while size >= 1 and kept:
        start = 0
        while start < len(kept):
            rest = kept[:start] + kept[start + size :]
            if fails(rest, with_messages):
                kept = rest
            else:
                start += size
        size //= 2
    names = tuple(map(str, kept)) + ((MESSAGES,) if with_messages else ())
    return Failure(result, best, names)


def part_of(plan: Plan, indices: Iterable[int], *, messages: bool) -> Plan:
    """The same plan with only some of its faults, which keep their numbers' order."""
    return replace(
        plan,
        faults=tuple(plan.faults[index] for index in indices),
        messages=plan.messages if messages else Faults(),
    )
