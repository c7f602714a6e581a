"""Commands whose output nobody reads."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from typing import Final

# One for all: click keeps every stream that it has ever written to.
_SAID: Final = io.StringIO()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Take what is written to stdout and stderr, and forget it."""
    with contextlib.redirect_stdout(_SAID), contextlib.redirect_stderr(_SAID):
        try:
            yield
        finally:
            _SAID.seek(0)
            _SAID.truncate()
