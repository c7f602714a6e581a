"""Where this machine's dashboard is, and the token that lets somebody in."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from fastworker._config import ControlPlaneConfig, DashboardConfig
from fastworker._errors import ConfigurationError, LinkBroken
from fastworker._stores import MEMORY
from fastworker.cli._dashboard_beside import NOT_INSTALLED, is_installed
from fastworker.cli._dashboard_beside import token_file as token_file_of

if TYPE_CHECKING:
    from fastworker.dashboard._token import Token


def find_dashboard(
    *,
    gui_host: str | None,
    gui_port: int | None,
    store: str | None,
    worker_id: str | None,
    base_address: str | None,
    token_file: Path | None = None,
) -> tuple[str, Token]:
    """The address and the token, by what the control plane was told at its start.

    Args:
      token_file: where the token is, if not beside the store.

    Raises:
      ConfigurationError: there is no token, or it cannot be read.
      LinkBroken: nobody who has this token answers at the address.
    """
    config = DashboardConfig.resolve(os.environ, gui_host=gui_host, gui_port=gui_port)
    plane = ControlPlaneConfig.resolve(
        os.environ,
        store=store,
        worker_id=worker_id,
        base_address=base_address,
        insecure=True,
    )
    if not is_installed():
        raise ConfigurationError(NOT_INSTALLED)
    from fastworker.dashboard._proof import is_ours
    from fastworker.dashboard._token import read_token

    name = None if plane.store in (None, MEMORY) else plane.store
    path = token_file or token_file_of(name, plane.worker_id, plane.base.port)
    try:
        token = read_token(path)
    except FileNotFoundError:
        raise ConfigurationError(
            f"there is no token {path}: start 'fastworker control-plane' first, or give "
            f"the options that it was started with"
        ) from None
    address = f"http://{_host_to_open(config.gui_host)}:{config.gui_port}/"
    if not is_ours(address, token):
        # Whoever else answers there must not be shown the token.
        raise LinkBroken(
            f"no dashboard with this token answers at {address}; start 'fastworker "
            f"control-plane', or give the options that it was started with"
        )
    return address, token


def _host_to_open(host: str) -> str:
    return {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}.get(host, host)  # noqa: S104 - opened
