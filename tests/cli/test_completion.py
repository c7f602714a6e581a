"""``fastworker completion``: TAB in a real bash."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from fastworker.cli import main


def environ() -> dict[str, str]:
    """In which ``fastworker`` is the command beside this Python."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path}


def complete_in_bash(*words: str) -> list[str]:
    """What bash would offer when TAB is pressed after the last word."""
    script = f"""
        eval "$(fastworker completion bash)"
        complete -p fastworker >/dev/null || exit 9
        COMP_WORDS=("$@") COMP_CWORD={len(words) - 1}
        _fastworker_completion fastworker "${{@: -1}}" "${{@: -2:1}}"
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(
        ["bash", "-c", script, "bash", *words],
        env=environ(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["fastworker", "con"], ["control-plane"]),
        (["fastworker", "e"], ["events"]),
        (["fastworker", "w"], ["workers"]),
        (["fastworker", "q"], ["queues"]),
        (["fastworker", "workers", "--w"], ["--watch"]),
        (["fastworker", "events", "--status", "su"], ["success"]),
        (["fastworker", "s"], ["simulate", "status", "store", "submit", "subworker"]),
        (["fastworker", "to"], ["token", "top"]),
        (["fastworker", "token", ""], ["new"]),
        (["fastworker", "certs", ""], ["init"]),
        (["fastworker", "ce"], ["certs"]),
        (["fastworker", "control-plane", "--tls-a"], ["--tls-allow"]),
        (["fastworker", "submit", "--auth"], ["--auth-token-file"]),
        (["fastworker", "do"], ["doctor"]),
        (["fastworker", "doctor", "--call"], ["--callback-allow"]),
        (["fastworker", "top", "--tok"], ["--token-file"]),
        (["fastworker", "submit", "--kw"], ["--kwargs"]),
        (["fastworker", "submit", "--args", "1", "2", "--non"], ["--non-blocking"]),
        (["fastworker", "submit", "--args", "1", "--mistyped", "--non"], ["--non-blocking"]),
        (["fastworker", "submit", "--priority", "c"], ["critical"]),
        (["fastworker", "completion", ""], ["bash", "zsh", "fish"]),
    ],
)
def test_bash_completes_commands_options_and_choices(
    words: list[str], offered: list[str]
) -> None:
    assert complete_in_bash(*words) == offered


def test_options_that_are_not_for_people_are_not_offered() -> None:
    assert "--supervised" not in complete_in_bash("fastworker", "subworker", "--")


@pytest.mark.parametrize(
    ("shell", "words", "word"),
    [("zsh", "fastworker con", "1"), ("fish", "fastworker", "con")],
)
def test_other_shells_have_scripts_and_answers_too(shell: str, words: str, word: str) -> None:
    # These shells are on few machines; what their scripts call is tested.
    script = CliRunner().invoke(main, ["completion", shell], prog_name="fastworker")
    assert script.exit_code == 0
    assert f"_FASTWORKER_COMPLETE={shell}_complete" in script.stdout
    done = subprocess.run(
        ["fastworker"],
        env=environ()
        | {
            "_FASTWORKER_COMPLETE": f"{shell}_complete",
            "COMP_WORDS": words,
            "COMP_CWORD": word,
        },
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0
    assert "control-plane" in done.stdout
