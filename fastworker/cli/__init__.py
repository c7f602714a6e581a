"""The command line: one file for each command.

Only click is imported here and at the top of the commands' files: ``--help``
must not wait for event loops and sockets. What a command needs, it imports
when it runs.
"""

from __future__ import annotations

import click

from fastworker.cli._callbacks import callbacks
from fastworker.cli._cancel import cancel
from fastworker.cli._certs import certs
from fastworker.cli._completion import completion
from fastworker.cli._control_plane import control_plane
from fastworker.cli._dashboard import dashboard
from fastworker.cli._demo import demo
from fastworker.cli._doctor import doctor
from fastworker.cli._events import events
from fastworker.cli._list import list_tasks
from fastworker.cli._queues import queues
from fastworker.cli._simulate import simulate
from fastworker.cli._status import status
from fastworker.cli._store import store
from fastworker.cli._submit import submit
from fastworker.cli._subworker import subworker
from fastworker.cli._task_actions import purge, requeue
from fastworker.cli._tasks import tasks
from fastworker.cli._token import token
from fastworker.cli._top import top
from fastworker.cli._workers import workers

__all__ = ["main"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="fastworker", prog_name="fastworker")
def main() -> None:
    """A task queue with no broker to run.

    Start a control plane, submit tasks to it, and add subworkers when one
    process is not enough.

    Exit codes: 0 done, 1 the task failed, 2 wrong usage, 3 unknown task or id,
    4 timed out, 5 cancelled, 69 no control plane, 75 refused: try again,
    77 not permitted, 78 wrong configuration, 130 and 143 ended by a signal.
    """


for command in (
    control_plane,
    subworker,
    submit,
    status,
    cancel,
    list_tasks,
    tasks,
    workers,
    queues,
    events,
    requeue,
    purge,
    callbacks,
    store,
    token,
    certs,
    dashboard,
    top,
    doctor,
    demo,
    simulate,
    completion,
):
    main.add_command(command)
