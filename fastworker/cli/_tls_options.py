"""The options of TLS, which every command has that connects or listens.

They go where clients, subworkers and processes that are started here look for
them: into the environment. They are names of files, never what is in them.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def _set_variable(name: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    """Put a value where it is looked for, until the command has ended."""

    def set_variable(context: click.Context, parameter: click.Parameter, value: Any) -> None:
        if value is None or value == ():
            return
        before = os.environ.get(name)

        def restore() -> None:
            os.environ.pop(name, None)
            if before is not None:
                os.environ[name] = before

        context.call_on_close(restore)
        if isinstance(value, bool):
            value = "1" if value else "0"
        os.environ[name] = ";".join(value) if isinstance(value, tuple) else value

    return set_variable


def _file(option: str, variable: str, help: str) -> Callable[[F], F]:
    return click.option(
        option,
        metavar="FILE",
        expose_value=False,
        callback=_set_variable(variable),
        help=help,
    )


_FILES = (
    _file("--tls-ca", "FASTWORKER_TLS_CA", "The authority of tls+tcp:// peers."),
    _file("--tls-cert", "FASTWORKER_TLS_CERT", "The certificate to show them."),
    _file("--tls-key", "FASTWORKER_TLS_KEY", "Its key, a file for its owner alone."),
)
_SERVER_NAME = click.option(
    "--tls-server-name",
    metavar="NAME",
    expose_value=False,
    callback=_set_variable("FASTWORKER_TLS_SERVER_NAME"),
    help="The name in the control plane's certificate.  [default: the host that is dialed]",
)
_MUTUAL = click.option(
    "--tls-mutual/--no-tls-mutual",
    default=None,
    expose_value=False,
    callback=_set_variable("FASTWORKER_TLS_MUTUAL"),
    help="Whether whoever connects needs a certificate, too.  [default: tls-mutual]",
)
_ALLOW = click.option(
    "--tls-allow",
    multiple=True,
    metavar="ROLE=NAME,...",
    expose_value=False,
    callback=_set_variable("FASTWORKER_TLS_ALLOW"),
    help="Names in certificates that have a role: client, worker or operator; may be given "
    "again.  [default: fastworker-ROLE]",
)


def tls_to_dial(command: F) -> F:
    """The files, and the name to expect."""
    for option in reversed((*_FILES, _SERVER_NAME)):
        command = option(command)
    return command


def tls_to_listen(command: F) -> F:
    """Who is let in."""
    for option in (_ALLOW, _MUTUAL):
        command = option(command)
    return command
