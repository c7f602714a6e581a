"""How often somebody has tried a wrong token.

A token cannot be guessed, so this is not what keeps guessers out. It keeps them
from filling the log, and shows that somebody tries. The right token is let in at
any time: else whoever sends wrong ones could lock its owner out.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from typing import Final

MAX_TRIES: Final = 10
SECONDS: Final = 60.0
# Addresses that are remembered; beyond it the one that has been quiet longest goes.
_MAX_ADDRESSES: Final = 1_000


class Tries:
    """Counts them by address."""

    def __init__(self) -> None:
        self._tries: OrderedDict[str, deque[float]] = OrderedDict()

    def note(self, address: str, now: float) -> int:
        """Count a wrong one.

        Returns:
          For how many seconds this address is told to wait; 0 if it may try again.
        """
        tries = self._tries.setdefault(address, deque(maxlen=MAX_TRIES))
        self._tries.move_to_end(address)
        if len(self._tries) > _MAX_ADDRESSES:
            self._tries.popitem(last=False)
        while tries and tries[0] <= now - SECONDS:
            tries.popleft()
        if len(tries) == MAX_TRIES:
            # It is not counted: else somebody who goes on would wait for ever.
            return max(1, math.ceil(tries[0] + SECONDS - now))
        tries.append(now)
        return 0
