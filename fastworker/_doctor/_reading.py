"""Reads what the checks judge: files, limits, ports and versions. Changes nothing.

Who holds a port, and whether somebody keeps the clock right, is read from Linux's
own files and calls; where that does not go, the answer is that nobody can tell.
"""

from __future__ import annotations

import ctypes
import errno
import importlib.metadata
import os
import platform
import resource
import shutil
import socket
import stat
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from fastworker._doctor._checks import NEEDED
from fastworker._doctor._facts import Disk, FileFacts, Machine, Port, Versions
from fastworker._settings import Address
from fastworker._transport._nng_probe import nng_version, tls_version

_CLOCK_UNSYNCHRONISED: Final = 5
_LISTENING: Final = "0A"
_MAX_COMMAND: Final = 40


def read_versions() -> Versions:
    """See there."""
    installed: dict[str, str] = {}
    for name in NEEDED:
        try:
            installed[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            installed[name] = ""
    return Versions(
        python=sys.version_info[:3],
        system=platform.system(),
        installed=installed,
        nng=nng_version(),
        tls=tls_version(),
    )


def read_machine() -> Machine:
    """See there."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    descriptors = -1 if soft == resource.RLIM_INFINITY else soft
    return Machine(descriptors, time.time(), _is_clock_synchronised())


def _is_clock_synchronised() -> bool | None:
    # struct timex has about 200 bytes; all of them 0 only asks.
    try:
        state = int(ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(1024)))
    except (AttributeError, OSError, TypeError):
        return None
    return None if state < 0 else state != _CLOCK_UNSYNCHRONISED


def read_disk(folder: Path) -> Disk:
    """The disk of a folder, or of the nearest one above it that is there."""
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    usage, files = shutil.disk_usage(folder), os.statvfs(folder)
    return Disk(str(folder), usage.free, usage.total, files.f_favail, files.f_files)


def read_file(
    path: Path,
    what: str,
    *,
    is_secret: bool = False,
    is_public: bool = False,
    may_be_link: bool = False,
) -> FileFacts:
    """Whose it is and who may read it."""
    try:
        facts = path.lstat()
        is_link = stat.S_ISLNK(facts.st_mode)
        if is_link:
            facts = path.stat()
    except FileNotFoundError:
        return FileFacts(str(path), what, is_secret=is_secret)
    except OSError as error:
        reason = error.strerror or str(error)
        return FileFacts(str(path), what, is_secret=is_secret, error=reason)
    return FileFacts(
        str(path),
        what,
        mode=facts.st_mode,
        # What is root's is as good as ours, if we can read it.
        is_mine=facts.st_uid in (os.geteuid(), 0),
        is_link=is_link and not may_be_link,
        is_folder=stat.S_ISDIR(facts.st_mode),
        is_secret=is_secret,
        is_public=is_public,
    )


def read_ports(listening: Mapping[str, Address]) -> list[Port]:
    """Whether each of these addresses can be listened on, and who does if not."""
    return [_read_port(setting, address) for setting, address in listening.items()]


def _read_port(setting: str, address: Address) -> Port:
    host = address.host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            # Else a connection that has just ended would look like a listener.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, address.port))
            probe.listen(1)
    except UnicodeError as error:
        return Port(setting, str(address), error=f"{host[:80]} is no name ({error})")
    except OSError as error:
        is_taken = error.errno == errno.EADDRINUSE
        pid = _who_listens(address.port) if is_taken else 0
        arguments = _command_of(pid)
        return Port(
            setting,
            str(address),
            error=error.strerror or str(error),
            is_taken=is_taken,
            pid=pid,
            # Not its arguments: they are somebody else's, and may be secrets.
            command=os.path.basename(arguments[0])[:_MAX_COMMAND] if arguments else "",
            is_control_plane=_is_control_plane(arguments),
        )
    return Port(setting, str(address))


def _is_control_plane(arguments: list[str]) -> bool:
    names = [os.path.basename(argument) for argument in arguments]
    return "fastworker" in names and "control-plane" in arguments


def _who_listens(port: int) -> int:
    """The process that listens at a port, 0 if that cannot be seen."""
    inodes = set(_listening_inodes(port))
    if not inodes:
        return 0
    wanted = {f"socket:[{inode}]" for inode in inodes}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            for descriptor in (process / "fd").iterdir():
                if os.readlink(descriptor) in wanted:
                    return int(process.name)
        except OSError:
            continue  # of somebody else, or gone
    return 0


def _listening_inodes(port: int) -> Iterable[str]:
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == _LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
                yield fields[9]


def _command_of(pid: int) -> list[str]:
    if not pid:
        return []
    try:
        text = Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "replace")
    except OSError:
        return []
    return text.rstrip("\0").split("\0")
