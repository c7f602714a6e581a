"""The files of the page, read: what must not be in them, and what must be there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fastworker.dashboard._static import FOLDER

FILES = sorted(path for path in FOLDER.rglob("*") if path.is_file())
SOURCES = [path for path in FILES if path.suffix in (".js", ".css", ".html")]
# What makes markup or code of a text, and what a strict policy forbids.
FORBIDDEN = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|setHTML"
    r"|createContextualFragment|srcdoc|\beval\(|new Function|javascript:"
    r"|\sstyle=|<style|\son[a-z]+=\"|<script(?![^>]*\ssrc=)"
)
# Nothing of elsewhere, not even a name space that looks like an address.
ELSEWHERE = re.compile(r"(?<![\"'`])\b(?:https?:)?//[a-z0-9.-]+\.[a-z]{2,}/|url\(|@import")


def name_of(path: Path) -> str:
    return path.relative_to(FOLDER).as_posix()


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_no_file_makes_markup_of_text_or_loads_from_elsewhere(path: Path) -> None:
    text = path.read_text()
    assert FORBIDDEN.findall(text) == []
    assert ELSEWHERE.findall(text) == []


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_every_file_is_short_and_says_first_why_it_exists(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert len(lines) <= 400
    if path.suffix != ".html":
        assert re.match(r"// \S|/\* \S", lines[0])


def test_every_file_is_used_and_every_used_file_is_there() -> None:
    used = {"index.html", "sign-in.html"}
    for path in SOURCES:
        text = path.read_text()
        for name in re.findall(r"(?:src|href)=\"static/([^\"]+)\"", text):
            used.add(name)
        for name in re.findall(r"from \"(\.[^\"]+)\"", text):
            used.add(name_of((path.parent / name).resolve()))
    assert used == {name_of(path) for path in FILES}
