"""What has failed in background work: task groups put a group of errors around it."""

from __future__ import annotations


def unwrapped(errors: Exception) -> Exception:
    """The one error in a group that task groups have put around it, else the group."""
    while isinstance(errors, ExceptionGroup) and len(errors.exceptions) == 1:
        errors = errors.exceptions[0]
    return errors
