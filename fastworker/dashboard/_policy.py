"""Who is let in, and to what: decisions only, by what a request says of itself.

In this order: the Host has to be a name of ours (else DNS rebinding), an Origin
has to be our own page's (else any page could use the visitor's cookie), the visitor
has to have signed in, and what is more than reading has to carry a header that no
form and no image can send.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import quote, urlsplit

from fastworker.dashboard._token import Token
from fastworker.dashboard._tries import Tries

MAX_HEADER_BYTES: Final = 16 * 1024
COOKIE_SECONDS: Final = 30 * 86_400
READING: Final = frozenset({"GET", "HEAD"})
LOCAL_HOSTS: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})
_DEFAULT_PORTS: Final = {"http": "80", "https": "443"}

Headers = Sequence[tuple[bytes, bytes]]


@dataclass(frozen=True)
class Visit:
    """What is known of a request before anything of it is believed."""

    method: str
    path: str  # from where the dashboard is mounted on
    headers: Headers
    address: str = ""
    is_websocket: bool = False
    target_bytes: int = 0  # of the whole path and query

    def values(self, name: bytes) -> list[str]:
        """What the headers of this name say, each."""
        return [value.decode("latin-1") for key, value in self.headers if key.lower() == name]


@dataclass(frozen=True)
class Visitor:
    """Somebody who was let in."""

    address: str
    by: Literal["token", "cookie", "nothing"]


class Refusal(Exception):
    """An answer that is an error, whatever else would have been answered."""

    def __init__(
        self, status: int, code: str, message: str, headers: dict[str, str] | None = None
    ) -> None:
        self.status = status
        self.code = code
        self.message = message
        self.headers = headers or {}
        super().__init__(message)


class Policy:
    """See the module's first lines.

    Args:
      token: who has it may come in.
      hosts: names under which the dashboard is reached, beside those of loopback;
        with a port or without.
      is_open: whether anybody may ask for this, by method and path.
    """

    def __init__(
        self, token: Token, hosts: Iterable[str], is_open: Callable[[str, str], bool]
    ) -> None:
        self.token = token
        self._hosts = frozenset(host.lower() for host in hosts)
        self._is_open = is_open
        self._tries = Tries()

    def admit(self, visit: Visit, now: float) -> Visitor:
        """Let a visitor in.

        Args:
          now: in seconds, of any clock that does not jump.

        Raises:
          Refusal: he is not.
        """
        size = visit.target_bytes + sum(
            len(name) + len(text) + 4 for name, text in visit.headers
        )
        if size > MAX_HEADER_BYTES:
            raise Refusal(
                431, "headers_too_large", f"headers have at most {MAX_HEADER_BYTES:,} bytes"
            )
        host = self._check_host(visit)
        origin = self._check_origin(visit, host)
        if self._is_open(visit.method, visit.path) and not visit.is_websocket:
            visitor = Visitor(visit.address, "nothing")
        else:
            visitor = self._identify(visit, now)
        if visitor.by == "cookie":
            self._check_site(visit, origin)
        is_reading = visit.method in READING
        if not is_reading and visit.values(b"x-fastworker") != ["1"]:
            raise Refusal(
                403, "header_missing", f"{visit.method} needs the header 'X-FastWorker: 1'"
            )
        return visitor

    def sign_in(self, visit: Visit, token: str, now: float) -> None:
        """Check a token that somebody has typed or followed.

        Raises:
          Refusal: it is wrong.
        """
        if self.token.is_token(token):
            return
        wait = self._tries.note(visit.address, now)
        if wait:
            raise Refusal(
                429,
                "too_many_tries",
                "too many wrong tokens; try again later",
                {"retry-after": str(wait)},
            )
        raise Refusal(401, "unauthorized", "this is not the token of this dashboard")

    # --- the steps ---

    def _check_host(self, visit: Visit) -> str:
        hosts = [host.strip().lower() for host in visit.values(b"host")]
        if len(hosts) == 1:
            host, name = hosts[0], host_name(hosts[0])
            if name in LOCAL_HOSTS or name in self._hosts or host in self._hosts:
                return host
        raise Refusal(
            421,
            "host_not_allowed",
            f"the dashboard is not known as {' or '.join(hosts)[:200] or 'nothing'!r}; name "
            f"the host with --gui-allowed-host or FASTWORKER_GUI_ALLOWED_HOSTS",
        )

    def _check_origin(self, visit: Visit, host: str) -> bool:
        origins = visit.values(b"origin")
        if not origins:
            return False
        if len(origins) == 1 and self._is_ours(origins[0].strip().lower(), host):
            return True
        raise Refusal(
            403, "origin_not_allowed", f"requests from {origins[0][:200]!r} are not allowed"
        )

    def _is_ours(self, origin: str, host: str) -> bool:
        try:
            parts = urlsplit(origin)
        except ValueError:
            return False
        if parts.scheme not in _DEFAULT_PORTS or f"{parts.scheme}://{parts.netloc}" != origin:
            return False
        default = _DEFAULT_PORTS[parts.scheme]
        # Behind a proxy, Host may be the proxy's word for us; only then a name that
        # was configured counts without it.
        own = {_without(host, default), *(_without(each, default) for each in self._hosts)}
        return _without(parts.netloc, default) in own

    def _identify(self, visit: Visit, now: float) -> Visitor:
        given = visit.values(b"authorization")
        if len(given) == 1:
            scheme, _, token = given[0].partition(" ")
            if scheme.lower() == "bearer":
                self.sign_in(visit, token.strip(), now)
                return Visitor(visit.address, "token")
        if not given and self._has_cookie(visit):
            return Visitor(visit.address, "cookie")
        raise Refusal(
            401,
            "unauthorized",
            "sign in first: send 'Authorization: Bearer TOKEN', or open the address that "
            "'fastworker dashboard --print-url' prints",
            {"www-authenticate": 'Bearer realm="fastworker"'},
        )

    def _has_cookie(self, visit: Visit) -> bool:
        return any(map(self.token.is_cookie, _cookies(visit, self.token.cookie_name)))

    def _check_site(self, visit: Visit, has_origin: bool) -> None:
        """Cookies know no ports: another server of this host must not use ours."""
        if visit.is_websocket and not has_origin:
            raise Refusal(
                403, "origin_missing", "a WebSocket with a cookie needs an Origin, or a token"
            )
        sites = visit.values(b"sec-fetch-site")
        is_page = visit.path in ("", "/") and visit.method in READING
        if sites and not is_page and sites != ["same-origin"] and sites != ["none"]:
            raise Refusal(403, "site_not_allowed", "other sites may not ask with your cookie")


def host_name(host: str) -> str:
    """A Host header without its port; brackets of IPv6 stay."""
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0]


def _without(host: str, port: str) -> str:
    return host.removesuffix(f":{port}")


def _cookies(visit: Visit, wanted: str) -> list[str]:
    found: list[str] = []
    for text in visit.values(b"cookie"):
        for part in text.split(";"):
            name, _, value = part.partition("=")
            if name.strip() == wanted:
                found.append(value.strip().strip('"'))
    return found[:8]


def session_cookie(name: str, value: str, root: str, *, is_https: bool) -> str:
    """The Set-Cookie header by which a browser stays signed in; empty signs it out."""
    age = COOKIE_SECONDS if value else 0
    path = quote(f"{root.rstrip('/')}/")
    secure = "; Secure" if is_https else ""
    return f"{name}={value}; Path={path}; Max-Age={age}; HttpOnly; SameSite=Strict{secure}"
