"""Whatever the README, the tutorial and the how-to pages show, works as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.page import ROOT, Block, blocks, run_pages
from tests.docs.reader import open_reader, pattern_of

# What is not run, and why.
NOT_RUN = {
    "sh": "installs the package, which whoever runs the tests has done",
    "ini": "units of a service manager that a test machine need not have",
    "text": "words, not commands, or those of machines that a test cannot have",
    "bash": "typed on two hosts, which tests/nng/test_two_hosts.py has",
    "{literalinclude}": "files, which tests/docs/test_deploy_files.py reads",
    "{toctree}": "a list of pages",
}
# Files that a page speaks of without showing them.
GIVEN = {
    "README.md": {
        "mytasks.py": (
            "from fastworker import task\n\n\n"
            "@task\ndef add(x: int, y: int) -> int:\n    return x + y\n"
        )
    }
}


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.nng
@pytest.mark.slow
@pytest.mark.parametrize("page", run_pages(), ids=name_of)
def test_a_reader_who_does_what_the_page_says_sees_what_it_shows(
    page: Path, tmp_path: Path
) -> None:
    text = page.read_text()
    for name, content in GIVEN.get(name_of(page), {}).items():
        (tmp_path / name).write_text(content)
    with open_reader(tmp_path, text) as reader:
        for block in blocks(text):
            reader.follow(block)


@pytest.mark.parametrize("page", run_pages(), ids=name_of)
def test_every_block_is_run_or_known_not_to_be(page: Path) -> None:
    text = page.read_text()
    found = blocks(text)
    known = {"python", "console", *NOT_RUN}
    assert [
        (block.line, block.language) for block in found if block.language not in known
    ] == []
    # An indented or tilde fence would not be found, and so not be run.
    assert len(re.findall(r"^\s*(```|~~~)", text, re.MULTILINE)) == 2 * len(found)


@pytest.mark.parametrize("page", run_pages(), ids=name_of)
def test_what_is_not_run_only_installs(page: Path) -> None:
    for block in blocks(page.read_text()):
        if block.language == "sh":
            for line in block.text.splitlines():
                assert re.match(r"#|$|python3 -m venv |mkdir |\. \.venv|pip install ", line)


def test_a_block_knows_its_language_caption_and_file() -> None:
    page = "a\n```{code-block} console\n:caption: Shell 1\n\n$ x\n```\n```python\n# a.py\n```\n"
    assert blocks(page) == [
        Block("console", "$ x\n", "Shell 1", 2),
        Block("python", "# a.py\n", "", 7),
    ]
    assert blocks(page)[1].file_name == "a.py"


@pytest.mark.parametrize(
    ("shown", "output", "fits"),
    [
        ("8\n", "8\n", True),
        ("8\n", "9\n", False),
        ("a ... c\n", "a b c\n", True),
        ("a ... c\n", "a b\nc\n", False),
        ("a\n...\nc\n", "a\n1\n2\nc\n", True),
        ("a\n...\n", "b\n", False),
        ("", "surprise\n", False),
        ("(a.b)\n", "(aXb)\n", False),
    ],
)
def test_three_dots_stand_for_anything_else(shown: str, output: str, *, fits: bool) -> None:
    assert bool(re.fullmatch(pattern_of(shown), output)) is fits
