"""The dashboard's connection to the control plane: made when first used, and made anew."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from fastworker._client import Client
from fastworker._errors import ClientBroken, ClientClosed

T = TypeVar("T")


class Link:
    """A client that is started by the first question, in the event loop that asks.

    Its loop may end without a word, and the client with it: the next question starts
    it again.
    """

    def __init__(self, make_client: Callable[[], Client]) -> None:
        self._make = make_client
        self._client: Client | None = None

    async def client(self) -> Client:
        """The client, started.

        Raises:
          ControlPlaneUnreachable: there is no control plane.
          LinkBroken: it speaks another version, or refuses us.
        """
        if self._client is None:
            self._client = self._make()
        client = self._client
        try:
            await client.start()
        except ClientBroken:
            client.stop()
            await client.start()
        return client

    async def ask(self, question: Callable[[Client], Awaitable[T]]) -> T:
        """Ask, and once more if somebody has closed the connection meanwhile."""
        try:
            return await question(await self.client())
        except (ClientClosed, ClientBroken):
            return await question(await self.client())

    def stop(self) -> None:
        """Close the connection; the next question opens it again."""
        client, self._client = self._client, None
        if client is not None:
            client.stop()

    async def aclose(self) -> None:
        """Close the connection, and wait until it is."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()
