"""The secret by which somebody is let in, and the file that keeps it across restarts.

The file is for its owner alone. Whoever may read it may sign in: that is how
``fastworker dashboard`` gets in without a password.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import hmac
import os
import re
import secrets
import stat
from pathlib import Path
from typing import Final

from fastworker._errors import ConfigurationError

# 256 bits: nobody guesses that, however often he may try.
_BYTES: Final = 32
_TEXT: Final = re.compile(r"[A-Za-z0-9_-]{32,256}")


class Token:
    """A secret, and the value of the cookie that stands for it.

    The cookie is derived from the token, so that it is good for as long, and tells
    nobody who sees it what the token is.

    Raises:
      ConfigurationError: the text is no token.
    """

    __slots__ = ("_secret", "cookie", "cookie_name")

    def __init__(self, text: str) -> None:
        if not _TEXT.fullmatch(text):
            raise ConfigurationError(
                "a token has 32 to 256 letters, digits, '-' and '_'; make one with "
                "secrets.token_urlsafe(32)"
            )
        self._secret = text.encode()
        self.cookie = self._derive(b"fastworker session")
        # Cookies know no ports: with one name for all, whoever signed in to another
        # dashboard of this machine would be signed out of this one.
        self.cookie_name = f"fastworker_session_{self._derive(b'fastworker cookie name')[:8]}"

    def __repr__(self) -> str:
        return "<Token>"  # it is a secret, and logs are read by many

    def _derive(self, purpose: bytes) -> str:
        return hmac.new(self._secret, purpose, hashlib.sha256).hexdigest()

    @property
    def text(self) -> str:
        """The secret itself."""
        return self._secret.decode()

    def is_token(self, text: str) -> bool:
        """Whether this is the token; takes the same time whatever it is."""
        return hmac.compare_digest(text.encode("utf-8", "replace"), self._secret)

    def is_cookie(self, text: str) -> bool:
        """Whether this is the cookie's value; takes the same time whatever it is."""
        return hmac.compare_digest(text.encode("utf-8", "replace"), self.cookie.encode())


def new_token() -> Token:
    """A token that nobody has."""
    return Token(secrets.token_urlsafe(_BYTES))


def token_path(store_path: Path) -> Path:
    """Where the token of a control plane is that keeps its tasks there."""
    return store_path.with_name(f"{store_path.name}.token")


def read_token(path: Path) -> Token:
    """Read a token from its file.

    Raises:
      FileNotFoundError: there is none.
      ConfigurationError: others may read or have written it, or it is no token.
    """
    try:
        # Not through a link, which may have been put there by somebody else.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise ConfigurationError(
                f"the token {path} is a link, which others may have put there; name the file "
                f"that it leads to, or remove it, and a new one is made"
            ) from None
        raise ConfigurationError(f"the token {path} cannot be read: {error.strerror}") from None
    try:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            raise ConfigurationError(
                f"the token {path} is not a file; remove it, and a new one is made"
            )
        if facts.st_uid != os.geteuid():
            raise ConfigurationError(
                f"the token {path} belongs to another user (id {facts.st_uid}); remove it, "
                f"and a new one is made"
            )
        if stat.S_IMODE(facts.st_mode) & 0o077:
            raise ConfigurationError(
                f"the token {path} can be read by others (mode "
                f"{stat.S_IMODE(facts.st_mode):04o}); remove it, and a new one is made"
            )
        text = os.read(descriptor, 1024).decode("utf-8", "replace").strip()
    finally:
        os.close(descriptor)
    if not _TEXT.fullmatch(text):
        raise ConfigurationError(
            f"the token {path} is damaged; remove it, and a new one is made"
        )
    return Token(text)


def read_or_make_token(path: Path) -> Token:
    """Read the token, or make one if there is none; of two that do so, one makes it.

    Raises:
      ConfigurationError: as :func:`read_token`, or it cannot be written.
    """
    with contextlib.suppress(FileNotFoundError):
        return read_token(path)
    draft = path.with_name(f"{path.name}.{os.getpid()}-{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with open(descriptor, "w", encoding="ascii") as file:
                file.write(f"{new_token().text}\n")
                file.flush()
                os.fsync(file.fileno())
            # Complete or not at all, and never over that of somebody who was faster.
            with contextlib.suppress(FileExistsError):
                os.link(draft, path)
        finally:
            draft.unlink()
    except OSError as error:
        raise ConfigurationError(
            f"the token {path} cannot be written: {error.strerror}"
        ) from None
    try:
        return read_token(path)
    except FileNotFoundError:
        raise ConfigurationError(f"the token {path} was removed at once") from None
