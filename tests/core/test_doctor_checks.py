"""What the doctor judges: each check by itself, from facts."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from fastworker._doctor._checks import (
    NEEDED,
    check_dashboard,
    check_disk,
    check_exposure,
    check_files,
    check_machine,
    check_ports,
    check_settings,
    check_variables,
    check_versions,
    numbers_of,
)
from fastworker._doctor._facts import (
    Disk,
    FileFacts,
    Library,
    Machine,
    Port,
    SelfTests,
    SocketFacts,
    Versions,
)
from fastworker._doctor._hazards import HAZARDS, check_hazards
from fastworker._doctor._row import Level, Row, worst
from fastworker.cli._doctor_parts import known_variables

ROOT = Path(__file__).parents[2]
MIB = 1024 * 1024
GOOD = Versions(
    (3, 12, 1),
    "Linux",
    {name: ".".join(map(str, wanted)) for name, wanted in NEEDED.items()},
    "1.11.0",
    "Mbed TLS 3.6.3",
)
REQ = SocketFacts("req", True, 17 * MIB, True, 100, 1000)
LIBRARY = Library("1.11.0", "Mbed TLS 3.6.3", True, [REQ])
DISK = Disk("/var", 10 * 1024 * MIB, 100 * 1024 * MIB, 10_000, 20_000)
MACHINE = Machine(65_536, 1.8e9, True)


def levels(rows: list[Row]) -> set[Level]:
    return {row.level for row in rows}


def test_whatever_is_not_right_comes_with_what_to_do() -> None:
    rows = [
        *check_versions(dataclasses.replace(GOOD, python=(3, 10, 0), nng="1.9", tls="")),
        *check_ports([Port("base_address", "tcp://127.0.0.1:1", "in use", True)]),
        *check_files([FileFacts("/x", "token", 0o100644, is_secret=True)]),
        *check_machine(Machine(100, 0.0, None)),
        *check_exposure(["a"], is_authenticated=False, has_tls=False, insecure=False),
        *check_settings("timeout=0", {}),
        *check_variables(["FASTWORKER_X"], []),
    ]
    for row in rows:
        assert bool(row.advice) is (row.level is not Level.OK), row


@pytest.mark.parametrize(
    ("changes", "check", "level"),
    [
        ({}, "python", Level.OK),
        ({"python": (3, 10, 9)}, "python", Level.FAIL),
        ({"system": "Darwin"}, "system", Level.WARN),
        ({"installed": {**GOOD.installed, "trio": ""}}, "trio", Level.FAIL),
        ({"installed": {**GOOD.installed, "trio": "0.30.9"}}, "trio", Level.FAIL),
        ({"installed": {**GOOD.installed, "trio": "1.0"}}, "trio", Level.OK),
        ({"installed": {**GOOD.installed, "pynng": "0.10.1"}}, "pynng", Level.WARN),
        ({"nng": "1.12.0"}, "nng", Level.WARN),
        ({"tls": ""}, "mbedtls", Level.WARN),
        ({"tls": "Mbed TLS 2.28.1"}, "mbedtls", Level.WARN),
    ],
)
def test_a_version_that_is_not_the_one_that_is_tested_is_told(
    changes: dict[str, Any], check: str, level: Level
) -> None:
    # X22 in docs/faults.md.
    rows = check_versions(dataclasses.replace(GOOD, **changes))
    assert [row.level for row in rows if row.check == check] == [level]
    assert worst(row for row in rows if row.check != check) is Level.OK


def test_the_versions_that_are_needed_are_those_of_the_project_file() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked: dict[str, tuple[int, ...]] = {}
    for requirement in project["dependencies"]:
        name = re.match(r"[a-z]+", requirement)
        assert name is not None
        asked[name[0]] = numbers_of(requirement)
    # sniffio has no say in anything that the doctor looks at.
    assert {name: asked[name] for name in NEEDED} == NEEDED
    assert set(asked) - set(NEEDED) == {"sniffio"}


def test_a_mistyped_variable_is_told_with_the_one_that_was_meant() -> None:
    [row] = check_variables(["PATH", "FASTWORKER_STOER"], ["FASTWORKER_STORE"])
    assert row.level is Level.WARN
    assert "FASTWORKER_STOER" in row.found
    assert "did you mean FASTWORKER_STORE?" in row.advice
    assert levels(check_variables(["FASTWORKER_STORE"], ["FASTWORKER_STORE"])) == {Level.OK}


def test_every_variable_of_the_reference_is_known_to_the_doctor() -> None:
    page = (ROOT / "docs" / "reference" / "environment.md").read_text()
    assert set(known_variables()) == set(re.findall(r"^\| `(FASTWORKER_\w+)`", page, re.M))


@pytest.mark.parametrize(
    ("port", "level", "words"),
    [
        (Port("gui_port", "tcp://h:1"), Level.OK, "is free"),
        (Port("gui_port", "tcp://h:1", "x", True, 7, "redis"), Level.FAIL, "process 7 (redis)"),
        (Port("gui_port", "tcp://h:1", "x", True), Level.FAIL, "cannot be seen from here"),
        (Port("gui_port", "tcp://h:1", "x", True, 7, "py", True), Level.OK, "control plane"),
        (Port("gui_port", "tcp://h:1", "no such host"), Level.FAIL, "no such host"),
    ],
)
def test_a_port_is_free_or_has_its_own_control_plane_or_is_told_by_whom_it_is_taken(
    port: Port, level: Level, words: str
) -> None:
    [row] = check_ports([port])
    assert row.level is level
    assert words in row.found


@pytest.mark.parametrize(
    ("mode", "changes", "level"),
    [
        (0o100600, {}, Level.OK),
        (0o100644, {}, Level.WARN),
        (0o100660, {}, Level.FAIL),
        (0o100602, {}, Level.FAIL),
        (0o100600, {"is_secret": True}, Level.OK),
        (0o100400, {"is_secret": True}, Level.OK),
        (0o100640, {"is_secret": True}, Level.FAIL),
        (0o100604, {"is_secret": True}, Level.FAIL),
        (0o100600, {"is_secret": True, "is_link": True}, Level.FAIL),
        (0o100600, {"is_mine": False}, Level.FAIL),
        (0o100644, {"is_public": True}, Level.OK),
        (0o100664, {"is_public": True}, Level.FAIL),
        (0o40700, {"is_folder": True}, Level.OK),
        (0o40755, {"is_folder": True}, Level.OK),
        (0o40777, {"is_folder": True}, Level.FAIL),
        (0o41777, {"is_folder": True}, Level.OK),
        (None, {"is_secret": True}, Level.OK),
        (None, {"error": "Permission denied"}, Level.FAIL),
    ],
)
def test_a_file_is_for_its_owner_alone(
    mode: int | None, changes: dict[str, Any], level: Level
) -> None:
    # X18 in docs/faults.md.
    [row] = check_files([FileFacts("/x", "store", mode, **changes)])
    assert row.level is level, row
    if level is not Level.OK and mode is not None and "is_mine" not in changes:
        assert "chmod" in row.advice or "is a link" in row.found


@pytest.mark.parametrize(
    ("changes", "level"),
    [
        ({}, Level.OK),
        ({"free": 1023 * MIB}, Level.WARN),
        ({"free": 63 * MIB}, Level.FAIL),
        ({"free_files": 99}, Level.FAIL),
        ({"free_files": 0, "files": 0}, Level.OK),  # a disk that does not count them
    ],
)
def test_a_disk_without_room_is_told(changes: dict[str, int], level: Level) -> None:
    assert levels(check_disk(dataclasses.replace(DISK, **changes))) == {level}


@pytest.mark.parametrize(
    ("changes", "check", "level"),
    [
        ({}, "open files", Level.OK),
        ({"descriptors": -1}, "open files", Level.OK),
        ({"descriptors": 1024}, "open files", Level.WARN),
        ({"descriptors": 255}, "open files", Level.FAIL),
        ({}, "clock", Level.OK),
        ({"is_clock_synchronised": None}, "clock", Level.OK),
        ({"is_clock_synchronised": False}, "clock", Level.WARN),
        ({"wall": 0.0}, "clock", Level.FAIL),
    ],
)
def test_few_descriptors_and_a_wrong_clock_are_told(
    changes: dict[str, Any], check: str, level: Level
) -> None:
    rows = check_machine(dataclasses.replace(MACHINE, **changes))
    assert [row.level for row in rows if row.check == check] == [level]


@pytest.mark.parametrize(
    ("exposed", "is_authenticated", "has_tls", "insecure", "level"),
    [
        ([], False, False, False, Level.OK),
        (["a"], False, False, False, Level.FAIL),
        (["a"], False, True, False, Level.FAIL),
        (["a"], False, False, True, Level.WARN),
        (["a"], True, False, False, Level.WARN),
        (["a"], True, True, False, Level.OK),
    ],
)
def test_who_can_connect_is_weighed_with_what_he_then_may_do(
    exposed: list[str], is_authenticated: bool, has_tls: bool, insecure: bool, level: Level
) -> None:
    # X1 in docs/faults.md.
    rows = check_exposure(
        exposed, is_authenticated=is_authenticated, has_tls=has_tls, insecure=insecure
    )
    assert levels(rows) == {level}


def test_a_dashboard_is_judged_only_if_it_is_wanted() -> None:
    def level(**changes: Any) -> Level:
        facts = {"is_wanted": True, "is_installed": True, "found": "here", "error": ""}
        return worst(check_dashboard(**{**facts, **changes}))

    assert level() is Level.OK
    assert level(is_installed=False) is Level.WARN
    assert level(error="exposed") is Level.FAIL
    assert level(is_wanted=False, error="exposed", is_installed=False) is Level.OK


# --- the hazards ---


def test_no_hazard_is_missing() -> None:
    assert [hazard.number for hazard in HAZARDS] == list(range(1, 25))
    rows = check_hazards(LIBRARY)
    assert [row.check.partition(" ")[0] for row in rows] == [f"H{n}" for n in range(1, 25)]
    assert levels(rows) == {Level.OK}
    assert all(row.found for row in rows)


def test_every_hazard_of_the_faults_page_is_among_them() -> None:
    page = (ROOT / "docs" / "faults.md").read_text()
    numbers = {int(number) for number in re.findall(r"^\| H(\d+) \|", page, re.M)}
    assert numbers <= {hazard.number for hazard in HAZARDS}
    assert numbers


def _socket(**changes: Any) -> dict[str, Any]:
    return {"sockets": [REQ, dataclasses.replace(REQ, **changes)]}


@pytest.mark.parametrize(
    ("changes", "numbers"),
    [
        (_socket(max_frame=0), {1, 11}),
        (_socket(max_frame=2**31), {1, 11}),
        ({"sockets": []}, {1, 11}),
        ({"tests": SelfTests(hostile_length="it was not closed")}, {1, 9, 11}),
        ({"tests": SelfTests(unsent_bytes_kept=100 * MIB)}, {2}),
        ({"tests": SelfTests(cancelled_receive="19 of 20")}, {3}),
        (_socket(is_raw=False), {5, 10}),
        (_socket(protocol="pair", is_raw=False), set()),
        (_socket(protocol="push"), {6}),
        ({"tests": SelfTests(silent_peer="it took 9 s")}, {13}),
        ({"tests": SelfTests(stale_pipes=1)}, {16}),
        (_socket(has_keepalive=False), {19}),
        ({"tls": ""}, {20}),
        ({"tls": "Mbed TLS 2.28.1"}, {20}),
        ({"can_name_tls_peers": False}, {21}),
        ({"nng": "1.10.0"}, {22}),
        (_socket(reconnect_min_ms=0), {24}),
        (_socket(reconnect_max_ms=60_000), {24}),
    ],
)
def test_a_library_that_is_not_as_it_must_be_fails_by_the_hazards_number(
    changes: dict[str, Any], numbers: set[int]
) -> None:
    # X22 in docs/faults.md.
    rows = check_hazards(dataclasses.replace(LIBRARY, **changes))
    failed = {row.check.partition(" ")[0] for row in rows if row.level is Level.FAIL}
    assert failed == {f"H{number}" for number in numbers}


def test_many_threads_are_told() -> None:
    rows = check_hazards(dataclasses.replace(LIBRARY, tests=SelfTests(threads=100)))
    assert worst(rows) is Level.WARN
