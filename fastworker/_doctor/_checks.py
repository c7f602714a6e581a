"""The checks of a machine: each a pure function from what was read to rows."""

from __future__ import annotations

import difflib
import re
import stat
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from fastworker._doctor._facts import Disk, FileFacts, Machine, Port, Versions
from fastworker._doctor._row import Row, fail, ok, warn

MIB: Final = 1024 * 1024
# Of each what pyproject.toml asks for.
NEEDED: Final = {
    "trio": (0, 31),
    "anyio": (4, 9),
    "pynng": (0, 9),
    "msgspec": (0, 19),
    "click": (8, 2),
    "rich": (14,),
}
OLDEST_PYTHON: Final = (3, 11)
# With these all tests have run; their faults are known by number.
KNOWN_NNG: Final = "1.11.0"
KNOWN_PYNNG: Final = (0, 9)
# Mbed TLS 2 gets no repairs any more.
OLDEST_TLS: Final = (3, 6)
# A connection costs a descriptor, and a control plane has up to 10,000 sessions.
FEW_DESCRIPTORS: Final = 4_096
TOO_FEW_DESCRIPTORS: Final = 256
# Before this version of FastWorker was written no clock can have been right.
EARLIEST: Final = datetime(2025, 1, 1, tzinfo=UTC)


def check_versions(versions: Versions) -> list[Row]:
    """Python, the packages, and the libraries inside of them."""
    rows: list[Row] = []
    shown = ".".join(map(str, versions.python))
    if versions.python[:2] < OLDEST_PYTHON:
        rows.append(fail("python", shown, "install Python 3.11 or later"))
    else:
        rows.append(ok("python", f"{shown} on {versions.system}"))
    if versions.system != "Linux":
        rows.append(
            warn("system", versions.system, "run control planes on Linux, where all is tested")
        )
    for name, wanted in NEEDED.items():
        version = versions.installed.get(name, "")
        if not version:
            rows.append(fail(name, "not installed", f"pip install '{name}'"))
        elif numbers_of(version) < wanted:
            text = ".".join(map(str, wanted))
            rows.append(fail(name, version, f"pip install --upgrade '{name}>={text}'"))
        elif name == "pynng" and numbers_of(version)[:2] != KNOWN_PYNNG:
            rows.append(warn(name, version, "pip install 'pynng==0.9.*', which is tested"))
        else:
            rows.append(ok(name, version))
    if versions.nng == KNOWN_NNG:
        rows.append(ok("nng", versions.nng))
    else:
        advice = f"FastWorker is tested with {KNOWN_NNG}: run its tests before you rely on it"
        rows.append(warn("nng", versions.nng, advice))
    if not versions.tls:
        rows.append(
            warn("mbedtls", "none", "install pynng from PyPI, which brings it, for TLS")
        )
    elif numbers_of(versions.tls) < OLDEST_TLS:
        advice = "install pynng from PyPI, which brings a later one"
        rows.append(warn("mbedtls", versions.tls, advice))
    else:
        rows.append(ok("mbedtls", versions.tls))
    return rows


def numbers_of(version: str) -> tuple[int, ...]:
    """The numbers of a version, such as ``(3, 6, 3)`` of "Mbed TLS 3.6.3"."""
    found = re.search(r"\d+(?:\.\d+)*", version)
    return tuple(map(int, found[0].split("."))) if found else ()


def check_variables(environ: Iterable[str], known: Iterable[str]) -> list[Row]:
    """A mistyped variable is not an error to anybody else."""
    names = sorted(known)
    rows: list[Row] = []
    for name in sorted(environ):
        if name.startswith("FASTWORKER_") and name not in names:
            similar = difflib.get_close_matches(name, names, 1)
            meant = f"did you mean {similar[0]}? " if similar else ""
            advice = f"{meant}see docs/reference/environment.md"
            rows.append(warn("environment", f"{name} is no variable of FastWorker", advice))
    return rows or [ok("environment", "no FASTWORKER_ variable is mistyped")]


def check_ports(ports: Sequence[Port]) -> list[Row]:
    """Whether a control plane could listen where it wants to."""
    rows: list[Row] = []
    for port in ports:
        check = port.setting.replace("_", " ")
        if not port.error:
            rows.append(ok(check, f"{port.address} is free"))
        elif port.is_control_plane:
            rows.append(ok(check, f"{port.address} has the control plane {_holder(port)}"))
        elif port.is_taken:
            advice = f"stop it, or choose another address for {port.setting}"
            rows.append(fail(check, f"{port.address} is taken by {_holder(port)}", advice))
        else:
            advice = f"give {port.setting} an address of this machine, such as 127.0.0.1"
            rows.append(fail(check, f"{port.address}: {port.error}", advice))
    return rows


def _holder(port: Port) -> str:
    if not port.pid:
        return "a process that cannot be seen from here"
    return f"process {port.pid} ({port.command})"


def check_files(files: Sequence[FileFacts]) -> list[Row]:
    """Whether others can read what is secret, or change what is trusted (X18)."""
    return [_check_file(file) for file in files]


def _check_file(file: FileFacts) -> Row:
    check, path = file.what, file.path
    if file.error:
        return fail(check, f"{path}: {file.error}", "give this user access, or another path")
    if file.mode is None:
        if file.is_secret:
            return ok(check, f"{path} is not there yet")
        return ok(check, f"{path} is not there yet, and made at the start")
    mode = stat.S_IMODE(file.mode)
    wanted = 0o700 if file.is_folder else 0o600
    found = f"{path} has mode {mode:04o}"
    if file.is_link and file.is_secret:
        return fail(check, f"{path} is a link", "give the path of the file that it leads to")
    if not file.is_mine:
        return fail(check, f"{path} belongs to another user", f"chown it: chown $USER {path}")
    writable = mode & 0o022 and not (file.is_folder and mode & stat.S_ISVTX)
    if writable or (mode & 0o077 and file.is_secret):
        whom = "write to" if writable else "read"
        return fail(check, f"{found}: others can {whom} it", f"chmod {wanted:o} {path}")
    if mode & 0o077 and not (file.is_folder or file.is_public):
        return warn(check, f"{found}: others can read it", f"chmod {wanted:o} {path}")
    return ok(check, found)


def check_disk(disk: Disk) -> list[Row]:
    """Whether there is room for what will be kept."""
    found = f"{_size(disk.free)} of {_size(disk.total)} free at {disk.path}"
    advice = "make room there, or choose another disk with --store"
    if disk.files and disk.free_files < 100:
        return [fail("disk", f"{found}, but room for {disk.free_files} files only", advice)]
    if disk.free < 64 * MIB:
        return [fail("disk", found, advice)]
    if disk.free < 1024 * MIB:
        return [warn("disk", found, advice)]
    return [ok("disk", found)]


def _size(number: int) -> str:
    if number >= 1024 * MIB:
        return f"{number / 1024**3:.1f} GiB"
    return f"{number // MIB} MiB"


def check_machine(machine: Machine) -> list[Row]:
    """Descriptors and the clock."""
    rows: list[Row] = []
    number = machine.descriptors
    found = f"{number} open files at most" if number >= 0 else "no limit of open files"
    advice = "raise it: LimitNOFILE=65536 in the unit, or ulimit -n 65536"
    if 0 <= number < TOO_FEW_DESCRIPTORS:
        rows.append(fail("open files", found, advice))
    elif 0 <= number < FEW_DESCRIPTORS:
        rows.append(warn("open files", f"{found}, of which each peer takes one", advice))
    else:
        rows.append(ok("open files", found))
    if machine.wall < EARLIEST.timestamp():
        moment = datetime.fromtimestamp(machine.wall, UTC)
        rows.append(fail("clock", f"it says {moment:%Y-%m-%d %H:%M} UTC", "set it"))
    elif machine.is_clock_synchronised is False:
        advice = "start systemd-timesyncd or chrony; in a container, on its host"
        rows.append(warn("clock", "nobody keeps it right", advice))
    else:
        kept = "kept right" if machine.is_clock_synchronised else "plausible"
        rows.append(ok("clock", kept))
    return rows


def check_exposure(
    exposed: Sequence[str], *, is_authenticated: bool, has_tls: bool, insecure: bool
) -> list[Row]:
    """Who else can connect, and what he then may do (X1)."""
    if not exposed:
        return [ok("exposure", "only this machine can connect")]
    where = f"other machines can connect: {', '.join(exposed)}"
    if not is_authenticated:
        advice = (
            "listen on 127.0.0.1, or give a token: fastworker token new FILE, then "
            "--auth-token-file FILE; or certificates: fastworker certs init DIR"
        )
        if insecure:
            return [warn("exposure", f"{where}, and do everything (insecure)", advice)]
        return [fail("exposure", f"{where}, and nobody has to prove anything", advice)]
    if not has_tls:
        advice = "fastworker certs init DIR, then tls+tcp:// and --tls-ca, -cert and -key"
        return [warn("exposure", f"{where}; what they say can be read on the way", advice)]
    return [ok("exposure", f"{where}, with authentication and TLS")]


def check_dashboard(
    *, is_wanted: bool, is_installed: bool, found: str, error: str
) -> list[Row]:
    """Whether there will be one."""
    if not is_wanted:
        return [ok("dashboard", "not wanted")]
    if error:
        return [fail("dashboard", error, "listen on 127.0.0.1, behind a proxy with TLS")]
    if not is_installed:
        advice = "pip install 'fastworker[dashboard]', or --no-gui"
        return [warn("dashboard", "its packages are not installed", advice)]
    return [ok("dashboard", found)]


def check_settings(error: str, shown: Mapping[str, object]) -> list[Row]:
    """Whether all options and variables can be used together."""
    if error:
        return [fail("configuration", error, "correct it: a control plane would not start")]
    told = ", ".join(f"{name}={value}" for name, value in shown.items())
    return [ok("configuration", told or "all defaults")]
