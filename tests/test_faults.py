"""``docs/faults.md`` names tests that exist, and those say which fault they are about."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROW = re.compile(r"^\| (?P<fault>[^|]+?) \|.*\| (?P<tests>`tests/[^|]*) \|$", re.MULTILINE)
TEST = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")
NUMBERED = re.compile(r"[NTHXDK]\d+")
PAGE = (ROOT / "docs" / "faults.md").read_text()

# Of the faults and hazards that the parts which exist can meet.
FAULTS = {
    *(f"N{number}" for number in range(5, 12)),
    *(f"T{number}" for number in range(1, 6)),
    *(f"D{number}" for number in range(1, 7)),
    "K4",
    "K5",
    "H1",
    *(f"H{number}" for number in range(7, 17)),
    "H19",
    "H23",
}


def rows() -> list[tuple[str, str, str]]:
    """``(fault, file, test)`` of everything the tables name."""
    return [
        (row["fault"], file, name)
        for row in ROW.finditer(PAGE)
        for file, name in TEST.findall(row["tests"])
    ]


@functools.cache
def functions_of(file: str) -> dict[str, str]:
    """The source of each test of a file."""
    source = (ROOT / file).read_text()
    lines = source.splitlines()
    return {
        node.name: "\n".join(lines[node.lineno - 1 : node.end_lineno])
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def test_every_fault_has_its_row() -> None:
    faults = {fault for fault, _, _ in rows()}
    assert faults >= FAULTS
    named = {(file, name) for _, file, name in rows()}
    assert (
        set(TEST.findall(PAGE)) - named
        == {
            (
                "tests/nng/test_leaks.py",
                "test_nothing_grows_in_a_control_plane_that_much_came_through",
            )
        }
        - named
    )


@pytest.mark.parametrize(("file", "name"), sorted(set(TEST.findall(PAGE))))
def test_every_test_that_is_named_exists(file: str, name: str) -> None:
    assert name in functions_of(file)


@pytest.mark.parametrize(
    ("fault", "file", "name"), [row for row in rows() if NUMBERED.fullmatch(row[0])]
)
def test_every_test_says_which_fault_it_is_about(fault: str, file: str, name: str) -> None:
    says = functions_of(file)[name]
    assert re.search(rf"\b{fault}\b", says) or f"_{fault.lower()}_" in name
