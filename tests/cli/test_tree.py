"""Dotted names as a tree of plain text: pure."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fastworker.cli._list import line
from fastworker.cli._tree import draw_tree

PARTS = st.lists(st.sampled_from("abc"), min_size=1, max_size=4)


def test_shared_beginnings_are_drawn_once_and_all_is_sorted() -> None:
    names = ["b.y", "a", "b.x.deep", "b.x"]
    entries = [(name.split("."), f"<{name}>") for name in names]
    assert draw_tree(entries) == [
        "<a>",
        "b",
        "├── <b.x>",
        "│   └── <b.x.deep>",
        "└── <b.y>",
    ]
    assert draw_tree(entries, unicode=False) == [
        "<a>",
        "b",
        "|-- <b.x>",
        "|   `-- <b.x.deep>",
        "`-- <b.y>",
    ]


@given(st.lists(PARTS, unique_by=tuple))
def test_every_name_has_one_line_at_the_depth_of_its_parts(names: list[list[str]]) -> None:
    entries = [(parts, "<" + ".".join(parts) + ">") for parts in names]
    lines = draw_tree(entries, unicode=False)
    prefixes = {tuple(parts[:n]) for parts in names for n in range(1, len(parts) + 1)}
    assert len(lines) == len(prefixes)
    for parts, label in entries:
        (found,) = [text for text in lines if text.endswith(label)]
        assert len(found) - len(label) == 4 * (len(parts) - 1)


def test_what_a_worker_announces_cannot_write_to_the_terminal_at_will() -> None:
    live = {
        "name": "bad\x1b[2J",
        "signature": "()\n",
        "doc": "a\rb",
        "workers": ("w\x07",),
        "worker_count": 1,
    }
    assert line(live).isprintable()


def test_of_many_workers_three_are_shown() -> None:
    live = {"name": "a.b", "signature": "()", "doc": "", "workers": ("1", "2", "3", "4")}
    assert line(live | {"worker_count": 30}) == "a.b()  [1, 2, 3 and 27 more]"
    assert line(live | {"worker_count": 3}, short=True) == "b()  [1, 2, 3]"
