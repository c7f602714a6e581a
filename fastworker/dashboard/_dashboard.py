"""The dashboard as an object: an ASGI app, and a server for it."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import TypeVar

import anyio
import trio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from fastworker._client import Client
from fastworker._client_host import current_clock
from fastworker._config import DashboardConfig
from fastworker._core._overview import Overview
from fastworker._core._roles import PeerRole
from fastworker._credentials import Auth, resolve_auth
from fastworker._errors import FastWorkerError
from fastworker._stores import state_folder
from fastworker._tls import Tls
from fastworker._transport._abc import Transport
from fastworker.dashboard._guard import Guard, refusal_of, refusal_response
from fastworker.dashboard._hub import Hub
from fastworker.dashboard._link import Link
from fastworker.dashboard._live import serve_live
from fastworker.dashboard._policy import Policy, Refusal
from fastworker.dashboard._routes import openness, operations_of, routes_of
from fastworker.dashboard._static import Files
from fastworker.dashboard._supervised import serve_for_ever
from fastworker.dashboard._token import Token, read_or_make_token

T = TypeVar("T")

# A page is looked at by somebody: what takes longer is told to be lost.
ANSWER_SECONDS = 10.0
CONNECT_SECONDS = 3.0
READY_SECONDS = 2.0
# So long an answer about readiness is good for the next who asks: anybody may.
READY_AGE_SECONDS = 1.0


class Dashboard:
    """A page, a REST API and a live feed for operators, as an ASGI app.

    ``dashboard.app`` can be mounted below any path of another ASGI app, under Trio or
    asyncio; call ``await dashboard.aclose()`` when that ends. The connection to the
    control plane is made when it is first needed, and made anew if it is lost.

    Whoever comes needs the token, once: as ``Authorization: Bearer …``, or by opening
    the page's address with ``#token=…`` behind it.

    Args:
      discovery_address: where the control plane is found, by default
        ``tcp://127.0.0.1:5550`` (``FASTWORKER_DISCOVERY_ADDRESS``).
      host, port: where :meth:`run` listens, by default ``127.0.0.1`` and 8080
        (``FASTWORKER_GUI_HOST``, ``FASTWORKER_GUI_PORT``); 0 is any free port.
      token: the secret, 32 characters at least.
      token_file: where it is kept, if it is not given; made if need be, for its owner
        alone. By default ``dashboard.token`` in ``$XDG_STATE_HOME/fastworker``.
      allowed_hosts: names under which browsers reach it, beside localhost
        (``FASTWORKER_GUI_ALLOWED_HOSTS``).
      insecure: whether :meth:`run` may listen where other machines can connect
        (``FASTWORKER_INSECURE``).
      auth: the token that it proves to the control plane, as for :class:`Client`; it
        has to be the one of the role operator.
      tls: files for a ``tls+tcp://`` address, as for :class:`Client`; the certificate
        is one of the role operator.
      transport: makes the connection; NNG sockets if not given.

    Raises:
      ConfigurationError: a value or the token's file cannot be used.

    Attributes:
      app: the ASGI app.
    """

    def __init__(
        self,
        discovery_address: str | None = None,
        *,
        host: str | None = None,
        port: int | None = None,
        token: str | None = None,
        token_file: str | os.PathLike[str] | None = None,
        allowed_hosts: Iterable[str] | None = None,
        insecure: bool | None = None,
        auth: Auth = None,
        tls: Tls = None,
        transport: Transport | None = None,
    ) -> None:
        self._config = DashboardConfig.resolve(
            os.environ,
            gui_host=host,
            gui_port=port,
            gui_allowed_hosts=None if allowed_hosts is None else tuple(allowed_hosts),
            insecure=insecure,
        )
        tokens = resolve_auth(auth, os.environ)
        if tokens is not None:
            tokens.role_to_dial_as(PeerRole.OPERATOR)
        if token is not None:
            self.token = Token(token)
        else:
            default = state_folder(os.environ) / "dashboard.token"
            self.token = read_or_make_token(Path(token_file or default))

        def make_client() -> Client:
            return Client(
                discovery_address,
                timeout=ANSWER_SECONDS,
                connect_timeout=CONNECT_SECONDS,
                auth=tokens or False,
                tls=tls,
                transport=transport,
            )

        self._link = Link(make_client)
        self.discovery_address = make_client().discovery_address
        self.hub = Hub(self.client)
        self._readiness: tuple[float, str] | None = None
        files = Files()
        self._sign_in_file = files["sign-in.html"]
        self.operations = operations_of(files)
        hosts = self._config.gui_allowed_hosts
        if self._config.gui_host not in ("0.0.0.0", "[::]"):  # noqa: S104 - not bound here
            hosts = (*hosts, self._config.gui_host)
        self.policy = Policy(self.token, hosts, openness(self.operations))
        routes = routes_of(self.operations, self)
        routes.append(WebSocketRoute("/api/live", self._serve_live))
        self.starlette = Starlette(
            routes=routes,
            exception_handlers={
                Refusal: _answer_refusal,
                FastWorkerError: _answer_error,
                HTTPException: _answer_http,
                Exception: _answer_bug,
            },
        )
        # A place has one address. Starlette would make the other one of whatever was sent.
        self.starlette.router.redirect_slashes = False
        self.app: ASGIApp = Guard(self.starlette, self.policy, self.now, self._sign_in)

    def __repr__(self) -> str:
        return f"<Dashboard of {self.discovery_address}>"

    def now(self) -> float:
        """The time of the event loop."""
        return current_clock()()

    async def client(self) -> Client:
        """The client by which the control plane is asked, started.

        Raises:
          ControlPlaneUnreachable: there is no control plane.
        """
        return await self._link.client()

    async def ask(self, question: Callable[[Client], Awaitable[T]]) -> T:
        """Ask the control plane something.

        Raises:
          ControlPlaneUnreachable: it does not answer.
        """
        return await self._link.ask(question)

    async def readiness(self) -> str:
        """ "ok", or in a word why no task can be submitted."""
        now = self.now()
        if self._readiness is not None and now - self._readiness[0] < READY_AGE_SECONDS:
            return self._readiness[1]
        status = "unreachable"
        with anyio.move_on_after(READY_SECONDS):
            try:
                status = _readiness_of(
                    await self.ask(lambda client: client._operations.overview())
                )
            except FastWorkerError:
                pass
        self._readiness = self.now(), status
        return status

    def stop(self) -> None:
        """End what goes on in the background, at once; :meth:`aclose` waits for it."""
        self.hub.close()
        self._link.stop()

    async def aclose(self) -> None:
        """End the live feed, and the connection to the control plane.

        Cancellation:
          They end all the same, a moment later.
        """
        try:
            await self.hub.aclose()
        finally:
            await self._link.aclose()

    async def run(
        self, *, task_status: trio.TaskStatus[str | None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Serve it at ``host`` and ``port`` until cancelled; Trio only.

        A failure is logged, and then it is tried again; so is a port that is taken.
        Under ``nursery.start`` the result is the address, or None if it does not listen
        yet.

        Raises:
          ConfigurationError: other machines could connect there, and ``insecure`` was
            not said.
        """
        self._config.refuse_exposure()
        self.hub.start()
        try:
            await serve_for_ever(
                self, self._config.gui_host, self._config.gui_port, task_status=task_status
            )
        finally:
            self.stop()

    async def _serve_live(self, websocket: WebSocket) -> None:
        await serve_live(websocket, self)

    async def _sign_in(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = self._sign_in_file.response(401, may_be_kept=False)
        await response(scope, receive, send)


def _readiness_of(overview: Overview) -> str:
    if overview.is_draining:
        return "draining"
    return "store" if overview.store_error else "ok"


# --- errors as answers ---


def _answer_refusal(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return refusal_response(error)


def _answer_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, FastWorkerError)
    return refusal_response(refusal_of(error))


def _answer_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return refusal_response(Refusal(error.status_code, "not_found", "there is nothing here"))


def _answer_bug(request: Request, error: Exception) -> Response:
    message = "something went wrong here; the log of the dashboard says what"
    return refusal_response(Refusal(500, "bug", message))
