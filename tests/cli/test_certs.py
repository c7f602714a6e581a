"""``fastworker certs init``: what it prints, and what it says when it cannot work."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fastworker.cli import main
from fastworker.cli._errors import Exit


def init(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["certs", "init", *arguments])


def test_it_prints_each_file_and_on_stderr_what_to_type_next(tmp_path: Path) -> None:
    folder = tmp_path / "certs"
    done = init(str(folder), "--host", "queue.example", "--host", "::1")
    assert done.exit_code == 0
    assert sorted(done.stdout.split()) == sorted(str(path) for path in folder.iterdir())
    assert f"--tls-cert {folder}/worker.pem" in done.stderr
    assert "--control-plane-address tls+tcp://queue.example:5560" in done.stderr
    assert "Take ca.key off this machine" in done.stderr


def test_an_address_of_ipv6_is_shown_as_it_is_typed(tmp_path: Path) -> None:
    assert "tls+tcp://[fd00::1]:5550" in init(str(tmp_path / "c"), "--host", "fd00::1").stderr


def test_a_second_time_is_an_error_and_changes_nothing(tmp_path: Path) -> None:
    assert init(str(tmp_path)).exit_code == 0
    key = (tmp_path / "ca.key").read_bytes()
    again = init(str(tmp_path))
    assert again.exit_code == Exit.BAD_CONFIGURATION
    assert "nothing is overwritten" in again.stderr
    assert (tmp_path / "ca.key").read_bytes() == key


def test_without_the_extra_it_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in list(sys.modules):
        if name == "fastworker._certificates" or name.partition(".")[0] == "cryptography":
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [_NoCryptography(), *sys.meta_path])
    refused = init(str(tmp_path / "certs"))
    assert refused.exit_code == Exit.BAD_CONFIGURATION
    assert "pip install 'fastworker[tls]'" in refused.stderr
    assert not (tmp_path / "certs").exists()


class _NoCryptography:
    """Finds that the package is not installed."""

    def find_spec(self, name: str, *_: object) -> None:
        if name.partition(".")[0] == "cryptography":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
