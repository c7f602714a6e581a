"""What the readers found, for the checks to judge: plain values, whatever they mean."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Versions:
    """``installed`` are packages' versions by name, empty of those that are not there."""

    python: tuple[int, int, int]
    system: str
    installed: dict[str, str]
    nng: str
    tls: str


@dataclass(frozen=True)
class Port:
    """Somewhere a control plane wants to listen, by the name of the setting.

    ``error`` is why that is not possible now, empty if it is. ``pid`` and ``command``
    are who listens there instead, as far as that can be seen; 0 and empty if not.
    """

    setting: str
    address: str
    error: str = ""
    is_taken: bool = False
    pid: int = 0
    command: str = ""
    is_control_plane: bool = False


@dataclass(frozen=True)
class FileFacts:
    """A file or folder. ``mode`` is None if there is none."""

    path: str
    what: str
    mode: int | None = None
    is_mine: bool = True
    is_link: bool = False
    is_folder: bool = False
    is_secret: bool = False
    is_public: bool = False
    error: str = ""


@dataclass(frozen=True)
class Disk:
    """The disk on which a folder is, in bytes and numbers of files."""

    path: str
    free: int
    total: int
    free_files: int
    files: int


@dataclass(frozen=True)
class Machine:
    """This machine and process. ``is_clock_synchronised`` None: nobody can tell."""

    descriptors: int
    wall: float
    is_clock_synchronised: bool | None


@dataclass(frozen=True)
class SocketFacts:
    """What the library says of a socket that our factory has made."""

    protocol: str
    is_raw: bool
    max_frame: int
    has_keepalive: bool
    reconnect_min_ms: int
    reconnect_max_ms: int


@dataclass(frozen=True)
class SelfTests:
    """What tests on loopback sockets of our own came to; a text is empty if all is well."""

    hostile_length: str = ""
    unsent_bytes_kept: int = 0
    silent_peer: str = ""
    cancelled_receive: str = ""
    stale_pipes: int = 0
    threads: int = 0


@dataclass(frozen=True)
class Library:
    """All that is known of the network library here."""

    nng: str
    tls: str
    can_name_tls_peers: bool
    sockets: list[SocketFacts] = field(default_factory=list)
    tests: SelfTests = field(default_factory=SelfTests)
