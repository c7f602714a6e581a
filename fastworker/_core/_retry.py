"""When a task that failed runs again: a pure policy, its decisions values.

The delay before retry n is ``delay * backoff ** (n - 1)``, at most
``max_delay``, and of that a random part of up to ``jitter`` is taken away, so
that tasks that failed together do not come back together ("Exponential
Backoff And Jitter", M. Brooker, AWS Architecture Blog, 2015).
"""

from __future__ import annotations

import math
import random
from typing import Annotated

import msgspec
from msgspec import Meta

from fastworker._models import LONGEST_DELAY, MAX_RETRIES

Seconds = Annotated[float, Meta(ge=0, le=LONGEST_DELAY)]
Retries = Annotated[int, Meta(ge=0, le=MAX_RETRIES)]


class RetryPolicy(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """How often, and how long after. Times are in seconds, ``jitter`` is 0 to 1."""

    max_retries: Retries = 0
    delay: Seconds = 1.0
    backoff: Annotated[float, Meta(ge=1, le=1000)] = 2.0
    max_delay: Seconds = 60.0
    jitter: Annotated[float, Meta(ge=0, le=1)] = 0.1


class RetryOverride(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What one call wants otherwise than its function says; None leaves it."""

    max_retries: Retries | None = None
    delay: Seconds | None = None
    backoff: Annotated[float, Meta(ge=1, le=1000)] | None = None
    max_delay: Seconds | None = None
    jitter: Annotated[float, Meta(ge=0, le=1)] | None = None

    def applied_to(self, policy: RetryPolicy) -> RetryPolicy:
        """The policy with everything replaced that this names."""
        return RetryPolicy(
            policy.max_retries if self.max_retries is None else self.max_retries,
            policy.delay if self.delay is None else self.delay,
            policy.backoff if self.backoff is None else self.backoff,
            policy.max_delay if self.max_delay is None else self.max_delay,
            policy.jitter if self.jitter is None else self.jitter,
        )


class RetryDecision(msgspec.Struct, frozen=True, gc=False):
    """Run again after ``delay`` seconds; or, if that is None, do not.

    ``reason`` says why not, for a person; empty if the task was never to be retried.
    """

    delay: float | None
    reason: str = ""


def decide(
    policy: RetryPolicy,
    *,
    failures: int,
    is_retryable: bool,
    time_left: float,
    rng: random.Random,
) -> RetryDecision:
    """Say whether a task that has just failed runs again.

    Args:
      policy: the task's.
      failures: how many of its attempts have failed, this one included.
      is_retryable: whether the function's ``retry_on`` names this error.
      time_left: seconds until the task's deadline, ``inf`` if it has none.
      rng: draws the jitter.
    """
    if not policy.max_retries:
        return RetryDecision(None)
    if not is_retryable:
        return RetryDecision(None, "this error is not retried")
    if failures > policy.max_retries:
        return RetryDecision(None, f"failed {failures} times")
    delay = delay_without_jitter(policy, failures)
    delay -= delay * policy.jitter * rng.random()
    if delay >= time_left:
        return RetryDecision(None, "its deadline comes before the next retry")
    return RetryDecision(delay)


def delay_without_jitter(policy: RetryPolicy, failures: int) -> float:
    """Seconds before the retry that follows this many failures."""
    if not policy.delay:
        return 0.0
    try:
        delay = policy.delay * policy.backoff ** (failures - 1)
    except OverflowError:
        delay = math.inf
    return min(delay, policy.max_delay)
