"""What you need to test programs that use FastWorker, and FastWorker itself."""

from __future__ import annotations

from fastworker._transport._memory import Faults as Faults
from fastworker._transport._memory import MemoryNetwork as MemoryNetwork
from fastworker.testing._check_link import check_link as check_link
