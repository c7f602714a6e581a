"""The known hazards of the network library, H1 to H24, and how each is kept away.

Those that a second can show are tried out on sockets of our own; of the others it
is said what FastWorker does instead. What the tests of FastWorker show of each is in
``docs/faults.md``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from fastworker._doctor._checks import MIB, numbers_of
from fastworker._doctor._facts import Library
from fastworker._doctor._row import Row, fail, ok, warn

_REPORT: Final = "do not use it; report it together with this table"
_MANY_THREADS: Final = 64


@dataclass(frozen=True)
class Hazard:
    """One of them. ``answer`` is what FastWorker does about it.

    ``problem`` says what is wrong here, empty if nothing is; None for what cannot be
    seen in a second.
    """

    number: int
    name: str
    answer: str
    problem: Callable[[Library], str] | None = None

    def row(self, library: Library) -> Row:
        """Judge it."""
        check = f"H{self.number} {self.name}"
        problem = "" if self.problem is None else self.problem(library)
        if problem:
            return fail(check, problem, _REPORT)
        tried = "" if self.problem is None else "; checked here"
        return ok(check, f"{self.answer}{tried}")


def check_hazards(library: Library) -> list[Row]:
    """A row for each hazard, in their order."""
    rows = [hazard.row(library) for hazard in HAZARDS]
    if library.tests.threads > _MANY_THREADS:
        advice = "it grows with the cores; allow for it where threads are limited"
        rows.append(warn("threads", f"{library.tests.threads} threads", advice))
    return rows


def _unlimited(library: Library) -> str:
    for socket in library.sockets:
        if not 0 < socket.max_frame <= 18 * MIB:
            return f"a {socket.protocol} socket takes frames of {socket.max_frame} bytes"
    return library.tests.hostile_length or ("" if library.sockets else "no socket was made")


def _leaking(library: Library) -> str:
    kept = library.tests.unsent_bytes_kept
    return "" if kept < 50 * MIB else f"{kept // MIB} MiB of 100 unsent are kept"


def _cooked(library: Library) -> str:
    cooked = [s.protocol for s in library.sockets if not s.is_raw and s.protocol != "pair"]
    return f"sockets of these protocols are not raw: {', '.join(cooked)}" if cooked else ""


def _foreign(library: Library) -> str:
    others = {s.protocol for s in library.sockets} - {"req", "rep", "pair"}
    return f"sockets of other protocols are used: {', '.join(sorted(others))}" if others else ""


def _without_keepalive(library: Library) -> str:
    mute = [s.protocol for s in library.sockets if not s.has_keepalive]
    return f"no keepalive: {', '.join(mute)}" if mute else ""


def _slow_to_return(library: Library) -> str:
    for socket in library.sockets:
        if not 0 < socket.reconnect_min_ms <= socket.reconnect_max_ms <= 5_000:
            return (
                f"a {socket.protocol} socket dials again after {socket.reconnect_min_ms} to "
                f"{socket.reconnect_max_ms} ms"
            )
    return ""


def _without_tls(library: Library) -> str:
    return "" if numbers_of(library.tls) >= (3, 6) else f"its TLS is {library.tls or 'missing'}"


def _without_names(library: Library) -> str:
    return "" if library.can_name_tls_peers else "the library does not tell who a TLS peer is"


def _race(library: Library) -> str:
    # Nothing of ours is ever cancelled inside NNG; older ones were never looked at.
    return "" if numbers_of(library.nng) >= (1, 11) else f"NNG is {library.nng}"


def _stale(library: Library) -> str:
    stale = library.tests.stale_pipes
    return f"{stale} pipes that are gone are kept" if stale else ""


HAZARDS: Final = (
    Hazard(1, "a length that kills", "every socket has a limit from the start", _unlimited),
    Hazard(2, "unsent messages leak", "sent without waiting, and freed if refused", _leaking),
    Hazard(
        3,
        "a cancelled receive loses",
        "received after the last checkpoint, never in the background",
        lambda library: library.tests.cancelled_receive,
    ),
    Hazard(4, "asyncio swallows cancels", "no call of the library waits; the loop polls"),
    Hazard(5, "one request at a time", "raw sockets, with ids of their own", _cooked),
    Hazard(6, "Push0 uses freed memory", "only Req, Rep and Pair are used", _foreign),
    Hazard(7, "sent is not delivered", "every request is answered, or repeated"),
    Hazard(8, "close drops what waits", "peers say goodbye and wait for the answer"),
    Hazard(
        9,
        "bad connects pause a listener",
        "three listeners; peers keep one connection",
        lambda library: library.tests.hostile_length,
    ),
    Hazard(10, "requests are sent twice", "raw sockets resend nothing", _cooked),
    Hazard(11, "too long closes the pipe", "the sender checks the size", _unlimited),
    Hazard(12, "a message in two hands", "messages are copied in and out at once"),
    Hazard(
        13,
        "a dial that blocks",
        "dialing goes on in the background",
        lambda library: library.tests.silent_peer,
    ),
    Hazard(14, "a wrong address says nothing", "HELLO is answered within connect_timeout"),
    Hazard(15, "callbacks on its threads", "they note and ring a bell, nothing else"),
    Hazard(16, "pipes that are gone stay", "they are swept", _stale),
    Hazard(17, "a fork hangs or aborts", "ForkedClient; task processes are started by exec"),
    Hazard(18, "panics at the exit", "all sockets close before the loop ends"),
    Hazard(19, "silent peers stay", "keepalive, HELLO in 5 s, heartbeats", _without_keepalive),
    Hazard(20, "TLS asks nobody", "both ends need a certificate and a name", _without_tls),
    Hazard(21, "who a peer is", "asked of the library when it connects", _without_names),
    Hazard(22, "a race of cancels", "nothing is cancelled in it (repaired in 1.12)", _race),
    Hazard(23, "Pair0 refuses in silence", "a callback counts if its connection lasts"),
    Hazard(24, "threads and pauses", "reconnects after 0.1 to 1 s", _slow_to_return),
)
