"""``fastworker doctor``: its options, and how it shows what it has found."""

from __future__ import annotations

import click

from fastworker._doctor._row import Level, Row
from fastworker.cli import main
from fastworker.cli._doctor import _lines_of


def test_it_takes_every_option_of_the_control_plane() -> None:
    def options(command: click.Command) -> set[str]:
        return {
            option
            for parameter in command.params
            if not getattr(parameter, "hidden", False)
            for option in parameter.opts
        }

    plane, doctor = main.commands["control-plane"], main.commands["doctor"]
    assert options(doctor) == options(plane) | {"--json"}


def test_what_is_found_and_what_to_do_stand_below_each_other() -> None:
    rows = {
        "machine": [
            Row("disk", Level.OK, "much"),
            Row("open files", Level.WARN, "few", "more"),
        ],
        "network library": [Row("H1", Level.FAIL, "no\x1b[2J limit", "stop")],
    }
    assert _lines_of(rows) == [
        "machine",
        "  ok    disk        much",
        "  warn  open files  few",
        "                    do: more",
        "network library",
        "  fail  H1          no\\x1b[2J limit",
        "                    do: stop",
        "3 checks: 1 failed, 1 to be warned of",
    ]
