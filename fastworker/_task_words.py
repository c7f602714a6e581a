"""The words in which users speak of tasks; the command line imports it first, so it is bare."""

from __future__ import annotations

from typing import Final

# What waits for a retry, or is leased, is pending.
STATUSES: Final = {
    "pending": ("QUEUED", "LEASED", "RETRYING"),
    "started": ("STARTED",),
    "success": ("SUCCESS",),
    "failure": ("FAILURE",),
    "cancelled": ("CANCELLED",),
    "expired": ("EXPIRED",),
}
ENDED: Final = ("success", "failure", "cancelled", "expired")
PRIORITIES: Final = ("critical", "high", "normal", "low")
