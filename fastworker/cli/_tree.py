"""Dotted names as a tree of plain text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


class _Node:
    def __init__(self) -> None:
        self.label: str | None = None
        self.children: dict[str, _Node] = {}


def draw_tree(
    entries: Iterable[tuple[Sequence[str], str]], *, unicode: bool = True
) -> list[str]:
    """Draw names that share their first parts below each other.

    Args:
      entries: of each its parts, such as ``("mail", "send")``, and what stands
        there in place of its last part.
      unicode: whether lines may be drawn with more than ASCII.

    Returns:
      The lines, sorted by parts. A name may also be the beginning of others.
    """
    root = _Node()
    for parts, label in entries:
        node = root
        for part in parts:
            node = node.children.setdefault(part, _Node())
        node.label = label
    lines: list[str] = []
    for name, node in sorted(root.children.items()):
        lines.append(node.label or name)
        _draw_children(node, "", lines, unicode)
    return lines


def _draw_children(node: _Node, indent: str, lines: list[str], unicode: bool) -> None:
    children = sorted(node.children.items())
    for number, (name, child) in enumerate(children, start=1):
        is_last = number == len(children)
        if unicode:
            branch, gap = ("└── ", "    ") if is_last else ("├── ", "│   ")
        else:
            branch, gap = ("`-- ", "    ") if is_last else ("|-- ", "|   ")
        lines.append(indent + branch + (child.label or name))
        _draw_children(child, indent + gap, lines, unicode)
