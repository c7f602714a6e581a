"""One line for each thing that somebody has done here, with who it was.

Logged by ``fastworker.audit``, as JSON: no name of a task can break out of its line.
"""

from __future__ import annotations

import json
import logging
from typing import Any, Final

from fastworker.dashboard._policy import Visitor

log = logging.getLogger("fastworker.audit")

# A thousand ids are no line any more; how many there were is said.
_SHOWN_IDS: Final = 20


def note(visitor: Visitor, action: str, outcome: str, **facts: Any) -> None:
    """Write the line.

    Args:
      action: such as "cancel".
      outcome: "done", or why not.
      **facts: to what it was done; a long list is cut.
    """
    line: dict[str, Any] = {
        "action": action,
        "outcome": outcome,
        "address": visitor.address,
        "signed_in_by": visitor.by,
    }
    for name, value in facts.items():
        if isinstance(value, list) and len(value) > _SHOWN_IDS:
            line[name] = value[:_SHOWN_IDS]
            line[f"{name}_count"] = len(value)
        else:
            line[name] = value
    log.info("%s", json.dumps(line))  # ASCII only
