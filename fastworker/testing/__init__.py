"""What you need to test programs that use FastWorker, and FastWorker itself.

Names are loaded when they are used: pytest imports this package in every run.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastworker._transport._memory import Faults as Faults
    from fastworker._transport._memory import MemoryNetwork as MemoryNetwork
    from fastworker.testing._check_link import check_link as check_link
    from fastworker.testing._checker import check as check
    from fastworker.testing._history import Event as Event
    from fastworker.testing._history import History as History
    from fastworker.testing._history import Kind as Kind
    from fastworker.testing._history import read_history as read_history
    from fastworker.testing._lane import ProcessDied as ProcessDied
    from fastworker.testing._plan import KINDS as KINDS
    from fastworker.testing._plan import Fault as Fault
    from fastworker.testing._plan import Plan as Plan
    from fastworker.testing._plan import draw_plan as draw_plan
    from fastworker.testing._rules import Expected as Expected
    from fastworker.testing._rules import Rules as Rules
    from fastworker.testing._rules import Violation as Violation
    from fastworker.testing._run import Result as Result
    from fastworker.testing._run import run_plan as run_plan
    from fastworker.testing._seeds import Failure as Failure
    from fastworker.testing._seeds import find_failures as find_failures
    from fastworker.testing._seeds import minimise as minimise
    from fastworker.testing._simulate import SimulationFailed as SimulationFailed
    from fastworker.testing._simulate import simulate as simulate
    from fastworker.testing._simulation import Simulation as Simulation
    from fastworker.testing._workload import workload as workload

_HOMES = {
    "Faults": "fastworker._transport._memory",
    "MemoryNetwork": "fastworker._transport._memory",
    "check_link": "fastworker.testing._check_link",
    "check": "fastworker.testing._checker",
    "Event": "fastworker.testing._history",
    "History": "fastworker.testing._history",
    "Kind": "fastworker.testing._history",
    "read_history": "fastworker.testing._history",
    "ProcessDied": "fastworker.testing._lane",
    "KINDS": "fastworker.testing._plan",
    "Fault": "fastworker.testing._plan",
    "Plan": "fastworker.testing._plan",
    "draw_plan": "fastworker.testing._plan",
    "Expected": "fastworker.testing._rules",
    "Rules": "fastworker.testing._rules",
    "Violation": "fastworker.testing._rules",
    "Result": "fastworker.testing._run",
    "run_plan": "fastworker.testing._run",
    "Failure": "fastworker.testing._seeds",
    "find_failures": "fastworker.testing._seeds",
    "minimise": "fastworker.testing._seeds",
    "SimulationFailed": "fastworker.testing._simulate",
    "simulate": "fastworker.testing._simulate",
    "Simulation": "fastworker.testing._simulation",
    "workload": "fastworker.testing._workload",
}

__all__ = [
    "Faults",
    "MemoryNetwork",
    "check_link",
    "check",
    "Event",
    "History",
    "Kind",
    "read_history",
    "ProcessDied",
    "KINDS",
    "Fault",
    "Plan",
    "draw_plan",
    "Expected",
    "Rules",
    "Violation",
    "Result",
    "run_plan",
    "Failure",
    "find_failures",
    "minimise",
    "SimulationFailed",
    "simulate",
    "Simulation",
    "workload",
]

# Hidden from type checkers, which would take any name for an existing one.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module 'fastworker.testing' has no attribute {name!r}")
        value = getattr(import_module(_HOMES[name]), name)
        globals()[name] = value  # the next access finds it without coming here
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
