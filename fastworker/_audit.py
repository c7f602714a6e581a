"""One line for each thing that somebody has done, with who it was.

As JSON: no name of a task can break out of its line. What a dashboard does for its
visitors is logged there, by ``fastworker.audit``; what came by the wire, from whatever
client, is logged by ``fastworker.audit.control_plane``.
"""

from __future__ import annotations

import json
import logging
from typing import Any, Final

_log = logging.getLogger("fastworker.audit.control_plane")

# A thousand ids are no line any more; how many there were is said.
_SHOWN_IDS: Final = 20


def note_action(action: str, outcome: str, *, session: str, address: str, **facts: Any) -> None:
    """Write a line of what a client has asked for.

    Args:
      action: such as "cancel".
      outcome: "done", or why not.
      session: the label that the client has given itself.
      address: the host that it has connected from, empty if that is not known.
      **facts: to what it was done; a long list is cut.
    """
    write(_log, action, outcome, {"address": address, "session": session}, facts)


def write(
    log: logging.Logger, action: str, outcome: str, who: dict[str, Any], facts: dict[str, Any]
) -> None:
    """Write a line. Costs nothing if nobody wants it."""
    if not log.isEnabledFor(logging.INFO):
        return
    line: dict[str, Any] = {"action": action, "outcome": outcome, **who}
    for name, value in facts.items():
        if isinstance(value, list) and len(value) > _SHOWN_IDS:
            line[name] = value[:_SHOWN_IDS]
            line[f"{name}_count"] = len(value)
        else:
            line[name] = value
    log.info("%s", json.dumps(line))  # ASCII only
