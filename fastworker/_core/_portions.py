"""How much goes into one request when there is a lot to say.

If all went into one, a client, the control plane and a subworker would work one after
the other: whoever takes a request in passes nothing on before it is through with it.
Many small ones would cost more than they bring, since a message costs as much as a
hundred tasks in it. So it is spread over the requests that may be under way.
"""

from __future__ import annotations

from typing import Final

from fastworker._core._messages import MAX_BATCH_ITEMS

# Fewer are not worth a request of their own.
PORTION_ITEMS: Final = 128


def portion_of(waiting: int, free: int) -> int:
    """How many of so many waiting items go into each of the requests that may be sent.

    Args:
      waiting: items that could go now.
      free: requests that could be sent before one of them is answered.
    """
    each = -(-waiting // max(free, 1))
    return min(max(each, PORTION_ITEMS), MAX_BATCH_ITEMS)
