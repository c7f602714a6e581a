"""What each component can be told, as one frozen dataclass for each.

Every setting comes from an argument, else from its FASTWORKER_ variable, else
from its default. The environment is an argument, so that nothing here depends
on the process; whatever cannot be used is refused before anything is opened.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from fastworker._errors import ConfigurationError
from fastworker._exposure import (
    exposed_addresses,
    names_to_resolve,
    refuse_exposed_addresses,
    refuse_exposed_dashboard,
    refuse_foreign_pickles,
)
from fastworker._models import SerializationFormat, shown
from fastworker._settings import (
    BACKEND,
    CALLBACK_PLACES,
    DIAL_ADDRESS,
    FORMAT,
    HOST,
    HOST_NAMES,
    LABEL,
    LISTEN_ADDRESS,
    LOG_FORMAT,
    LOG_LEVEL,
    MODULES,
    PORT,
    SECONDS,
    STORE,
    SWITCH,
    Address,
    Kind,
    OrNone,
    WholeNumber,
    parse_address,
    resolve,
)
from fastworker._task_function import Backend

__all__ = [
    "Address",
    "ClientConfig",
    "CommandConfig",
    "ControlPlaneConfig",
    "DashboardConfig",
    "SubWorkerConfig",
    "parse_address",
    "resolve",
]

DEFAULT_BASE_ADDRESS: Final = "tcp://127.0.0.1:5555"
DEFAULT_DISCOVERY_ADDRESS: Final = "tcp://127.0.0.1:5550"

# More lanes than this is a mistake in a start script, not a wish.
_CONCURRENCY: Final = OrNone(WholeNumber(1, 10_000))
_RETRIES: Final = WholeNumber(0, 1_000_000)
_CACHE_SIZE: Final = WholeNumber(1, 100_000_000)
# A queue that is always full is a mistake as well: one task must fit.
_QUEUE_SIZE: Final = WholeNumber(1, 1_000_000_000)
_QUEUE_BYTES: Final = WholeNumber(32 * 1024 * 1024, 2**50)
_PREFIX: Final = "FASTWORKER_"

C = TypeVar("C", bound="_Config")


def _setting(default: Any, kind: Kind[Any], variable: str | None = None) -> Any:
    return field(default=default, metadata=_metadata(kind, variable))


def _metadata(kind: Kind[Any], variable: str | None) -> dict[str, Any]:
    return {"kind": kind, "variable": None if variable is None else _PREFIX + variable}


@dataclass(frozen=True, kw_only=True)
class _Config:
    """Checks every field by its kind, and fills fields from the environment."""

    def __post_init__(self) -> None:
        for each in dataclasses.fields(self):
            value = getattr(self, each.name)
            try:
                checked = each.metadata["kind"].check(value)
            except ValueError as error:
                raise ConfigurationError(f"{each.name}={shown(value)}: {error}") from None
            object.__setattr__(self, each.name, checked)

    @classmethod
    def resolve(cls: type[C], environ: Mapping[str, str], **arguments: Any) -> C:
        """Take each setting from its argument, variable or default.

        Args:
          environ: Usually ``os.environ``.
          **arguments: Settings by field name; None means "not given".

        Raises:
          ConfigurationError: a value cannot be used, or a required setting
              was given nowhere. The message names argument or variable.
        """
        values: dict[str, Any] = {}
        for each in dataclasses.fields(cls):
            argument = arguments.pop(each.name, None)
            variable = each.metadata["variable"]
            if variable is not None:
                parse = each.metadata["kind"].parse
                value = resolve(argument, variable, None, parse, environ=environ)
            else:
                value = argument
            if value is not None:
                values[each.name] = value
            elif each.default is dataclasses.MISSING:
                raise ConfigurationError(
                    f"{each.name} is missing: give it as an argument, or set {variable}"
                )
        if arguments:
            raise TypeError(f"{cls.__name__} has no setting {', '.join(sorted(arguments))}")
        return cls(**values)


@dataclass(frozen=True, kw_only=True)
class ClientConfig(_Config):
    """A client. ``timeout`` and ``connect_timeout`` are in seconds.

    ``timeout`` is how long ``submit_task`` waits for a result, ``retries``
    how many lost or refused sessions one unacknowledged submit survives.
    ``authenticated``: both sides prove who they are.
    """

    discovery_address: str = _setting(
        DEFAULT_DISCOVERY_ADDRESS, DIAL_ADDRESS, "DISCOVERY_ADDRESS"
    )
    serialization_format: SerializationFormat = field(
        default=SerializationFormat.JSON, metadata=_metadata(FORMAT, "SERIALIZATION_FORMAT")
    )
    timeout: float = _setting(30, SECONDS, "TIMEOUT")
    retries: int = _setting(3, _RETRIES, "RETRIES")
    connect_timeout: float = _setting(5.0, SECONDS, "CONNECT_TIMEOUT")
    authenticated: bool = _setting(False, SWITCH)

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_foreign_pickles(
            {"discovery_address": self.discovery},
            self.serialization_format,
            authenticated=self.authenticated,
        )

    @property
    def discovery(self) -> Address:
        """``discovery_address``, parsed."""
        return parse_address(self.discovery_address, listening=False)


@dataclass(frozen=True, kw_only=True)
class _WorkerConfig(_Config):
    """What every process has that runs tasks.

    ``concurrency`` None means: as many threads as cores, and 100 async tasks.
    ``backend`` is the event loop of each ``async def`` that names none.
    ``drain_timeout`` is in seconds. ``authenticated``: peers prove who they are.
    """

    base_address: str = _setting(DEFAULT_BASE_ADDRESS, LISTEN_ADDRESS, "BASE_ADDRESS")
    discovery_address: str = _setting(
        DEFAULT_DISCOVERY_ADDRESS, LISTEN_ADDRESS, "DISCOVERY_ADDRESS"
    )
    serialization_format: SerializationFormat = field(
        default=SerializationFormat.JSON, metadata=_metadata(FORMAT, "SERIALIZATION_FORMAT")
    )
    concurrency: int | None = _setting(None, _CONCURRENCY, "WORKER_CONCURRENCY")
    backend: Backend = field(default="trio", metadata=_metadata(BACKEND, None))
    drain_timeout: float = _setting(30.0, SECONDS, "DRAIN_TIMEOUT")
    authenticated: bool = _setting(False, SWITCH)

    @property
    def base(self) -> Address:
        """``base_address``, parsed."""
        return parse_address(self.base_address)

    @property
    def discovery(self) -> Address:
        """``discovery_address``, parsed."""
        return parse_address(self.discovery_address)

    @property
    def accepted_formats(self) -> frozenset[SerializationFormat]:
        """What this worker decodes: JSON always, PICKLE only if it was chosen.

        Unpickling runs whatever code the sender likes.
        """
        return frozenset({SerializationFormat.JSON, self.serialization_format})


@dataclass(frozen=True, kw_only=True)
class ControlPlaneConfig(_WorkerConfig):
    """A control plane. ``result_cache_ttl_seconds`` is in seconds.

    ``max_queued`` and ``max_queued_bytes`` bound the tasks that have not ended.
    ``insecure`` lets it listen where other machines can connect. ``store`` is
    "memory" or a path; so many ended tasks are kept there, for so many seconds.
    ``callback_allow``: where callbacks may go beside loopback and their client's host.
    """

    worker_id: str = _setting("control-plane", LABEL, "WORKER_ID")
    subworker_management_port: int = _setting(5560, PORT, "SUBWORKER_PORT")
    result_cache_max_size: int = _setting(10_000, _CACHE_SIZE, "RESULT_CACHE_SIZE")
    result_cache_ttl_seconds: float = _setting(3600, SECONDS, "RESULT_CACHE_TTL")
    max_queued: int = _setting(1_000_000, _QUEUE_SIZE, "MAX_QUEUED")
    max_queued_bytes: int = _setting(1024**3, _QUEUE_BYTES, "MAX_QUEUED_BYTES")
    insecure: bool = _setting(False, SWITCH, "INSECURE")
    store: str | None = _setting(None, STORE, "STORE")
    history_max_size: int = _setting(100_000, _QUEUE_SIZE, "HISTORY_SIZE")
    history_ttl_seconds: float = _setting(604_800, SECONDS, "HISTORY_TTL")
    callback_allow: tuple[str, ...] = _setting((), CALLBACK_PLACES, "CALLBACK_ALLOW")

    def __post_init__(self) -> None:
        super().__post_init__()
        owners: dict[Address, str] = {}
        for name, address in self.listening.items():
            other = owners.setdefault(address, name)
            if other != name and address.port != 0:
                raise ConfigurationError(
                    f"{other} and {name} are both {address}; each needs a port of its own"
                )
        refuse_foreign_pickles(
            self.listening, self.serialization_format, authenticated=self.authenticated
        )
        unresolved = names_to_resolve(self.addresses)
        # What a name stands for can be asked only when it starts.
        known = {n: a for n, a in self.listening.items() if a.host not in unresolved}
        if not (self.insecure or self.authenticated):
            refuse_exposed_addresses(exposed_addresses(known, {}))

    @property
    def listening(self) -> dict[str, Address]:
        """Where it listens, by the name of the setting."""
        return {
            "base_address": self.base,
            "discovery_address": self.discovery,
            "subworker_management_port": self.management,
        }

    @property
    def management(self) -> Address:
        """Where subworkers are managed: the base address's host, its own port."""
        return self.base.with_port(self.subworker_management_port)

    @property
    def addresses(self) -> tuple[Address, Address, Address]:
        """Where it listens: discovery, base, management."""
        return self.discovery, self.base, self.management


@dataclass(frozen=True, kw_only=True)
class SubWorkerConfig(_WorkerConfig):
    """A subworker. Its ``base_address`` is a label in its status, it listens nowhere."""

    worker_id: str = field(metadata=_metadata(LABEL, "WORKER_ID"))
    control_plane_address: str = field(
        metadata=_metadata(DIAL_ADDRESS, "CONTROL_PLANE_ADDRESS")
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_foreign_pickles(
            {"control_plane_address": self.control_plane},
            self.serialization_format,
            authenticated=self.authenticated,
        )

    @property
    def control_plane(self) -> Address:
        """``control_plane_address``, parsed."""
        return parse_address(self.control_plane_address, listening=False)


@dataclass(frozen=True, kw_only=True)
class DashboardConfig(_Config):
    """The dashboard of a control plane.

    ``gui_allowed_hosts`` are names under which browsers reach it, beside localhost.
    """

    gui_enabled: bool = _setting(True, SWITCH, "GUI_ENABLED")
    gui_host: str = _setting("127.0.0.1", HOST, "GUI_HOST")
    gui_port: int = _setting(8080, PORT, "GUI_PORT")
    gui_allowed_hosts: tuple[str, ...] = _setting((), HOST_NAMES, "GUI_ALLOWED_HOSTS")
    insecure: bool = _setting(False, SWITCH, "INSECURE")

    @property
    def address(self) -> Address:
        """Where it listens."""
        return Address(self.gui_host, self.gui_port)

    def refuse_exposure(self) -> None:
        """Refuse to listen where other machines can connect, unless that is meant.

        Raises:
          ConfigurationError: the message has both ways out.
        """
        if not self.insecure and not self.address.is_loopback:
            refuse_exposed_dashboard(self.address)


@dataclass(frozen=True, kw_only=True)
class CommandConfig(_Config):
    """What a command is told beside its component's settings."""

    task_modules: tuple[str, ...] = _setting((), MODULES, "TASK_MODULES")
    log_level: str = _setting("INFO", LOG_LEVEL, "LOG_LEVEL")
    log_format: str = _setting("text", LOG_FORMAT, "LOG_FORMAT")
    otel: bool = _setting(False, SWITCH, "OTEL")
