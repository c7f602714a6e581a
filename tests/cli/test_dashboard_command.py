"""``fastworker dashboard`` and the control plane's part of it, without a process."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from click.testing import CliRunner

from fastworker import ControlPlaneWorker
from fastworker.cli import _dashboard_beside, _dashboard_place, main
from fastworker.dashboard import _proof
from fastworker.dashboard._token import Token, read_or_make_token


@pytest.fixture
def token(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> Token:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return read_or_make_token(_dashboard_beside.token_file(None, "control-plane", 5555))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Where it was looked for."""
    found: list[str] = []

    def is_ours(address: str, token: Token) -> bool:
        found.append(address)
        return True

    monkeypatch.setattr(_proof, "is_ours", is_ours)
    return found


@pytest.mark.parametrize(
    ("arguments", "address"),
    [
        ([], "http://127.0.0.1:8080/"),
        (["--gui-host=localhost", "--gui-port=81"], "http://localhost:81/"),
        (["--gui-host=0.0.0.0"], "http://127.0.0.1:8080/"),
        (["--gui-host=::"], "http://[::1]:8080/"),
    ],
)
def test_the_address_is_where_it_listens(
    arguments: list[str], address: str, token: Token, asked: list[str]
) -> None:
    found = CliRunner().invoke(main, ["dashboard", "--print-url", *arguments])
    assert found.output == f"{address}#token={token.text}\n"
    assert asked == [address]


def test_the_browser_is_opened_with_it(
    token: Token, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", lambda url: opened.append(url) or True)
    found = CliRunner().invoke(main, ["dashboard"])
    assert (found.exit_code, found.output) == (0, "")
    assert opened == [f"http://127.0.0.1:8080/#token={token.text}"]


def maker() -> Callable[[], object]:
    return _dashboard_beside.dashboard_beside(
        ControlPlaneWorker(store="memory"),
        is_wanted=True,
        host=None,
        port=None,
        allowed_hosts=None,
        insecure=None,
    )


def test_without_the_extra_it_is_said_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_dashboard_beside, "is_installed", lambda: False)
    monkeypatch.setenv("FASTWORKER_GUI_ENABLED", "1")
    with pytest.raises(_dashboard_beside.DashboardMissing) as caught:
        maker()()
    assert str(caught.value) == "none; it needs: pip install 'fastworker[dashboard]'"
    monkeypatch.setattr(_dashboard_place, "is_installed", lambda: False)
    found = CliRunner().invoke(main, ["dashboard"])
    assert found.exit_code == 78
    assert "pip install 'fastworker[dashboard]'" in found.output


def test_who_switched_it_off_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_dashboard_beside, "is_installed", lambda: False)
    monkeypatch.setenv("FASTWORKER_GUI_ENABLED", "0")
    assert maker()() is None
