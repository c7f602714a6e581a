"""Finds a task function inside a task process, which has imported nothing yet.

The process is started, not forked, so that it has a clean state and none of
the worker's sockets. It imports the module that the function was written in,
whose ``@task`` lines register it again.
"""

from __future__ import annotations

import importlib
import runpy
import sys
import types
from typing import Final

from fastworker._errors import ConfigurationError, RegistrationError
from fastworker._lanes._process_messages import Welcome
from fastworker._registry import Registry, registry
from fastworker._task_function import TaskFunction

# As multiprocessing calls it, so that one kind of guard serves for both.
MAIN_ALIAS: Final = "__mp_main__"

_is_loading = False


class Loader:
    """Task functions by name, imported when they are first asked for."""

    def __init__(self, welcome: Welcome, into: Registry = registry) -> None:
        self._welcome = welcome
        self._registry = into
        self._is_main_loaded = False

    def get(self, name: str) -> TaskFunction | None:
        """Give a function that is loaded already."""
        return self._registry.get(name)

    def load(self, name: str, module: str) -> TaskFunction:
        """Import the function's module and give the function.

        Raises:
          RegistrationError: the module does not register it when it is
              imported. The message says what to do.
          whatever the import of the module raises.
        """
        global _is_loading
        _is_loading = True
        try:
            if module == "__main__":
                self._load_main(name)
            else:
                importlib.import_module(module)
        finally:
            _is_loading = False
        found = self._registry.get(name)
        if found is None:
            raise RegistrationError(
                f"task {name!r} was not found in its process: importing {module} did not "
                f"register it; put @task in the module that defines the function, at its "
                f"top level"
            )
        return found

    def _load_main(self, name: str) -> None:
        if self._is_main_loaded:
            return
        path, module_name = self._welcome.main_path, self._welcome.main_name
        # The name is not "__main__", so what the script guards does not run.
        if module_name:
            values = runpy.run_module(module_name, run_name=MAIN_ALIAS, alter_sys=True)
        elif path:
            values = runpy.run_path(path, run_name=MAIN_ALIAS)
        else:
            raise RegistrationError(
                f"task {name!r} was defined at a prompt or in a -c program, which its "
                f"process cannot import: put it into a module"
            )
        # Kept, because runpy throws the module away; and pickles name __main__.
        main = types.ModuleType(MAIN_ALIAS)
        main.__dict__.update(values)
        sys.modules["__main__"] = sys.modules[MAIN_ALIAS] = main
        self._is_main_loaded = True


def describe_main() -> tuple[str, str]:
    """Say what this process's ``__main__`` is: its file, or its module's name."""
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    if spec is not None and spec.name:
        return "", str(spec.name)
    path = getattr(main, "__file__", None)
    return (path if isinstance(path, str) else ""), ""


def refuse_while_loading() -> None:
    """Keep a script that starts a worker from starting one in each task process.

    Raises:
      ConfigurationError: this is a task process, and it is importing.
    """
    if _is_loading:
        raise ConfigurationError(
            "a task process has imported a script that starts a worker: put what starts "
            'it under if __name__ == "__main__"'
        )
