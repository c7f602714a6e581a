"""``fastworker dashboard``: open the page, signed in."""

from __future__ import annotations

import webbrowser

import click

from fastworker.cli import _options
from fastworker.cli._errors import errors_in_one_line, say


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
        from fastworker.cli._dashboard_place import find_dashboard

        address, token = find_dashboard(
            gui_host=gui_host,
            gui_port=gui_port,
            store=store,
            worker_id=worker_id,
            base_address=base_address,
        )
        url = f"{address}#token={token.text}"
        if print_url:
            click.echo(url)
        elif not webbrowser.open(url):
            say(f"no browser could be opened; the address is {url}")
