"""The dashboard's server, kept alive: what becomes of it must not matter to tasks."""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import trio

from fastworker.dashboard._server import serve_http

if TYPE_CHECKING:
    from fastworker.dashboard._dashboard import Dashboard

log = logging.getLogger("fastworker.dashboard")

FIRST_DELAY: Final = 1.0
MAX_DELAY: Final = 30.0
# Who has served for so long has recovered.
HEALTHY_SECONDS: Final = 60.0
# A host whose name nobody resolves must not hold up the control plane's start.
START_SECONDS: Final = 5.0


async def serve_for_ever(
    dashboard: Dashboard,
    host: str,
    port: int,
    *,
    task_status: trio.TaskStatus[str | None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until cancelled; a failure is logged, and then it is tried again.

    Args:
      task_status: is told the address as soon as it listens, or None if the first
        try did not come to that.
    """
    has_told = False

    def tell(address: str | None) -> None:
        nonlocal has_told
        if not has_told:
            has_told = True
            task_status.started(address)

    delay = FIRST_DELAY
    while True:
        began = trio.current_time()
        try:
            await _serve_once(dashboard, host, port, tell)
        except* OSError as errors:
            _log_os_error(errors, host, port, delay)
        except* Exception as errors:
            log.error("the dashboard failed; it is started again in %g s", delay)
            log.error("its traceback", exc_info=errors)
        tell(None)
        await trio.sleep(delay)
        is_healthy = trio.current_time() - began > HEALTHY_SECONDS
        delay = FIRST_DELAY if is_healthy else min(2 * delay, MAX_DELAY)


async def _serve_once(
    dashboard: Dashboard, host: str, port: int, tell: Callable[[str | None], None]
) -> None:
    def on_listening(real_port: int) -> None:
        address = f"http://{host}:{real_port}/"
        log.info("the dashboard listens at %s", address)
        tell(address)

    async with trio.open_nursery() as nursery:

        async def give_up_waiting() -> None:
            await trio.sleep(START_SECONDS)
            tell(None)

        nursery.start_soon(give_up_waiting)
        await serve_http(dashboard.app, host.strip("[]"), port, on_listening)


def _log_os_error(
    errors: BaseExceptionGroup[OSError], host: str, port: int, delay: float
) -> None:
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, OSError)
    if error.errno == errno.EADDRINUSE:
        log.warning(
            "the dashboard cannot listen at %s:%d, which is in use by another program; choose "
            "another with --gui-port, or none with --no-gui; trying again in %g s",
            host, port, delay,
        )  # fmt: skip
    else:
        log.warning(
            "the dashboard cannot listen at %s:%d: %s; trying again in %g s",
            host, port, error, delay,
        )  # fmt: skip
