"""Who may import whom, and what no layer may do.

Each rule is first shown to find what it is for; then all of them read the whole
package. A new rule, or an exception from one, goes to ``layer_rules.py``.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import fastworker
import fastworker._core

from .layer_rules import (
    MAY_CATCH_ALL,
    MAY_SLEEP,
    RULES,
    Rule,
    Source,
    everything_is_caught_only_to_be_raised,
    imports_go_one_way,
    machines_are_pure,
    machines_never_iterate_sets,
    nothing_polls,
    packages_stay_at_home,
)

ROOT = Path(str(fastworker.__file__)).parent
FILES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py"))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_package_keeps_the_rule(rule: Rule) -> None:
    violations = [
        f"fastworker/{path}:{line}: {message}"
        for path in FILES
        for line, message in rule(Source(path, ast.parse((ROOT / path).read_text())))
    ]
    assert violations == []


def test_the_map_of_the_core_names_files_that_exist() -> None:
    named = re.findall(r"``(_\w+)``", fastworker._core.__doc__ or "")
    assert len(named) > 20
    assert [name for name in named if f"_core/{name}.py" not in FILES] == []


@pytest.mark.parametrize("path", [*MAY_CATCH_ALL, *MAY_SLEEP])
def test_no_exception_from_a_rule_outlives_its_file(path: str) -> None:
    assert path in FILES


@pytest.mark.parametrize(
    ("rule", "path", "text"),
    [
        (imports_go_one_way, "_errors.py", "import fastworker._models"),
        (imports_go_one_way, "_models.py", "from fastworker._core import _codec"),
        (imports_go_one_way, "_core/_x.py", "from fastworker._transport._abc import Link"),
        (imports_go_one_way, "_core/_x.py", "from fastworker import _store"),
        (imports_go_one_way, "_core/_x.py", "from fastworker._serialization import FORMATS"),
        (imports_go_one_way, "_core/_x.py", "def f():\n    from fastworker._config import x"),
        (imports_go_one_way, "_transport/_x.py", "import fastworker._store._abc"),
        (imports_go_one_way, "_store/_x.py", "import fastworker._lanes._abc"),
        (imports_go_one_way, "_lanes/_x.py", "from fastworker._subworker import SubWorker"),
        (imports_go_one_way, "_lanes/_x.py", "from fastworker._some_new_shell import X"),
        (imports_go_one_way, "_client.py", "from fastworker.cli import main"),
        (imports_go_one_way, "_client.py", "from fastworker.testing import check_link"),
        (imports_go_one_way, "_client.py", "from fastworker import task"),
        (imports_go_one_way, "_client.py", "import fastworker"),
        (imports_go_one_way, "testing/__init__.py", "import fastworker.cli"),
        (imports_go_one_way, "testing/__init__.py", "from fastworker import cli"),
        (packages_stay_at_home, "_client.py", "import pynng"),
        (packages_stay_at_home, "_transport/_memory.py", "from pynng import Socket"),
        (packages_stay_at_home, "_subworker.py", "import anyio.lowlevel"),
        (packages_stay_at_home, "_client.py", "import click"),
        (machines_are_pure, "_core/_x.py", "import time"),
        (machines_are_pure, "_core/_x.py", "from os import path"),
        (machines_are_pure, "_core/_x.py", "def f():\n    import logging"),
        (machines_are_pure, "_core/_x.py", "async def f(): pass"),
        (machines_are_pure, "_core/_x.py", "from random import choice"),
        (machines_are_pure, "_core/_x.py", "import random\nrandom.random()"),
        (machines_are_pure, "_core/_x.py", "import random\nrng = random.Random()"),
        (machines_are_pure, "_core/_x.py", "from random import Random\nrng = Random(1)"),
        (machines_are_pure, "_core/_x.py", "print(1)"),
        (machines_never_iterate_sets, "_core/_x.py", "for x in {1, 2}: pass"),
        (machines_never_iterate_sets, "_core/_x.py", "[x for x in set(y)]"),
        (machines_never_iterate_sets, "_core/_x.py", "[*{x for x in y}]"),
        (machines_never_iterate_sets, "_core/_x.py", "def f(a: set[int]):\n    return list(a)"),
        (
            machines_never_iterate_sets,
            "_core/_x.py",
            "def f():\n    a = set()\n    return a.pop()",
        ),
        (
            machines_never_iterate_sets,
            "_core/_x.py",
            "A: Final[frozenset[int]] = b\ntuple(A - c)",
        ),
        (
            machines_never_iterate_sets,
            "_core/_x.py",
            "class X:\n  def f(self):\n    self.a: set[int] = b\n  def g(self):\n"
            "    for x in self.a: pass",
        ),
        (everything_is_caught_only_to_be_raised, "_x.py", "try: f()\nexcept Exception: pass"),
        (everything_is_caught_only_to_be_raised, "_x.py", "try: f()\nexcept: pass"),
        (
            everything_is_caught_only_to_be_raised,
            "_x.py",
            "try: f()\nexcept (ValueError, BaseException): raise\nfinally: pass\n"
            "try: f()\nexcept (ValueError, BaseException): g()",
        ),
        (nothing_polls, "_client.py", "import time\ntime.sleep(5)"),
        (nothing_polls, "_client.py", "while True: await trio.sleep(0.05)"),
        (nothing_polls, "_subworker.py", "PAUSE: Final = 0.1\nawait anyio.sleep(PAUSE)"),
    ],
)
def test_the_rule_finds_what_it_is_for(rule: Rule, path: str, text: str) -> None:
    assert len(list(rule(Source(path, ast.parse(text))))) == 1


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("_core/_x.py", "from fastworker._core._y import z\nfrom fastworker._errors import E"),
        ("_core/_x.py", "import random\ndef f(rng: random.Random): return rng.random()"),
        ("_core/_x.py", "from random import Random\ndef f(rng: Random): return rng.random()"),
        (
            "_core/_x.py",
            "def f(a: set[int]):\n  return sorted(a), len(a), 1 in a\nfor a in b: pass",
        ),
        ("_core/_x.py", "def f():\n  a = set()\ndef g(a: list[int]):\n  return list(a)"),
        ("_transport/_nng_socket.py", "import pynng"),
        ("_client_host.py", "import anyio"),
        ("_subworker.py", "from fastworker._lanes import make_lane\nimport fastworker._config"),
        ("_some_new_shell.py", "from fastworker._client import Client"),
        (
            "cli/_x.py",
            "from fastworker._control_plane import X\nfrom fastworker.cli._y import z",
        ),
        ("_x.py", "try: f()\nexcept BaseException:\n  g()\n  raise"),
        ("_x.py", "try: f()\nexcept Exception as error:\n  raise E from error"),
        (
            "_x.py",
            "await trio.sleep(5)\nawait trio.sleep(duration)\nawait trio.sleep_forever()",
        ),
    ],
)
def test_what_is_allowed_breaks_no_rule(path: str, text: str) -> None:
    source = Source(path, ast.parse(text))
    assert [found for rule in RULES for found in rule(source)] == []
