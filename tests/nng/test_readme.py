"""The README promises nothing that does not work; its blocks are run by tests/docs."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path

from fastworker.cli import main
from fastworker.cli._errors import Exit

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def setup_commands() -> list[str]:
    (block,) = blocks("sh")
    return [line for line in block.splitlines() if line and not line.startswith("#")]


def test_the_example_has_twenty_lines_at_most() -> None:
    (example,) = blocks("python")
    assert len([line for line in example.splitlines() if line.strip()]) <= 20


def test_there_are_two_set_up_commands_and_ci_runs_the_second() -> None:
    commands = setup_commands()
    assert len(commands) == 2
    assert all(command.startswith("python3 -m venv .venv && ") for command in commands)
    script = (ROOT / ".ci" / "run").read_text().splitlines()
    assert commands[1] in script
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_every_command_and_exit_code_is_in_a_table() -> None:
    for name in main.commands:
        assert f"| `fastworker {name}" in README
    codes = {int(code) for code in Exit}
    rows = re.findall(r"^\| ([\d, ]+) \|", README, re.MULTILINE)
    assert {int(code) for row in rows for code in row.split(",")} == codes


def test_every_link_to_a_file_leads_to_one() -> None:
    for page in [ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_every_dependency_is_explained() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    explained = (ROOT / "docs" / "dependencies.md").read_text()
    needed = project["project"]["dependencies"]
    needed += [item for group in project["dependency-groups"].values() for item in group]
    for requirement in needed:
        name = re.match(r"[\w-]+", requirement)
        assert name is not None
        assert re.search(rf"\b{name[0]}\b", explained), requirement
