"""``fastworker doctor``: looks at all that a control plane needs, and says what to do."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import click

from fastworker.cli import _options
from fastworker.cli._control_plane import control_plane
from fastworker.cli._errors import Exit, errors_in_one_line
from fastworker.cli._output import one_line, print_json
from fastworker.cli._values import CommandWithLists

if TYPE_CHECKING:
    from fastworker._doctor._row import Row

# Where an option and its setting have different names.
_SETTINGS: Final = {
    "subworker_management_port": "subworker_port",
    "result_cache_max_size": "result_cache_size",
    "result_cache_ttl_seconds": "result_cache_ttl",
    "history_max_size": "history_size",
    "history_ttl_seconds": "history_ttl",
}


def _with_options_of_the_control_plane(command: click.Command) -> click.Command:
    command.params += [each for each in control_plane.params if not _is_hidden(each)]
    return command


def _is_hidden(parameter: click.Parameter) -> bool:
    return bool(getattr(parameter, "hidden", False))


@_with_options_of_the_control_plane
@click.command("doctor", cls=CommandWithLists)
@_options.as_json("Print one JSON object.")
def doctor(*, as_json: bool, **options: Any) -> None:
    """Check what a control plane needs, and say what to do.

    It takes the options of 'fastworker control-plane' and looks at the settings,
    versions, ports, files, disk, limits and clock, at who else could connect, and at
    the known hazards of the network library, of which it tries out what it can. It
    changes nothing, and may be run beside a control plane. Exit code 78 if something
    fails; warnings alone leave it 0.
    """
    with errors_in_one_line():
        from fastworker._doctor._row import Level, worst
        from fastworker.cli._doctor_parts import read_parts

        parts = read_parts(_settings_of(options), options, os.environ)
        rows = [row for rows in parts.values() for row in rows]
        level = worst(rows)
        if as_json:
            print_json(
                {
                    "level": level.value,
                    "checks": [
                        {
                            "part": part,
                            "check": row.check,
                            "level": row.level.value,
                            "found": row.found,
                            "advice": row.advice,
                        }
                        for part, rows in parts.items()
                        for row in rows
                    ],
                }
            )
        else:
            click.echo("\n".join(_lines_of(parts)))
        sys.exit(Exit.BAD_CONFIGURATION if level is Level.FAIL else Exit.OK)


def _settings_of(options: dict[str, Any]) -> Callable[[str], Any]:
    """What was said of a setting of the control plane, None if nothing."""

    def said(setting: str) -> Any:
        value = options.get(_SETTINGS.get(setting, setting))
        return None if value == () else value

    return said


def _lines_of(parts: dict[str, list[Row]]) -> list[str]:
    from fastworker._doctor._row import Level

    rows = [row for rows in parts.values() for row in rows]
    width = max(len(row.check) for row in rows)
    lines: list[str] = []
    for part, found in parts.items():
        lines += [part, *(line for row in found for line in _lines_of_row(row, width))]
    failed = sum(1 for row in rows if row.level is Level.FAIL)
    warned = sum(1 for row in rows if row.level is Level.WARN)
    lines.append(f"{len(rows)} checks: {failed} failed, {warned} to be warned of")
    return lines


def _lines_of_row(row: Row, width: int) -> list[str]:
    lines = [one_line(f"  {row.level.value:4}  {row.check:{width}}  {row.found}")]
    if row.advice:
        lines.append(one_line(f"  {'':4}  {'':{width}}  do: {row.advice}"))
    return lines
