"""Files with secrets, which nobody else may read or have put there."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from fastworker._errors import ConfigurationError


def read_private_file(
    path: Path, what: str, *, max_bytes: int, hint: str, name: str = ""
) -> bytes:
    """Read a file that is for its owner alone, who is us or root.

    A link is followed only if it belongs to us or to root, as its file must.

    Args:
      path: the file.
      what: what it is, for messages, such as "the TLS key".
      max_bytes: it is refused if it is longer.
      hint: what to do instead, for messages.
      name: what it is called if it is not there, if that may not be its path.

    Raises:
      ConfigurationError: it cannot be read, or others can.
    """
    try:
        _check_owner(os.lstat(path), path, what)
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise ConfigurationError(
            f"{what} {name or path} cannot be read: {error.strerror}; {hint}"
        ) from None
    with open(descriptor, "rb") as file:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            raise ConfigurationError(f"{what} {path} is no file; {hint}")
        _check_owner(facts, path, what)
        mode = stat.S_IMODE(facts.st_mode)
        if mode & 0o077:
            raise ConfigurationError(
                f"{what} {path} can be used by others (mode {mode:04o}); run "
                f"'chmod 600 {path}', and make a new one if others may have read it"
            )
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise ConfigurationError(f"{what} {path} has more than {max_bytes} bytes; {hint}")
    return content


def _check_owner(facts: os.stat_result, path: Path, what: str) -> None:
    if facts.st_uid not in (os.geteuid(), 0):
        raise ConfigurationError(
            f"{what} {path} belongs to another user (id {facts.st_uid}), who could change it; "
            f"use a file of your own"
        )
