"""``fastworker token``: make the shared secrets by which peers know each other."""

from __future__ import annotations

import click

from fastworker.cli._errors import errors_in_one_line


@click.group()
def token() -> None:
    """Make tokens: secrets that control planes and their peers share.

    See the page about security for what they give, and what not.
    """


@token.command("new")
@click.argument("file")
def new(file: str) -> None:
    """Make FILE with a new token in it, which only you may read.

    Give the file to a control plane and to its peers with --auth-token-file. A file
    that is there already is left alone.
    """
    with errors_in_one_line():
        from pathlib import Path

        from fastworker._credentials import new_token_file

        new_token_file(Path(file))
