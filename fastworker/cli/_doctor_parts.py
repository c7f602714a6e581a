"""What ``fastworker doctor`` shows, in parts: each what was read, and judged."""

from __future__ import annotations

import dataclasses
import os
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from fastworker import _config
from fastworker._config import CommandConfig, ControlPlaneConfig, DashboardConfig
from fastworker._credentials import FILE_VARIABLE, TOKEN_VARIABLE, resolve_auth
from fastworker._doctor import _checks, _reading
from fastworker._doctor._facts import FileFacts
from fastworker._doctor._hazards import check_hazards
from fastworker._doctor._row import Row, fail, ok
from fastworker._doctor._self_tests import read_library
from fastworker._errors import ConfigurationError, FastWorkerError
from fastworker._exposure import exposed_addresses, names_to_resolve
from fastworker._modules import load_task_modules, split_module_names
from fastworker._registry import registry
from fastworker._settings import Address
from fastworker._stores import MEMORY, default_path
from fastworker._tls import (
    ALLOW_VARIABLE,
    AUTHORITY_VARIABLE,
    CERTIFICATE_VARIABLE,
    KEY_VARIABLE,
    MUTUAL_VARIABLE,
    SERVER_NAME_VARIABLE,
    TlsSettings,
    resolve_tls,
    tls_context,
)
from fastworker.cli import _dashboard_beside as beside

# Those that are no settings of a component.
_OTHER_VARIABLES: Final = (
    TOKEN_VARIABLE,
    FILE_VARIABLE,
    *(AUTHORITY_VARIABLE, CERTIFICATE_VARIABLE, KEY_VARIABLE),
    *(SERVER_NAME_VARIABLE, MUTUAL_VARIABLE, ALLOW_VARIABLE),
    "FASTWORKER_CRASH",
    "FASTWORKER_GUI_TOKEN_FILE",
    "FASTWORKER_GUI_URL",
    "FASTWORKER_PROCESSES",
    "FASTWORKER_VALIDATE",
)
# Beside the file of the store, if they are there: its log, its lock, its index.
_BESIDE: Final = ("-wal", "-shm", ".lock")


def read_parts(
    said: Callable[[str], Any], options: Mapping[str, Any], environ: Mapping[str, str]
) -> dict[str, list[Row]]:
    """Look at everything.

    Args:
      said: what was said of a setting, None if nothing.
      options: those of the command.
      environ: usually ``os.environ``.
    """
    has_token, token_problem = _has_token(environ)
    tls, tls_problem = _tls_of(environ)
    is_mutual = tls is not None and tls.mutual
    config, problem = _resolve(
        ControlPlaneConfig, said, environ, authenticated=has_token or is_mutual
    )
    tls_problem = tls_problem or _tls_trouble(tls, config)
    gui, gui_problem = _resolve(DashboardConfig, said, environ)
    error = token_problem or tls_problem or problem or gui_problem
    has_gui = gui.gui_enabled and not options.get("no_gui")
    listening = dict(config.listening)
    if has_gui:
        listening["gui_port"] = gui.address
    return {
        "configuration": [
            *_checks.check_settings(error, _changed(config)),
            *_checks.check_variables(environ, known_variables()),
            *_check_modules(options, environ),
            *_checks.check_exposure(
                _exposed(config.listening),
                is_authenticated=has_token or is_mutual,
                has_tls=all(address.has_tls for address in config.addresses),
                insecure=config.insecure and not problem,
            ),
            *_checks.check_dashboard(
                is_wanted=has_gui,
                is_installed=beside.is_installed(),
                found=f"http://{gui.gui_host}:{gui.gui_port}/, with a token",
                error=_refusal(gui),
            ),
        ],
        "machine": [
            *_checks.check_versions(_reading.read_versions()),
            *_checks.check_ports(_reading.read_ports(listening)),
            *_check_store(config, tls, environ),
            *_checks.check_machine(_reading.read_machine()),
        ],
        "network library": check_hazards(read_library()),
    }


def known_variables() -> list[str]:
    """All that FastWorker reads."""
    names = set(_OTHER_VARIABLES)
    for each in vars(_config).values():
        if isinstance(each, type) and dataclasses.is_dataclass(each):
            variables = (field.metadata.get("variable") for field in dataclasses.fields(each))
            names.update(variable for variable in variables if variable)
    return sorted(names)


def _has_token(environ: Mapping[str, str]) -> tuple[bool, str]:
    """Whether peers would have to prove a token, and what is wrong with it."""
    try:
        return resolve_auth(None, environ) is not None, ""
    except ConfigurationError as error:
        return True, str(error)


def _tls_of(environ: Mapping[str, str]) -> tuple[TlsSettings | None, str]:
    try:
        return resolve_tls(None, environ), ""
    except ConfigurationError as error:
        return None, str(error)


def _tls_trouble(tls: TlsSettings | None, config: ControlPlaneConfig) -> str:
    """Why these files and addresses do not go together, empty if they do."""
    try:
        tls_context(tls, config.listening, listening=True)
    except ConfigurationError as error:
        return str(error)
    return ""


def _token_files(environ: Mapping[str, str]) -> list[Path]:
    parts = [part.strip() for part in environ.get(FILE_VARIABLE, "").split(",")]
    return [Path(part.partition("=")[2] or part) for part in parts if part]


def _resolve(
    kind: Any, said: Callable[[str], Any], environ: Mapping[str, str], **known: Any
) -> Any:
    """The settings, and what is wrong with them; then the nearest that can be looked at."""
    arguments = {field.name: said(field.name) for field in dataclasses.fields(kind)} | known
    try:
        return kind.resolve(environ, **arguments), ""
    except ConfigurationError as error:
        problem = str(error)
    try:
        return kind.resolve(environ, **{**arguments, "insecure": True}), problem
    except ConfigurationError:
        return kind(), problem


def _changed(config: ControlPlaneConfig) -> dict[str, object]:
    return {
        field.name: getattr(config, field.name)
        for field in dataclasses.fields(config)
        if getattr(config, field.name) != field.default and field.name != "authenticated"
    }


def _exposed(listening: Mapping[str, Address]) -> list[str]:
    resolved: dict[str, list[str]] = {}
    for name in names_to_resolve(listening.values()):
        try:
            found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            continue  # what is not known counts as exposed
        hosts = [str(place[4][0]) for place in found]
        resolved[name] = [f"[{host}]" if ":" in host else host for host in hosts]
    return exposed_addresses(listening, resolved)


def _refusal(gui: DashboardConfig) -> str:
    try:
        gui.refuse_exposure()
    except ConfigurationError as error:
        return str(error)
    return ""


def _check_modules(options: Mapping[str, Any], environ: Mapping[str, str]) -> list[Row]:
    try:
        told = split_module_names(options.get("task_modules") or ()) or None
        modules = CommandConfig.resolve(environ, task_modules=told).task_modules
        load_task_modules(modules)
    except FastWorkerError as error:
        return [fail("task modules", str(error), "correct it: a control plane would not start")]
    if not modules:
        return [ok("task modules", "none here; subworkers bring theirs")]
    count = len(registry.names())
    return [ok("task modules", f"{', '.join(modules)}: {count} tasks")]


def _check_store(
    config: ControlPlaneConfig, tls: TlsSettings | None, environ: Mapping[str, str]
) -> list[Row]:
    files: list[FileFacts] = []
    if config.store == MEMORY:
        path = default_path(environ, config.worker_id, config.base.port)
    else:
        path = Path(
            config.store or default_path(environ, config.worker_id, config.base.port)
        ).expanduser()
        files.append(_reading.read_file(path, "store"))
        for suffix in _BESIDE:
            more = Path(f"{path}{suffix}")
            if os.path.lexists(more):
                files.append(_reading.read_file(more, "store"))
        files.append(_reading.read_file(path.parent, "store's folder"))
    token = Path(f"{path}.token")
    files.append(_reading.read_file(token, "dashboard token", is_secret=True))
    for path_of_token in _token_files(environ):
        files.append(
            _reading.read_file(path_of_token, "token", is_secret=True, may_be_link=True)
        )
    if tls is not None:
        for what, name in (("authority", tls.ca), ("certificate", tls.cert)):
            if name is not None:
                files.append(_reading.read_file(Path(name), what, is_public=True))
        if tls.key is not None:
            key = Path(tls.key)
            files.append(_reading.read_file(key, "TLS key", is_secret=True, may_be_link=True))
    return [*_checks.check_files(files), *_checks.check_disk(_reading.read_disk(path.parent))]
