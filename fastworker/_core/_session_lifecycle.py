"""How sessions begin and end, and what becomes of what hangs on them."""

from __future__ import annotations

from fastworker._core._answers import Answers
from fastworker._core._codec import encode
from fastworker._core._control_plane_events import ClosePipe, Port
from fastworker._core._control_plane_figures import ControlPlaneFigures
from fastworker._core._deliveries import Deliveries
from fastworker._core._feed import Feed
from fastworker._core._link_responder import SendTo
from fastworker._core._messages import Hello, Role
from fastworker._core._pipes import Route
from fastworker._core._reception import Reception, joined_by
from fastworker._core._scheduler import Scheduler
from fastworker._core._scheduler_events import OwnerGone, SubworkerLost
from fastworker._core._session_table import SessionTable
from fastworker._core._sessions import Session
from fastworker._core._turn import Turn


class SessionLifecycle:
    """See the module's first lines.

    Args:
      turn: where frames are put.
      sessions: those that live.
      reception: which says who may have one.
      scheduler: which is told of subworkers that come and go, and of clients that go.
      answers, deliveries, feed: which know what a session waits for.
      figures: where it is counted how sessions end.
    """

    def __init__(
        self,
        turn: Turn,
        sessions: SessionTable,
        *,
        reception: Reception,
        scheduler: Scheduler,
        answers: Answers,
        deliveries: Deliveries,
        feed: Feed,
        figures: ControlPlaneFigures,
    ) -> None:
        self._turn = turn
        self._sessions = sessions
        self._reception = reception
        self._scheduler = scheduler
        self._answers = answers
        self._deliveries = deliveries
        self._feed = feed
        self._figures = figures

    def begin(self, port: Port, route: Route, hello: Hello) -> None:
        """Open a session, or find the one that lives, and say so; or say why not."""
        goodbye = self._reception.turn_away(port, route.pipe, hello)
        if goodbye is not None:
            self._turn.commands.append(SendTo(route, encode(goodbye)))
            return
        now = self._turn.now
        session = self._sessions.by_key.get(hello.session)
        is_known = session is not None
        if session is None:
            session = self._sessions.open(hello, route.pipe, now=now)
            if session.role is Role.SUBWORKER:
                joined = joined_by(hello, port)
                self._deliveries.carry_out(self._scheduler.handle(joined, now=now))
        self._sessions.hear(session, route.pipe, now=now)
        welcome = self._reception.welcome(hello, route.pipe, is_known=is_known)
        self._turn.commands.append(SendTo(route, encode(welcome)))

    def end(self, session: Session, reason: str, *, is_clean: bool = False) -> None:
        """End a session. ``is_clean``: its peer has said goodbye."""
        now = self._turn.now
        self._answers.send_receipts(session)
        self._sessions.end(session, now=now)
        self._deliveries.end_session(session)
        self._feed.end_session(session.key)
        if session.role is Role.SUBWORKER:
            self._figures.lost_workers += not is_clean
            event: SubworkerLost | OwnerGone = SubworkerLost(session.key, reason, is_clean)
        else:
            event = OwnerGone(session.key)
        self._deliveries.carry_out(self._scheduler.handle(event, now=now))

    def close(self, session: Session, route: Route, reason: str) -> None:
        """End a session whose peer broke a rule, and tell it why."""
        self._figures.closed_sessions += 1
        self._turn.commands.append(SendTo(route, session.link.farewell(reason)))
        self.end(session, reason)

    def end_overfull(self) -> None:
        """End the sessions of those that fetch nothing, and are owed too much."""
        for session in list(self._deliveries.overfull.values()):
            self._figures.closed_sessions += 1
            self.end(session, f"{session.label} fetched none of its outcomes")

    def end_process(self, worker_id: str) -> None:
        """End the sessions of a subworker whose process has ended."""
        for session in self._sessions.subworkers():
            if session.label == worker_id:
                self.end(session, f"the process of {worker_id} ended")

    def end_due(self) -> None:
        """End the sessions whose time is over, and close pipes that nobody said HELLO by."""
        for key in self._sessions.pop_due(self._turn.now):
            if isinstance(key, int):
                self._turn.commands.append(ClosePipe(key))
            else:
                session = self._sessions.by_key[key]
                self.end(session, self._sessions.why_due(session))
