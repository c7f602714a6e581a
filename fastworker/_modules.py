"""Loads task modules by name: what ``--task-modules mytasks`` does.

A worker that comes up without its tasks looks healthy and runs nothing, so
each way in which a module can fail to load is told apart, with its remedy.
"""

from __future__ import annotations

import difflib
import importlib
import itertools
import logging
import os
import re
import sys
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Final

from fastworker._errors import ConfigurationError
from fastworker._registry import Registry, registry

_log = logging.getLogger("fastworker.modules")

# A folder with more files than this is not searched for near matches.
_MAX_CANDIDATES: Final = 2000
_PACKAGE_FOLDER: Final = os.path.dirname(os.path.abspath(__file__))


def split_module_names(text: str | Sequence[str]) -> list[str]:
    """Split lists such as "a,b c", given once or several times; no doubles."""
    parts = [text] if isinstance(text, str) else text
    names = [name for part in parts for name in re.split(r"[,\s]+", part) if name]
    return list(dict.fromkeys(names))


def load_task_modules(names: Sequence[str], *, into: Registry = registry) -> None:
    """Import task modules, found from the current folder as with ``python -m``.

    Args:
      names: Each a module ("pkg.tasks") or its file ("pkg/tasks.py") inside
          the current folder.
      into: The registry that their ``@task`` lines fill.

    Raises:
      ConfigurationError: a name is no module, or the module failed. What was
          loaded before it stays loaded.
    """
    folder = os.getcwd()
    if not sys.path or sys.path[0] != folder:
        sys.path.insert(0, folder)
    importlib.invalidate_caches()
    for given in names:
        name = _module_name(given, folder)
        names_before = into.names()
        module = _import(name, given, folder)
        _check_is_from(module, name, folder)
        if into.names() == names_before and not _holds_task(module, into):
            _log.warning(
                "%s registers no task: put @task above the functions that clients may call",
                name,
            )


def _module_name(given: str, folder: str) -> str:
    """Turn a file's path into the name it is imported by."""
    name = given
    if given.endswith(".py") or "/" in given or os.sep in given:
        relative = os.path.relpath(os.path.join(folder, given), folder)
        if relative.startswith(os.pardir) or os.path.isabs(relative):
            raise ConfigurationError(
                f"task module {given!r} is not inside the current folder {folder}; "
                f"change to its folder, or put that on PYTHONPATH and give the module's name"
            )
        stem = relative.removesuffix(".py").removesuffix(os.sep + "__init__")
        name = stem.replace(os.sep, ".")
    if not all(part.isidentifier() for part in name.split(".")):
        raise ConfigurationError(
            f"task module {given!r}: {name!r} cannot be imported; use a name such as "
            f"'mytasks' or 'pkg.tasks', of letters, digits and underscores"
        )
    return name


def _import(name: str, given: str, folder: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            raise ConfigurationError(_not_found(name, given, folder)) from error
        raise _failed(name, error) from error
    except (Exception, SystemExit) as error:
        # Anything: importing runs the user's code.
        raise _failed(name, error) from error


def _not_found(name: str, given: str, folder: str) -> str:
    candidates = sorted(itertools.islice(_modules_in(folder), _MAX_CANDIDATES))
    near = difflib.get_close_matches(name, candidates, n=3)
    if not near:  # "tasks" for "shop.tasks"
        near = [other for other in candidates if other.endswith(f".{name}")][:3]
    if near:
        hint = f"did you mean {' or '.join(map(repr, near))}?"
    elif 0 < len(candidates) <= 8:
        hint = f"modules there: {', '.join(candidates)}"
    else:
        hint = "change to the folder that holds it, or put that on PYTHONPATH"
    return f"no task module {given!r} in {folder} or elsewhere on sys.path; {hint}"


def _modules_in(folder: str) -> Iterator[str]:
    root = Path(folder)
    for path in itertools.chain(root.glob("*.py"), root.glob("[!.]*/*.py")):
        parts = list(path.relative_to(root).with_suffix("").parts)
        if parts[-1] == "__init__":
            parts.pop()
        if parts and all(part.isidentifier() for part in parts):
            yield ".".join(parts)


def _failed(name: str, error: BaseException) -> ConfigurationError:
    where = _where(error)
    detail = str(error)
    if isinstance(error, SyntaxError):
        detail = error.msg
    elif isinstance(error, SystemExit):
        detail = f'{detail}; put what runs it under if __name__ == "__main__"'
    return ConfigurationError(
        f"task module {name!r} failed to import: {type(error).__name__}: {detail}"
        + (f" ({where})" if where else "")
    )


def _where(error: BaseException) -> str:
    """The last line of the user's own: not of the import system, nor of ours."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    where = ""
    for frame in traceback.extract_tb(error.__traceback__):
        is_ours = frame.filename.startswith(_PACKAGE_FOLDER + os.sep)
        if not is_ours and not frame.filename.startswith(("<frozen", importlib.__file__)):
            where = f"{frame.filename}:{frame.lineno}"
    return where


def _check_is_from(module: ModuleType, name: str, folder: str) -> None:
    """Refuse a module that is not the file of this name in the current folder."""
    stem = os.path.join(folder, *name.split("."))
    paths = (f"{stem}.py", os.path.join(stem, "__init__.py"))
    expected = [os.path.realpath(path) for path in paths if os.path.isfile(path)]
    loaded = getattr(module, "__file__", None)
    if expected and (not loaded or os.path.realpath(loaded) not in expected):
        raise ConfigurationError(
            f"{expected[0]} was not loaded, because Python already has another module "
            f"{name!r} ({loaded or 'built in'}); rename the file"
        )


def _holds_task(module: ModuleType, into: Registry) -> bool:
    known = {id(found.function) for found in into.functions()}
    return any(id(value) in known for value in vars(module).values())
