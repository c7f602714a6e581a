"""Options that several commands share; their defaults stand in ``_config.py``.

An option that was not given is None, so that its variable may count. That is
why defaults are told to ``--help`` as texts.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

import click

from fastworker.cli._logging import FORMAT_KEY
from fastworker.cli._telemetry import OTEL_KEY
from fastworker.cli._tls_options import tls_to_dial

_TOKEN_VARIABLES = ("FASTWORKER_AUTH_TOKEN", "FASTWORKER_AUTH_TOKEN_FILE")

F = TypeVar("F", bound=Callable[..., Any])

LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
LOG_FORMATS = ("text", "json")


def with_default(help: str, default: str | None) -> str:
    """Tell the default in a help text. click would put it in brackets of its own."""
    return help if default is None else f"{help}  [default: {default}]"


def worker_id(*, default: str | None) -> Callable[[F], F]:
    """``--worker-id``, required if it has no default."""
    return click.option(
        "--worker-id",
        envvar="FASTWORKER_WORKER_ID" if default is None else None,
        required=default is None,
        metavar="TEXT",
        help=with_default("Worker identifier, a label for people.", default),
    )


def base_address(help: str) -> Callable[[F], F]:
    """``--base-address``."""
    return click.option(
        "--base-address",
        metavar="ADDRESS",
        help=with_default(help, "tcp://127.0.0.1:5555"),
    )


def discovery_address(help: str) -> Callable[[F], F]:
    """``--discovery-address``, and the options of tokens and TLS, which peers look up."""
    address = click.option(
        "--discovery-address",
        metavar="ADDRESS",
        help=with_default(help, "tcp://127.0.0.1:5550"),
    )
    tokens = click.option(
        "--auth-token-file",
        "auth_token_files",
        multiple=True,
        metavar="[ROLE=]FILE",
        expose_value=False,
        callback=_keep_token_files,
        help="The token that both sides prove to know; with ROLE=FILE, given again, one for "
        "each of the roles client, worker and operator.",
    )
    return lambda command: address(tokens(tls_to_dial(command)))


def _keep_token_files(
    context: click.Context, parameter: click.Parameter, files: tuple[str, ...]
) -> None:
    """Put the files' names where this process, and those that it starts, look for them.

    Names are no secrets; what is in the files goes neither there nor on a command line.
    """
    if not files:
        return
    before = {name: os.environ.pop(name, None) for name in _TOKEN_VARIABLES}

    def restore() -> None:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value

    context.call_on_close(restore)
    for file in files:
        if "," in file:
            raise click.BadParameter(
                f"{file!r} has a comma, which separates files; give the option again for each",
                context,
                parameter,
            )
    os.environ["FASTWORKER_AUTH_TOKEN_FILE"] = ",".join(files)


def task_modules(help: str) -> Callable[[F], F]:
    """``--task-modules``, any number of them."""
    return click.option(
        "--task-modules",
        multiple=True,
        metavar="MODULE...",
        help=f"{help} Several: 'a b', 'a,b', or given again.",
    )


def serialization_format(help: str) -> Callable[[F], F]:
    """``--serialization-format``."""
    return click.option(
        "--serialization-format",
        type=click.Choice(["json", "pickle"], case_sensitive=False),
        help=with_default(help, "json"),
    )


def timeout(help: str, default: str = "30") -> Callable[[F], F]:
    """``--timeout``."""
    return click.option(
        "--timeout", type=float, metavar="SECONDS", help=with_default(help, default)
    )


def grace(help: str) -> Callable[[F], F]:
    """``--grace``."""
    return click.option(
        "--grace",
        type=click.FloatRange(min=0),
        metavar="SECONDS",
        help=with_default(help, "what the task's function says"),
    )


def as_json(help: str) -> Callable[[F], F]:
    """``--json``."""
    return click.option("--json", "as_json", is_flag=True, help=help)


def log_level(default: str) -> Callable[[F], F]:
    """``--log-level``, and ``--log-format``, which ``set_up_logging`` finds by itself."""
    level = click.option(
        "--log-level",
        type=click.Choice(LOG_LEVELS, case_sensitive=False),
        help=with_default("What is logged to stderr; DEBUG also shows tracebacks.", default),
    )
    format = click.option(
        "--log-format",
        type=click.Choice(LOG_FORMATS, case_sensitive=False),
        expose_value=False,
        callback=_keep(FORMAT_KEY),
        help=with_default("How: lines of text, or a JSON object on each line.", "text"),
    )
    return lambda command: level(format(command))


def _keep(key: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    """Keep a value for who asks the context for it."""

    def keep(context: click.Context, parameter: click.Parameter, value: Any) -> None:
        context.meta[key] = value

    return keep


gui_host = click.option(
    "--gui-host",
    metavar="HOST",
    help=with_default("Where the dashboard listens.", "127.0.0.1"),
)
gui_port = click.option(
    "--gui-port",
    type=int,
    metavar="PORT",
    help=with_default("At which port.", "8080"),
)
concurrency = click.option(
    "--concurrency",
    type=click.IntRange(min=1),
    help=with_default(
        "How many 'def' tasks one process runs at once; for 'async def' it is 100 or more.",
        "the number of cores",
    ),
)
backend = click.option(
    "--backend",
    type=click.Choice(["trio", "asyncio"]),
    help=with_default("The event loop of 'async def' tasks that name none.", "trio"),
)
drain_timeout = click.option(
    "--drain-timeout",
    type=float,
    metavar="SECONDS",
    help=with_default(
        "How long running tasks get to end after the first signal. What runs then is stopped "
        "and handed back, to run elsewhere; that does not count as an attempt.",
        "30",
    ),
)
otel = click.option(
    "--otel/--no-otel",
    default=None,
    expose_value=False,
    callback=_keep(OTEL_KEY),
    help=with_default(
        "Send traces and metrics of tasks where OpenTelemetry's variables say.",
        "no-otel",
    ),
)
supervised = click.option(
    "--supervised", is_flag=True, hidden=True, help="End when stdin ends: the parent is gone."
)
