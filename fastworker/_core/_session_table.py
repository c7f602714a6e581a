"""The sessions that live, and the pipes by which they are reached.

Any frame renews a session and says which pipe it is reached by. A session that is
silent ends; so does a subworker's whose pipe has closed, unless it comes back at once.
"""

from __future__ import annotations

from typing import Final

from fastworker._core._deadlines import Deadlines
from fastworker._core._messages import LEASE_SECONDS, Hello, Role
from fastworker._core._roles import EVERYTHING, NOTHING, Authority
from fastworker._core._sessions import Session

# A closed pipe is not a death: a dialer is back within 0.1 s (measured).
RECONNECT_GRACE: Final = 0.75
HELLO_SECONDS: Final = 5.0
MAX_SESSIONS: Final = 10_000
# Nobody needs a second one; without a bound one connection could take all.
MAX_SESSIONS_OF_A_PIPE: Final = 8


class SessionTable:
    """See the module's first lines. ``by_key`` is for reading.

    Args:
      epoch: the control plane's.
      authenticates: whether peers have to prove who they are. Then a pipe of which
        there was no news may do nothing, else everything.
    """

    def __init__(self, epoch: int, *, authenticates: bool) -> None:
        self.by_key: dict[bytes, Session] = {}
        self._epoch = epoch
        self._usual_authority = NOTHING if authenticates else EVERYTHING
        self._authority: dict[int, Authority] = {}  # by pipe, where it is not the usual
        self._remotes: dict[int, str] = {}  # by pipe, where its peer has come from
        self._by_pipe: dict[int, bytes] = {}
        self._opened_by_pipe: dict[int, int] = {}  # how many that live
        self._deadlines: Deadlines[bytes | int] = Deadlines()  # by session or pipe

    # --- reading ---

    def subworkers(self) -> list[Session]:
        """Those of subworkers."""
        return [s for s in self.by_key.values() if s.role is Role.SUBWORKER]

    def authority_of(self, pipe: int) -> Authority:
        """What the peer behind this pipe has proved to be."""
        return self._authority.get(pipe, self._usual_authority)

    def why_full(self, pipe: int) -> str:
        """Why no further session can be opened by this pipe; empty if one can."""
        if len(self.by_key) >= MAX_SESSIONS:
            return (
                f"{MAX_SESSIONS} sessions are open, which is the limit; stop clients "
                f"that are not needed, and try again"
            )
        if self._opened_by_pipe.get(pipe, 0) >= MAX_SESSIONS_OF_A_PIPE:
            return f"{MAX_SESSIONS_OF_A_PIPE} sessions were opened by this connection"
        return ""

    def next_deadline(self) -> float:
        """When ``pop_due`` is wanted, ``inf`` for never."""
        return self._deadlines.next()

    def check(self) -> None:
        """Assert every invariant."""
        for key, session in self.by_key.items():
            session.check()
            assert session.key == key
            assert session.pipe is None or self._by_pipe.get(session.pipe) == key
        for pipe, key in self._by_pipe.items():
            assert self.by_key[key].pipe == pipe
        assert sum(self._opened_by_pipe.values()) == len(self.by_key)
        assert all(0 < n <= MAX_SESSIONS_OF_A_PIPE for n in self._opened_by_pipe.values())

    # --- pipes ---

    def open_pipe(self, pipe: int, authority: Authority, remote: str, *, now: float) -> None:
        """Note the news of a pipe: what its peer has proved, and where it has come from."""
        if authority != self._usual_authority:
            self._authority[pipe] = authority
        self._note_remote(pipe, remote)
        # Its first frames may have come before the news of it.
        if pipe not in self._by_pipe:
            self._deadlines.set(pipe, now + HELLO_SECONDS)

    def _note_remote(self, pipe: int, remote: str) -> None:
        if not remote:
            return
        self._remotes[pipe] = remote
        key = self._by_pipe.get(pipe)
        if key is not None:
            self.by_key[key].remote = remote

    def close_pipe(self, pipe: int, *, now: float) -> None:
        """Forget a pipe that is gone."""
        self._authority.pop(pipe, None)
        self._remotes.pop(pipe, None)
        self._deadlines.clear(pipe)
        key = self._by_pipe.get(pipe)
        if key is not None:
            self._lose_pipe(self.by_key[key], now)

    def _lose_pipe(self, session: Session, now: float) -> None:
        assert session.pipe is not None
        del self._by_pipe[session.pipe]
        session.pipe = None
        if session.role is Role.SUBWORKER:
            self._deadlines.set(session.key, now + RECONNECT_GRACE)

    # --- sessions ---

    def open(self, hello: Hello, pipe: int, *, now: float) -> Session:
        """Open the session that this HELLO asks for."""
        session = Session(
            hello.session, hello.role, hello.worker_id, hello.address, self._epoch, now
        )
        session.opened_on = pipe
        self._opened_by_pipe[pipe] = self._opened_by_pipe.get(pipe, 0) + 1
        self.by_key[session.key] = session
        return session

    def hear(self, session: Session, pipe: int, *, now: float) -> None:
        """Any frame renews a session and says by which pipe it is reached."""
        session.seen_at = now
        self._deadlines.set(session.key, now + LEASE_SECONDS)
        if session.pipe == pipe:
            return
        other = self._by_pipe.get(pipe)
        if other is not None:
            self._lose_pipe(self.by_key[other], now)
        if session.pipe is not None:
            del self._by_pipe[session.pipe]
        session.pipe = pipe
        # The news of the pipe may come later; until then, the peer is where it was.
        session.remote = self._remotes.get(pipe, session.remote)
        self._by_pipe[pipe] = session.key
        self._deadlines.clear(pipe)

    def pop_due(self, now: float) -> list[bytes | int]:
        """Return whose time is over: sessions, and pipes that nobody said HELLO by."""
        return self._deadlines.pop_due(now)

    def why_due(self, session: Session) -> str:
        """Why the time of this session is over."""
        if session.pipe is None:
            return f"{session.label} lost its connection and did not come back"
        return f"{session.label} was silent for {LEASE_SECONDS:g} s"

    def end(self, session: Session, *, now: float) -> None:
        """Forget a session."""
        del self.by_key[session.key]
        self._opened_by_pipe[session.opened_on] -= 1
        if not self._opened_by_pipe[session.opened_on]:
            del self._opened_by_pipe[session.opened_on]
        self._deadlines.clear(session.key)
        if session.pipe is not None:
            del self._by_pipe[session.pipe]
            # It may say HELLO again on this pipe, or be a stranger from now on.
            self._deadlines.set(session.pipe, now + HELLO_SECONDS)
