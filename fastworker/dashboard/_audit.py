"""One line for each thing that somebody has done here, with who it was.

Logged by ``fastworker.audit``; see ``fastworker._audit``.
"""

from __future__ import annotations

import logging
from typing import Any

from fastworker._audit import write
from fastworker.dashboard._policy import Visitor

log = logging.getLogger("fastworker.audit")


def note(visitor: Visitor, action: str, outcome: str, **facts: Any) -> None:
    """Write the line.

    Args:
      action: such as "cancel".
      outcome: "done", or why not.
      **facts: to what it was done; a long list is cut.
    """
    who = {"address": visitor.address, "signed_in_by": visitor.by}
    write(log, action, outcome, who, facts)
