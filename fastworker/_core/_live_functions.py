"""Which task functions the live workers know, a page at a time.

There may be any number of functions and workers, and an answer must not be
longer than a batch; so it is cut, and the next question begins where it ended.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

from fastworker._core._messages import (
    BATCH_BYTES,
    MAX_NAMED_WORKERS,
    FunctionsReply,
    LiveFunction,
)
from fastworker._core._subworkers import SubworkerRecord

# Each costs a look at every worker.
PAGE: Final = 1_000


def list_live_functions(
    known: Iterable[str], workers: Collection[SubworkerRecord], after: str
) -> FunctionsReply:
    """Answer FUNCTIONS.

    Args:
      known: the names of all functions that were ever announced; those that
        no live worker knows are left out.
      workers: the live ones, in the order in which they joined.
      after: only names that come after this one.
    """
    page: list[LiveFunction] = []
    size = 0
    for name in sorted(name for name in known if name > after):
        knowing = [worker for worker in workers if name in worker.functions]
        if not knowing:
            continue
        labels = [worker.label for worker in knowing[:MAX_NAMED_WORKERS]]
        live = LiveFunction(knowing[-1].functions[name], labels, len(knowing))
        size += live.size
        if page and (size > BATCH_BYTES or len(page) == PAGE):
            return FunctionsReply(page, more=True)
        page.append(live)
    return FunctionsReply(page)
