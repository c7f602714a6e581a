"""``fastworker completion``: what makes TAB complete commands and options."""

from __future__ import annotations

import click

COMPLETE_VARIABLE = "_FASTWORKER_COMPLETE"


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print a script that completes commands and options.

    \b
    bash (4.4 or later), in ~/.bashrc:  eval "$(fastworker completion bash)"
    zsh, in ~/.zshrc:                   eval "$(fastworker completion zsh)"
    fish, in ~/.config/fish/config.fish:  fastworker completion fish | source
    """
    from click.shell_completion import get_completion_class

    complete = get_completion_class(shell)
    assert complete is not None
    command = click.get_current_context().find_root().command
    click.echo(complete(command, {}, "fastworker", COMPLETE_VARIABLE).source())
