"""What a terminal gets: no codes where none are wanted, and text only elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.nng.shell import Background, Shell, open_shell
from tests.ports import free_address

pytestmark = [pytest.mark.nng, pytest.mark.slow]


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    files = tmp_path / "files"
    files.mkdir()
    for number in range(200):
        (files / str(number)).write_text("line\n" * number)
    with open_shell(tmp_path) as shell:
        shell.environ |= {"TERM": "xterm-256color"}
        for name in ("NO_COLOR", "FORCE_COLOR", "COLORTERM"):
            shell.environ.pop(name, None)
        yield shell


def shown(shell: Shell, *words: str) -> str:
    """What a command writes to its terminal, to either stream."""
    command: Background = shell.start(*words, terminal=True, stderr_too=True)
    text = command.read_terminal()
    command.wait()
    return text


def test_a_terminal_gets_a_bar_and_a_bold_table(shell: Shell) -> None:
    assert "\x1b[" in shown(shell, "demo", "files")


@pytest.mark.parametrize(
    "words",
    [
        ["demo", "files"],
        ["--help"],
        ["list", "--task-modules", "fastworker.demo", "--tree"],
        ["submit", "--nonsense"],
        ["list", "--task-modules", "no_such_module"],
        ["status", "--task-id", "x", "--discovery-address", free_address()],
    ],
    ids=lambda words: " ".join(words[:3]),
)
def test_no_color_means_no_codes_at_all(shell: Shell, words: list[str]) -> None:
    shell.environ["NO_COLOR"] = "1"
    text = shown(shell, *words)
    assert text
    assert "\x1b" not in text


def test_an_empty_no_color_is_none(shell: Shell) -> None:
    shell.environ["NO_COLOR"] = ""
    assert "\x1b[" in shown(shell, "demo", "files")


def test_a_pipe_gets_text_only(shell: Shell) -> None:
    done = shell.run("demo", "files")
    assert done.returncode == 0
    assert "tasks/s" in done.stdout
    assert "\x1b" not in done.stdout + done.stderr
