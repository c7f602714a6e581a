"""A page of the documentation as the runner sees it: blocks of a language, in order."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"

_FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_DIRECTIVE = re.compile(r"\{([\w-]+)\}\s*(.*)")
_OPTION = re.compile(r"^:([\w-]+):[ ]*(.*)\n")


@dataclass(frozen=True)
class Block:
    """One fenced block.

    ``language`` of a MyST directive is its name in braces, but that of
    ``{code-block}`` is its argument. ``caption`` names the shell of a console.
    """

    language: str
    text: str
    caption: str
    line: int

    @property
    def file_name(self) -> str:
        """What a Python block's first line says it is, or nothing."""
        found = re.match(r"# ([\w/.-]+\.py)\n", self.text)
        return found[1] if found else ""


def blocks(text: str) -> list[Block]:
    """All fenced blocks of a page."""
    found = []
    for fence in _FENCE.finditer(text):
        language, body, caption = fence[1].strip(), fence[2], ""
        directive = _DIRECTIVE.fullmatch(language)
        if directive is not None:
            is_code = directive[1] == "code-block"
            language = directive[2].strip() if is_code else f"{{{directive[1]}}}"
            while (option := _OPTION.match(body)) is not None:
                caption = option[2] if option[1] == "caption" else caption
                body = body[option.end() :]
            body = body.removeprefix("\n")
        line = text.count("\n", 0, fence.start()) + 1
        found.append(Block(language, body, caption, line))
    return found


def run_pages() -> list[Path]:
    """The pages whose every block is run, as a reader would."""
    return [
        ROOT / "README.md",
        *sorted((DOCS / "tutorial").glob("*.md")),
        *sorted((DOCS / "how-to").glob("*.md")),
        DOCS / "callbacks.md",
        DOCS / "testing-your-tasks.md",
    ]
