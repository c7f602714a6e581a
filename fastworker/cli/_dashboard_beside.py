"""The dashboard that ``fastworker control-plane`` serves, if it can be had."""

from __future__ import annotations

import importlib.util
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from fastworker._config import DashboardConfig
from fastworker._errors import ConfigurationError
from fastworker._settings import parse_address
from fastworker._stores import default_path
from fastworker._tls import settings_on_this_machine
from fastworker.cli._supervised import address_to_dial

if TYPE_CHECKING:
    from fastworker._control_plane import ControlPlaneWorker
    from fastworker.dashboard import Dashboard

log = logging.getLogger("fastworker.dashboard")

INSTALL = "pip install 'fastworker[dashboard]'"
NOT_INSTALLED = f"the dashboard needs: {INSTALL}"
_NEEDED = ("starlette", "hypercorn")


class DashboardMissing(Exception):
    """The extra is not installed; the message is for the banner."""


def dashboard_beside(
    worker: ControlPlaneWorker,
    *,
    is_wanted: bool,
    host: str | None,
    port: int | None,
    allowed_hosts: tuple[str, ...] | None,
    insecure: bool | None,
) -> Callable[[], Dashboard | None]:
    """Check what was said of the dashboard, before anything listens.

    Returns:
      What makes it, when the control plane listens; None if there is to be none. It
      raises DashboardMissing.

    Raises:
      ConfigurationError: a setting cannot be used.
    """
    config = DashboardConfig.resolve(
        os.environ,
        gui_host=host,
        gui_port=port,
        gui_allowed_hosts=allowed_hosts,
        insecure=insecure,
    )
    if not is_wanted or not config.gui_enabled:
        return lambda: None
    config.refuse_exposure()

    def make() -> Dashboard | None:
        if not is_installed():
            raise DashboardMissing(f"none; it needs: {INSTALL}")
        if config.gui_port:
            # Also while somebody else has the port, and it is tried again.
            worker.keep_callbacks_from(config.gui_port)
        from fastworker.dashboard import Dashboard

        try:
            return Dashboard(
                address_to_dial(worker.discovery_address),
                host=host,
                port=port,
                token_file=token_file(
                    worker.store.name if worker.store.is_durable else None,
                    worker.worker_id,
                    parse_address(worker.base_address).port,
                ),
                allowed_hosts=allowed_hosts,
                insecure=insecure,
                tls=None if worker.tls is None else settings_on_this_machine(worker.tls),
            )
        except ConfigurationError as error:
            log.error("there is no dashboard: %s", error)
            return None

    return make


def is_installed() -> bool:
    """Whether the extra ``dashboard`` is."""
    return all(importlib.util.find_spec(name) is not None for name in _NEEDED)


def token_file(store: str | None, worker_id: str, base_port: int) -> Path:
    """Where the token of a control plane is: beside its store, which None is in memory."""
    from fastworker.dashboard._token import token_path

    path = default_path(os.environ, worker_id, base_port) if store is None else Path(store)
    return token_path(path)


def address_to_open(address: str, token: str) -> str:
    """The address of the page, with what signs one in if a person reads stderr."""
    return f"{address}#token={token}" if sys.stderr.isatty() else address
