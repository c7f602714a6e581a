"""All that reads what others have written, and how many cases go to each."""

from __future__ import annotations

from typing import Final

from tests.fuzz.campaign import Target
from tests.fuzz.command_line import CommandLine
from tests.fuzz.dashboard import REQUESTS
from tests.fuzz.machines import MACHINES
from tests.fuzz.messages import MESSAGES
from tests.fuzz.settings import Settings
from tests.fuzz.store_files import StoreFiles
from tests.fuzz.store_rows import StoreRows

_ALL: Final[list[Target]] = [
    *MESSAGES,
    *MACHINES,
    *(CommandLine(), Settings(), StoreRows(), StoreFiles()),
    *REQUESTS,
]
TARGETS: Final = {each.name: each for each in _ALL}
_WHOLE: Final = sum(each.share for each in TARGETS.values())


def share_of(target: Target, count: int) -> int:
    """How many of so many cases go to it; one at least."""
    return max(1, round(count * target.share / _WHOLE))
