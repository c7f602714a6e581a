"""What you need to test programs that use FastWorker, and FastWorker itself."""

from __future__ import annotations

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
