"""What the network tells the machines: routes, frames, and pipes that come and go."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from fastworker._core._roles import EVERYTHING, Authority


class Route(NamedTuple):
    """Where a frame came from, and where the answer to it goes.

    ``pipe`` is unique among all pipes of this process; ``header`` is the
    transport's own and is echoed untouched.
    """

    pipe: int
    header: bytes


class PipeOpened(msgspec.Struct, frozen=True, gc=False):
    """A peer has connected.

    ``authority`` is what it has proved to be, everything where nothing has to be
    proved. ``remote`` is the host it has come from, empty if that is not known.
    """

    pipe: int
    authority: Authority = EVERYTHING
    remote: str = ""


class PipeClosed(msgspec.Struct, frozen=True, gc=False):
    """A pipe is gone; nothing more arrives on it."""

    pipe: int


PipeEvent = PipeOpened | PipeClosed


class DeadlinePassed(msgspec.Struct, frozen=True, gc=False):
    """The time that ``next_deadline()`` named has come."""


class Flush(msgspec.Struct, frozen=True, gc=False):
    """The network can take frames: make them from what has gathered."""
