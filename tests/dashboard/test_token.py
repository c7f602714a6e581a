"""The token's file is its owner's alone, whole or not there, and kept across restarts."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from fastworker import ConfigurationError
from fastworker.dashboard._token import (
    Token,
    new_token,
    read_or_make_token,
    read_token,
    token_path,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return token_path(tmp_path / "state" / "tasks.db")


def test_a_token_is_made_once_and_kept(path: Path) -> None:
    made = read_or_make_token(path)
    assert read_or_make_token(path).text == read_token(path).text == made.text
    assert path.name == "tasks.db.token"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert list(path.parent.iterdir()) == [path]


def test_it_is_for_its_owner_alone_whatever_the_umask_is(path: Path) -> None:
    # X12 in docs/faults.md.
    before = os.umask(0)
    try:
        read_or_make_token(path)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o600


def test_of_many_who_make_it_at_once_all_have_the_same(path: Path) -> None:
    found: list[str] = []
    barrier = threading.Barrier(8)

    def make() -> None:
        barrier.wait(10)
        found.append(read_or_make_token(path).text)

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(found) == 8
    assert len(set(found)) == 1
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_one_that_others_can_read_is_not_used(path: Path, mode: int) -> None:
    read_or_make_token(path)
    path.chmod(mode)
    with pytest.raises(ConfigurationError, match="can be read by others") as caught:
        read_or_make_token(path)
    assert f"{mode:04o}" in str(caught.value)


def test_a_link_is_not_followed(path: Path, tmp_path: Path) -> None:
    read_or_make_token(path)
    link = tmp_path / "link"
    link.symlink_to(path)
    with pytest.raises(ConfigurationError, match="is a link"):
        read_or_make_token(link)


def test_a_folder_is_no_token_and_nothing_is_left_open(path: Path) -> None:
    # A container that mounts a file that is not there makes a folder.
    path.mkdir(parents=True)
    before = os.listdir("/proc/self/fd")
    with pytest.raises(ConfigurationError, match="not a file"):
        read_or_make_token(path)
    assert os.listdir("/proc/self/fd") == before


@pytest.mark.parametrize("text", ["", "short", "x" * 31, "x" * 300, "ä" * 40, "a b" * 20])
def test_one_that_is_damaged_is_not_used_and_not_shown(path: Path, text: str) -> None:
    read_or_make_token(path)
    path.write_text(text)
    with pytest.raises(ConfigurationError, match="is damaged") as caught:
        read_or_make_token(path)
    assert not text or text not in str(caught.value)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="cannot be"):
        read_or_make_token(tmp_path / "file" / "token")


def test_a_device_is_no_token() -> None:
    with pytest.raises(ConfigurationError, match="not a file"):
        read_token(Path("/dev/null"))


def test_tokens_differ_and_do_not_show_themselves() -> None:
    tokens = [new_token() for _ in range(100)]
    assert len({token.text for token in tokens}) == 100
    assert all(len(token.text) >= 43 for token in tokens)
    assert all(token.text not in f"{token!r}{token}" for token in tokens)
    assert not tokens[0].is_token(tokens[1].text)
    assert not tokens[0].is_cookie(tokens[0].text)
    assert tokens[0].is_cookie(Token(tokens[0].text).cookie)
