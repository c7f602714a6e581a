"""``fastworker dashboard``: open the page, signed in."""

from __future__ import annotations

import os
import webbrowser

import click

from fastworker.cli import _options
from fastworker.cli._errors import Exit, errors_in_one_line, say


@click.command()
@click.option("--print-url", is_flag=True, help="Print the address, and open nothing.")
@_options.gui_host
@_options.gui_port
@click.option(
    "--store",
    metavar="PATH",
    help="The control plane's store, if it was given one: the token is beside it.",
)
@_options.worker_id(default="control-plane")
@_options.base_address("The control plane's base address, if it was given one.")
def dashboard(
    *,
    print_url: bool,
    gui_host: str | None,
    gui_port: int | None,
    store: str | None,
    worker_id: str | None,
    base_address: str | None,
) -> None:
    """Open the dashboard of this machine's control plane in the browser.

    Give it the options and variables that the control plane was started with: they
    say where the dashboard is, and which file has the token. The address that is
    printed or opened signs in whoever has it.
    """
    with errors_in_one_line():
        from fastworker._config import ControlPlaneConfig, DashboardConfig
        from fastworker._errors import ConfigurationError
        from fastworker._stores import MEMORY
        from fastworker.cli._dashboard_beside import INSTALL, is_installed, token_file

        config = DashboardConfig.resolve(os.environ, gui_host=gui_host, gui_port=gui_port)
        plane = ControlPlaneConfig.resolve(
            os.environ,
            store=store,
            worker_id=worker_id,
            base_address=base_address,
            insecure=True,
        )
        if not is_installed():
            raise ConfigurationError(f"the dashboard needs: {INSTALL}")
        from fastworker.dashboard._proof import is_ours
        from fastworker.dashboard._token import read_token

        name = None if plane.store in (None, MEMORY) else plane.store
        path = token_file(name, plane.worker_id, plane.base.port)
        try:
            token = read_token(path)
        except FileNotFoundError:
            raise ConfigurationError(
                f"there is no token {path}: start 'fastworker control-plane' first, or give "
                f"the options that it was started with"
            ) from None
        address = f"http://{_host_to_open(config.gui_host)}:{config.gui_port}/"
        if not is_ours(address, token):
            raise click.exceptions.Exit(_say_not_there(address))
        url = f"{address}#token={token.text}"
        if print_url:
            click.echo(url)
        elif not webbrowser.open(url):
            say(f"no browser could be opened; the address is {url}")


def _say_not_there(address: str) -> int:
    # Whoever else answers there must not be shown the token.
    say(
        f"no dashboard with this token answers at {address}; start 'fastworker "
        f"control-plane', or give the options that it was started with"
    )
    return Exit.NO_CONTROL_PLANE


def _host_to_open(host: str) -> str:
    return {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}.get(host, host)  # noqa: S104 - opened
