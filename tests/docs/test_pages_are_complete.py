"""The reference pages name everything there is, with its real default."""

from __future__ import annotations

import dataclasses
import enum
import re
from pathlib import Path

import fastworker
from fastworker import _config, testing
from fastworker._core._callback_payload import CallbackPayload
from fastworker._core._messages import Kind
from fastworker._core._roles import ALLOWED_KINDS, PeerRole
from fastworker.cli._errors import Exit
from tests.docs.page import DOCS, ROOT

CONFIGS = [
    _config.ClientConfig,
    _config.ControlPlaneConfig,
    _config.SubWorkerConfig,
    _config.DashboardConfig,
    _config.CommandConfig,
]
# Read by a command or by the machines themselves.
OTHER_VARIABLES = {
    *("FASTWORKER_CRASH", "FASTWORKER_PROCESSES", "FASTWORKER_VALIDATE"),
    *("FASTWORKER_GUI_URL", "FASTWORKER_GUI_TOKEN_FILE"),
    *("FASTWORKER_AUTH_TOKEN", "FASTWORKER_AUTH_TOKEN_FILE"),
    *("FASTWORKER_TLS_CA", "FASTWORKER_TLS_CERT", "FASTWORKER_TLS_KEY"),
    *("FASTWORKER_TLS_SERVER_NAME", "FASTWORKER_TLS_MUTUAL", "FASTWORKER_TLS_ALLOW"),
}


def rows(page: Path) -> list[list[str]]:
    """The cells of a page's tables, without their headings' lines."""
    lines = re.findall(r"^\| (.*) \|$", page.read_text(), re.MULTILINE)
    return [[cell.strip() for cell in line.split(" | ")] for line in lines]


def test_the_api_page_has_every_public_name() -> None:
    text = (DOCS / "reference" / "api.md").read_text()
    text += (DOCS / "reference" / "errors.md").read_text()
    for name in fastworker.__all__:
        assert re.search(rf"fastworker\.{name}\b", text), name
    for name in testing.__all__:
        assert re.search(rf"fastworker\.testing\.{name}\b", text), name


def test_every_variable_is_in_its_table_with_its_default() -> None:
    table = {row[0].strip("`"): row[1] for row in rows(DOCS / "reference" / "environment.md")}
    del table["variable"]
    variables: dict[str, set[str]] = {}
    for config in CONFIGS:
        for field in dataclasses.fields(config):
            variable = field.metadata["variable"]
            if variable is not None:
                variables.setdefault(variable, set()).add(shown(field.default))
    assert set(table) == set(variables) | OTHER_VARIABLES
    for variable, defaults in variables.items():
        assert table[variable] in defaults, variable


def test_no_other_variable_is_read() -> None:
    read = set()
    for path in (ROOT / "fastworker").rglob("*.py"):
        read |= set(re.findall(r'"(FASTWORKER_[A-Z_]+)"', path.read_text()))
    known = {row[0].strip("`") for row in rows(DOCS / "reference" / "environment.md")}
    assert read <= known


def shown(default: object) -> str:
    if default in (None, ()) or default is dataclasses.MISSING:
        return "-"
    if isinstance(default, enum.Enum):
        return f"`{default.value}`"
    return f"`{default:g}`" if isinstance(default, float) else f"`{_number_or_text(default)}`"


def _number_or_text(default: object) -> str:
    return str(int(default)) if isinstance(default, bool) else str(default)


def test_the_page_about_security_has_the_table_of_roles() -> None:
    cells = [row for row in rows(DOCS / "security.md") if row[0] in Kind.__members__]
    assert sorted(row[0] for row in cells) == sorted(Kind.__members__)
    for kind, *said in cells:
        for role, text in zip(PeerRole, said, strict=True):
            assert (text != "no") == (Kind[kind] in ALLOWED_KINDS[role]), (kind, role)


def test_every_exit_code_is_in_its_table() -> None:
    table = rows(DOCS / "reference" / "exit-codes.md")[1:]
    assert [(row[0], row[1]) for row in table] == [(str(int(code)), code.name) for code in Exit]


def test_the_page_on_callbacks_names_every_key_of_the_message() -> None:
    text = (DOCS / "callbacks.md").read_text()
    assert [key for key in CallbackPayload.__struct_fields__ if f"`{key}`" not in text] == []
