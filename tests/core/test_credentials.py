"""Where tokens come from, which files are refused, and that no token is ever shown."""

from __future__ import annotations

import os
import pickle
import stat
from pathlib import Path

import pytest

from fastworker import AuthTokens, Client, ConfigurationError, ControlPlaneWorker, SubWorker
from fastworker._core._roles import PeerRole
from fastworker._credentials import new_token_file, resolve_auth, token_files_of_worker

SECRET = "s3cret-that-no-message-may-show"


def proofs(tokens: AuthTokens | None) -> dict[PeerRole, bytes]:
    assert tokens is not None
    return {role: keys.proof for role, keys in tokens.keys.items()}


ALL = proofs(AuthTokens.for_all(SECRET))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return token_file(tmp_path / "all.token", SECRET)


def token_file(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(f"{text}\n")
    path.chmod(mode)
    return path


def test_one_token_is_for_every_role_and_has_other_keys_in_each() -> None:
    assert ALL.keys() == set(PeerRole)
    assert len(set(ALL.values())) == 3


def test_a_token_for_a_role_is_the_same_however_it_came(file: Path) -> None:
    one = {PeerRole.CLIENT: ALL[PeerRole.CLIENT]}
    assert (
        proofs(AuthTokens(client=SECRET)) == proofs(AuthTokens(client=SECRET.encode())) == one
    )
    assert proofs(AuthTokens.from_files({"client": file})) == one
    assert proofs(AuthTokens.from_file(file)) == ALL


@pytest.mark.parametrize("token", ["", "x", "x" * 15])
def test_a_short_token_is_refused(token: str) -> None:
    with pytest.raises(ConfigurationError, match=r"needs 16 at least.*fastworker token new"):
        AuthTokens(client=token)
    AuthTokens(client="x" * 16)


def test_no_token_at_all_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="has no token"):
        AuthTokens()


def test_tokens_are_shown_by_their_roles_only(file: Path) -> None:
    tokens = AuthTokens(client=SECRET, operator=SECRET)
    assert repr(tokens) == "<AuthTokens for client, operator>"
    components = [
        Client(auth=file),
        SubWorker("w1", "tcp://127.0.0.1:5555", auth=file),
        ControlPlaneWorker(auth=file, store="memory"),
    ]
    for shown in (tokens, *components):
        assert SECRET not in repr(shown) + str(shown)
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(tokens)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o601])
def test_a_file_that_others_may_use_is_refused(file: Path, mode: int) -> None:
    # X18
    file.chmod(mode)
    with pytest.raises(ConfigurationError, match=rf"mode {mode:04o}.*chmod 600") as caught:
        AuthTokens.from_file(file)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_a_file_of_its_owner_s_own_will_do(file: Path, mode: int) -> None:
    file.chmod(mode)
    assert proofs(AuthTokens.from_file(file)) == ALL


def test_a_link_to_a_file_of_one_s_own_is_followed(file: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(file)
    assert proofs(AuthTokens.from_file(link)) == ALL


def test_a_file_or_a_link_of_another_user_is_refused(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = tmp_path / "link"
    link.symlink_to(file)
    real_uid = os.geteuid()
    # As seen by somebody else; root's files are trusted, so these must not be root's.
    if real_uid == 0:
        os.chown(file, 4321, -1)
        os.chown(link, 4321, -1, follow_symlinks=False)
        real_uid = 4321
    monkeypatch.setattr(os, "geteuid", lambda: real_uid + 1)
    for path in (file, link):
        with pytest.raises(ConfigurationError, match="belongs to another user"):
            AuthTokens.from_file(path)


def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo, 0o600)
    for path, words in ((fifo, "is no file"), (tmp_path / "none", "No such file")):
        with pytest.raises(ConfigurationError, match=words):
            AuthTokens.from_file(path)


def test_a_token_in_the_place_of_a_file_s_name_is_not_shown() -> None:
    # X17: an easy mistake.
    with pytest.raises(ConfigurationError, match="cannot be read") as caught:
        resolve_auth(None, {"FASTWORKER_AUTH_TOKEN_FILE": SECRET})
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("text", ["a line of its own\nanother line", "x" * 5000])
def test_a_file_with_more_than_a_token_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigurationError, match="more than one line"):
        AuthTokens.from_file(token_file(tmp_path / "t", text))


def test_roles_that_are_none_are_refused(file: Path) -> None:
    with pytest.raises(ConfigurationError, match="'boss' is no role"):
        AuthTokens.from_files({"boss": file})


# --- from the environment ---


def test_the_environment_may_have_the_token_or_the_name_of_its_file(file: Path) -> None:
    assert resolve_auth(None, {}) is None
    assert proofs(resolve_auth(None, {"FASTWORKER_AUTH_TOKEN": SECRET})) == ALL
    assert proofs(resolve_auth(None, {"FASTWORKER_AUTH_TOKEN_FILE": str(file)})) == ALL


def test_the_variable_may_name_a_file_for_each_role(file: Path, tmp_path: Path) -> None:
    other = token_file(tmp_path / "o.token", "the token of the operators")
    named = {"FASTWORKER_AUTH_TOKEN_FILE": f"client={file}, operator={other}"}
    assert proofs(resolve_auth(None, named)) == proofs(
        AuthTokens(client=SECRET, operator="the token of the operators")
    )


@pytest.mark.parametrize("text", ["client=a,client=b", "a,b", "client=a,b", "boss=a,client=b"])
def test_a_variable_that_means_nothing_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="FASTWORKER_AUTH_TOKEN_FILE"):
        resolve_auth(None, {"FASTWORKER_AUTH_TOKEN_FILE": text})


def test_both_variables_at_once_are_refused(file: Path) -> None:
    both = {"FASTWORKER_AUTH_TOKEN": SECRET, "FASTWORKER_AUTH_TOKEN_FILE": str(file)}
    with pytest.raises(ConfigurationError, match="unset one") as caught:
        resolve_auth(None, both)
    assert SECRET not in str(caught.value)


def test_a_short_variable_is_refused_and_not_shown() -> None:
    with pytest.raises(ConfigurationError, match="FASTWORKER_AUTH_TOKEN has 9 bytes") as caught:
        resolve_auth(None, {"FASTWORKER_AUTH_TOKEN": "too-short"})
    assert "too-short" not in str(caught.value)


def test_an_argument_counts_before_the_environment(file: Path, tmp_path: Path) -> None:
    environ = {"FASTWORKER_AUTH_TOKEN": "another token of many bytes"}
    for auth in (file, str(file), AuthTokens.for_all(SECRET)):
        assert proofs(resolve_auth(auth, environ)) == ALL
    assert proofs(resolve_auth({"worker": file}, environ)) == {
        PeerRole.WORKER: ALL[PeerRole.WORKER]
    }
    assert resolve_auth(False, environ) is None
    for wrong in (True, 7):
        with pytest.raises(ConfigurationError, match="auth is a"):
            resolve_auth(wrong, environ)  # type: ignore[arg-type]


def test_a_subworker_that_is_started_gets_no_token_but_its_own() -> None:
    environ = {"PATH": "/bin", "FASTWORKER_AUTH_TOKEN_FILE": "client=c,worker=w,operator=o"}
    assert token_files_of_worker(environ) == {
        "PATH": "/bin",
        "FASTWORKER_AUTH_TOKEN_FILE": "worker=w",
    }
    for same in ({}, {"FASTWORKER_AUTH_TOKEN_FILE": "f"}, {"FASTWORKER_AUTH_TOKEN": "t"}):
        assert token_files_of_worker(same) == same


# --- new ones ---


def test_a_new_token_is_for_its_owner_alone_and_no_two_are_the_same(tmp_path: Path) -> None:
    # X18 in docs/faults.md.
    before = os.umask(0)
    try:
        for name in "ab":
            new_token_file(tmp_path / name)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o600
    one, other = ((tmp_path / name).read_text().strip() for name in "ab")
    assert len(one) == 43
    assert one != other
    assert len(proofs(AuthTokens.from_file(tmp_path / "a"))) == 3


def test_a_file_that_is_there_is_not_overwritten_nor_a_link_followed(tmp_path: Path) -> None:
    (tmp_path / "there").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for name in ("there", "link"):
        with pytest.raises(ConfigurationError, match="is there already"):
            new_token_file(tmp_path / name)
    assert (tmp_path / "there").read_text() == "mine"
    assert not (tmp_path / "elsewhere").exists()
    with pytest.raises(ConfigurationError, match="cannot be written"):
        new_token_file(tmp_path / "no" / "folder")
