"""The tokens of this process: where they come from, and who may read their files.

A token is a shared secret. Whoever has the one of a role is in that role; a
control plane has those of all roles it lets in. No token is ever shown: not in
``repr``, not in errors, not on a command line.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NoReturn, TypeAlias

from fastworker._core._keys import MIN_TOKEN_BYTES, RoleKeys, keys_of
from fastworker._core._roles import PeerRole
from fastworker._errors import ConfigurationError
from fastworker._private_file import read_private_file

__all__ = ["Auth", "AuthTokens", "new_token_file", "resolve_auth", "token_files_of_worker"]

TOKEN_VARIABLE: Final = "FASTWORKER_AUTH_TOKEN"  # noqa: S105 - its name only
FILE_VARIABLE: Final = "FASTWORKER_AUTH_TOKEN_FILE"

_MAX_TOKEN_BYTES: Final = 4096
_MAX_FILE_BYTES: Final = 64 * 1024
_MAKE_ONE: Final = "make one with 'fastworker token new FILE'"
_ROLE_NAMES: Final = ", ".join(role.value for role in PeerRole)


class AuthTokens:
    """Shared secrets by role, for ``auth=`` of clients, control planes and subworkers.

    A control plane lets in whoever proves one of its tokens. A subworker proves
    the one of ``worker``; a client that of ``operator``, or else of ``client``.

    Args:
      client, worker, operator: the token of each role, of at least 16 bytes; None
        if there is none.

    Raises:
      ConfigurationError: one is too short, or there is none at all.
    """

    __slots__ = ("_keys",)

    def __init__(
        self,
        *,
        client: str | bytes | None = None,
        worker: str | bytes | None = None,
        operator: str | bytes | None = None,
    ) -> None:
        given = {
            PeerRole.CLIENT: client,
            PeerRole.WORKER: worker,
            PeerRole.OPERATOR: operator,
        }
        tokens = {
            role: _checked(token, f"the token for {role.value}")
            for role, token in given.items()
            if token is not None
        }
        if not tokens:
            raise ConfigurationError(f"AuthTokens() has no token; give one for {_ROLE_NAMES}")
        self._keys = keys_of(tokens)

    @classmethod
    def for_all(cls, token: str | bytes) -> AuthTokens:
        """One token for every role. Simple, and weaker: each client may do everything."""
        return cls(client=token, worker=token, operator=token)

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> AuthTokens:
        """As :meth:`for_all`, with the token in this file, which only its owner may read.

        Raises:
          ConfigurationError: it cannot be read, others may read it, or it has no token.
        """
        return cls.for_all(_read(Path(path)))

    @classmethod
    def from_files(cls, files: Mapping[str, str | os.PathLike[str]]) -> AuthTokens:
        """The token of each role from a file of its own, such as ``{"client": "c.token"}``.

        Raises:
          ConfigurationError: as :meth:`from_file`, or a role is none.
        """
        for role in files:
            if role not in {each.value for each in PeerRole}:
                raise ConfigurationError(f"{role!r} is no role; use {_ROLE_NAMES}")
        return cls(**{role: _read(Path(path)) for role, path in files.items()})

    def __repr__(self) -> str:
        return f"<AuthTokens for {', '.join(role.value for role in self._keys)}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("tokens are secrets and are not pickled; pass the name of their file")

    @property
    def keys(self) -> Mapping[PeerRole, RoleKeys]:
        """What the tokens are good for, by role."""
        return self._keys

    def role_to_dial_as(self, *wanted: PeerRole) -> PeerRole:
        """The first of these roles that has a token.

        Raises:
          ConfigurationError: none has.
        """
        for role in wanted:
            if role in self._keys:
                return role
        names = " or ".join(role.value for role in wanted)
        raise ConfigurationError(
            f"{self!r} has no token for {names}, which is needed here; give one as "
            f"{wanted[-1].value}=FILE"
        )


# What ``auth=`` takes: tokens; a file, or one for each role; False for no
# authentication, whatever the environment says; None for what that says.
Auth: TypeAlias = (
    AuthTokens | str | os.PathLike[str] | Mapping[str, str | os.PathLike[str]] | bool | None
)


def resolve_auth(auth: Auth, environ: Mapping[str, str]) -> AuthTokens | None:
    """The tokens that were given, else those that the environment names, else None.

    Raises:
      ConfigurationError: they cannot be used.
    """
    if isinstance(auth, AuthTokens):
        return auth
    if auth is False:
        return None
    if isinstance(auth, (str, os.PathLike)):
        return _from_text(os.fspath(auth), "auth")
    if isinstance(auth, Mapping):
        return AuthTokens.from_files(auth)
    if auth is not None:
        raise ConfigurationError(
            f"auth is a {type(auth).__qualname__}; use AuthTokens, the path of a file, "
            f"a dict of them by role, or False"
        )
    token = environ.get(TOKEN_VARIABLE, "").strip()
    files = environ.get(FILE_VARIABLE, "").strip()
    if token and files:
        raise ConfigurationError(
            f"both {TOKEN_VARIABLE} and {FILE_VARIABLE} are set; unset one of them"
        )
    if token:
        return AuthTokens.for_all(_checked(token, TOKEN_VARIABLE))
    return _from_text(files, FILE_VARIABLE) if files else None


def token_files_of_worker(environ: Mapping[str, str]) -> dict[str, str]:
    """This environment for a subworker: of several tokens, only that of workers.

    Nothing is read here; a process that is started gets names of files only.
    """
    changed = dict(environ)
    parts = _parts(environ.get(FILE_VARIABLE, ""))
    named = [part for part in parts if part.startswith(f"{PeerRole.WORKER.value}=")]
    if named:
        changed[FILE_VARIABLE] = ",".join(named)
    return changed


def new_token_file(path: Path) -> None:
    """Make a file with a new token, for its owner alone; none is ever overwritten.

    Raises:
      ConfigurationError: it is there already, or cannot be written.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags, 0o600)
    except FileExistsError:
        raise ConfigurationError(
            f"{path} is there already; remove it first, or choose another name"
        ) from None
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written: {error.strerror}") from None
    with open(descriptor, "w", encoding="ascii") as file:
        os.fchmod(file.fileno(), 0o600)  # whatever the umask says
        file.write(f"{secrets.token_urlsafe(32)}\n")
        file.flush()
        os.fsync(file.fileno())


def _from_text(text: str, setting: str) -> AuthTokens:
    """``FILE``, or ``ROLE=FILE,ROLE=FILE``."""
    roles = {role.value for role in PeerRole}
    files: dict[str, str] = {}
    parts = _parts(text)
    for part in parts:
        role, equals, path = part.partition("=")
        if equals and role in roles:
            if role in files:
                raise ConfigurationError(f"{setting} names two files for {role}; name one")
            files[role] = path
        elif len(parts) > 1 or not part:
            raise ConfigurationError(
                f"{setting}={text!r}: use one FILE for all roles, or ROLE=FILE for each, "
                f"separated by commas; roles are {_ROLE_NAMES}"
            )
    return AuthTokens.from_files(files) if files else AuthTokens.from_file(parts[0])


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",")]


def _checked(token: str | bytes, what: str) -> bytes:
    """A token that can be used. What it is, no message says."""
    if not isinstance(token, (str, bytes)):
        raise ConfigurationError(f"{what} is a {type(token).__qualname__}; it must be a str")
    secret = token.encode() if isinstance(token, str) else token
    if len(secret) < MIN_TOKEN_BYTES:
        raise ConfigurationError(
            f"{what} has {len(secret)} bytes and needs {MIN_TOKEN_BYTES} at least, of chance; "
            f"{_MAKE_ONE}"
        )
    return secret


def _read(path: Path) -> bytes:
    """Read a token from a file that nobody else may read or have put there."""
    # Somebody may have given the token where the name of its file belongs.
    is_name = any(sign in str(path) for sign in "/.") or len(str(path)) < MIN_TOKEN_BYTES
    secret = read_private_file(
        path,
        "the token file",
        max_bytes=_MAX_FILE_BYTES,
        hint=_MAKE_ONE,
        name=str(path) if is_name else "(a name that may be a token, and is not shown)",
    ).strip()
    if len(secret) > _MAX_TOKEN_BYTES or b"\n" in secret or b"\0" in secret:
        raise ConfigurationError(
            f"the token file {path} has more than one line of up to {_MAX_TOKEN_BYTES} bytes; "
            f"{_MAKE_ONE}"
        )
    return _checked(secret, f"the token in {path}")
