"""Any exception as text that is safe to send, whatever the exception does.

Errors cross the network as data, never as pickles or imports. User code may
raise objects whose ``__str__`` raises or returns a gigabyte; what comes out
of here is bounded, one line where it says so, and encodable as UTF-8.
"""

from __future__ import annotations

import os
import traceback
from types import TracebackType
from typing import Final

MAX_ERROR_CHARACTERS: Final = 1_000
MAX_TRACEBACK_BYTES: Final = 64 * 1024

# Of a long traceback the beginning says where the task was, and the end what
# went wrong; the end gets the larger part.
_HEAD_BYTES: Final = 16 * 1024
_TAIL_BYTES: Final = MAX_TRACEBACK_BYTES - _HEAD_BYTES - 100

_OWN_DIRECTORY: Final = os.path.dirname(__file__) + os.sep


def one_line(text: str, limit: int = MAX_ERROR_CHARACTERS) -> str:
    """Give ``text`` as one line of at most ``limit`` characters."""
    # str.__getitem__, because a subclass of str is user code as well.
    plain = _encodable(str.__getitem__(text, slice(0, 4 * limit)))
    line = " ".join(part.strip() for part in plain.splitlines()).strip()
    if not line.isprintable():
        # Escape sequences would act on the terminal that shows the line.
        line = "".join(each if each.isprintable() else ascii(each)[1:-1] for each in line)
    return line if len(line) <= limit else line[: limit - 3] + "..."


def error_line(error: BaseException, hint: str = "") -> str:
    """Give ``"TypeName: message"``, and ``hint`` behind it, in one line."""
    name = type(error).__name__
    try:
        message = one_line(str(error))
    except BaseException as second:  # noqa: BLE001 - __str__ is user code
        message = f"<its __str__ raised {type(second).__name__}>"
    line = f"{name}: {message}" if message else name
    return one_line(line, MAX_ERROR_CHARACTERS - len(hint)) + hint


def traceback_text(error: BaseException) -> str:
    """Format ``error`` with its notes, causes and groups, without our own frames."""
    try:
        formatted = traceback.TracebackException(
            type(error), error, _skip_own_frames(error.__traceback__), compact=True
        )
        text = "".join(formatted.format())
    except BaseException as second:  # noqa: BLE001 - notes and __str__ are user code
        return f"<formatting the traceback raised {type(second).__name__}>"
    return _cut(text)


def is_raised_by_the_call(error: BaseException) -> bool:
    """Whether no frame but ours is in the traceback: the call itself failed."""
    return _skip_own_frames(error.__traceback__) is None


def _skip_own_frames(frames: TracebackType | None) -> TracebackType | None:
    while frames is not None:
        if not frames.tb_frame.f_code.co_filename.startswith(_OWN_DIRECTORY):
            return frames
        frames = frames.tb_next
    return None


def _cut(text: str) -> str:
    data = text.encode("utf-8", "backslashreplace")
    if len(data) > MAX_TRACEBACK_BYTES:
        left_out = len(data) - _HEAD_BYTES - _TAIL_BYTES
        head = data[:_HEAD_BYTES].decode("utf-8", "ignore")
        tail = data[-_TAIL_BYTES:].decode("utf-8", "ignore")
        return f"{head}\n[... {left_out:,} bytes left out ...]\n{tail}"
    return data.decode()


def _encodable(text: str) -> str:
    # Lone surrogates have no UTF-8, so they would break the frame they travel in.
    return str.encode(text, "utf-8", "backslashreplace").decode()
