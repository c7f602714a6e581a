"""``fastworker top``: the control plane in a terminal, live."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click

from fastworker.cli import _options
from fastworker.cli._errors import Exit, errors_in_one_line
from fastworker.cli._output import print_json, speaks_unicode

if TYPE_CHECKING:
    from fastworker.cli._top_feed import Place

_WIDTH_WITHOUT_TERMINAL = 120
_ANY_HEIGHT = 10**6


@click.command()
@click.option(
    "--url",
    envvar="FASTWORKER_GUI_URL",
    metavar="URL",
    help="The dashboard's address, if it is elsewhere; with its token as '#token=…' or not.",
)
@click.option(
    "--token-file",
    envvar="FASTWORKER_GUI_TOKEN_FILE",
    metavar="PATH",
    help="The file with the token.  [default: the one beside the store]",
)
@_options.gui_host
@_options.gui_port
@click.option(
    "--store",
    metavar="PATH",
    help="The control plane's store, if it was given one: the token is beside it.",
)
@_options.worker_id(default="control-plane")
@_options.base_address("The control plane's base address, if it was given one.")
@click.option("--once", is_flag=True, help="Print what there is now, and end.")
@_options.as_json("Print what there is now as one JSON object, and end.")
def top(
    *,
    url: str | None,
    token_file: str | None,
    gui_host: str | None,
    gui_port: int | None,
    store: str | None,
    worker_id: str | None,
    base_address: str | None,
    once: bool,
    as_json: bool,
) -> None:
    """Show throughput, latency, queues, workers and tasks, live; q ends it.

    It reads the dashboard's live feed, so the dashboard has to run. On this machine it
    is found by the options and variables that the control plane was started with. If
    the output is no terminal, what there is now is printed once.
    """
    with errors_in_one_line():
        from fastworker._errors import ConfigurationError
        from fastworker.cli import _dashboard_beside as beside
        from fastworker.cli._dashboard_place import find_dashboard

        if not beside.is_installed() or importlib.util.find_spec("trio_websocket") is None:
            raise ConfigurationError(beside.NOT_INSTALLED)
        from fastworker.cli._top_feed import Place

        if url is not None:
            place = Place(*_address_and_token(url, token_file))
        else:
            address, token = find_dashboard(
                gui_host=gui_host,
                gui_port=gui_port,
                store=store,
                worker_id=worker_id,
                base_address=base_address,
                token_file=None if token_file is None else Path(token_file),
            )
            place = Place(address, token.text)
        sys.exit(_run(place, once=once, as_json=as_json))


def _run(place: Place, *, once: bool, as_json: bool) -> int:
    import trio

    from fastworker.cli._signals import run_until_signal
    from fastworker.cli._top_screen import is_screen, watch

    async def command() -> int:
        if once or as_json or not is_screen():
            await _show_once(place, as_json=as_json)
        else:
            await watch(place)
        return Exit.OK

    return trio.run(run_until_signal, command)


async def _show_once(place: Place, *, as_json: bool) -> None:
    import time

    from fastworker.cli._top_feed import TopFeed
    from fastworker.cli._top_state import TopState
    from fastworker.cli._top_view import TopView

    state = TopState()
    now, wall = time.monotonic(), time.time()
    state.take(await TopFeed(place).read_first(), now=now)
    if as_json:
        print_json(state.as_json())
        return
    view = TopView(has_unicode=speaks_unicode())
    width = shutil.get_terminal_size((_WIDTH_WITHOUT_TERMINAL, 0)).columns
    for line in view.lines(state, width=width, height=_ANY_HEIGHT, now=now, wall=wall):
        click.echo(line.plain.rstrip())


def _address_and_token(url: str, token_file: str | None) -> tuple[str, str]:
    """What ``--url`` and ``--token-file`` say."""
    from fastworker._errors import ConfigurationError
    from fastworker.dashboard._token import Token, read_token

    address, _, fragment = url.partition("#")
    try:
        parts = urlsplit(address)
        is_known = parts.scheme in ("http", "https") and bool(parts.hostname)
        _ = parts.port
    except ValueError:
        is_known = False
    if not is_known or parts.username is not None:
        raise ConfigurationError(
            f"--url {address[:200]!r}: use an address such as 'http://127.0.0.1:8080/'"
        )
    if token_file is not None:
        path = Path(token_file)
        try:
            return address, read_token(path).text
        except FileNotFoundError:
            raise ConfigurationError(f"--token-file {token_file!r}: no such file") from None
    if not fragment.startswith("token="):
        raise ConfigurationError(
            "--url needs a token: add --token-file, or give the address that 'fastworker "
            "dashboard --print-url' prints"
        )
    return address, Token(fragment.removeprefix("token=")).text
