"""How the processes that we start ourselves are told what to do."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import fastworker

_ANY_HOST = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # noqa: S104 - not bound, replaced


def fastworker_command(
    command: str,
    options: Mapping[str, object],
    *,
    task_modules: Sequence[str] = (),
    flags: Sequence[str] = (),
) -> list[str]:
    """The argument list of one of our commands as a supervised process.

    Args:
      command: such as "subworker".
      options: by their long names without the dashes; None leaves one out.
      flags: options without a value, as they are.
    """
    argv = [sys.executable, *_safe_path(), "-m", "fastworker", command, "--supervised"]
    argv += [f"--{name}={value}" for name, value in options.items() if value is not None]
    argv += flags
    argv += [f"--task-modules={module}" for module in task_modules]
    return argv


def _safe_path() -> list[str]:
    """``-P``, lest a ``random.py`` in the current folder comes before Python's own.

    Unless we are ourselves found there only: a checkout that is not installed.
    """
    return [] if package_folder() == Path.cwd() else ["-P"]


def package_folder() -> Path:
    """The folder in which the package ``fastworker`` is."""
    assert fastworker.__file__ is not None
    return Path(fastworker.__file__).resolve().parent.parent


def address_to_dial(address: str) -> str:
    """Where a process of this machine reaches what listens at ``address``."""
    scheme, host_port = address.split("://", 1)
    host, _, port = host_port.rpartition(":")
    return f"{scheme}://{_ANY_HOST.get(host, host)}:{port}"


def addresses_to_json(base: str, discovery: str, management: str) -> str:
    """What a supervised control plane prints when it listens."""
    return json.dumps({"base": base, "discovery": discovery, "management": management})


def addresses_from_json(line: str) -> tuple[str, str, str]:
    """The base, discovery and management address that it printed."""
    found = json.loads(line)
    return found["base"], found["discovery"], found["management"]
