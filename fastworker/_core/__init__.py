"""Pure machines: everything FastWorker decides, and no I/O.

Nothing in this package awaits, reads a clock, logs or draws global randomness.
Each machine has one face: ``handle(event, *, now)`` is its only mutator and
returns the commands that the shell around it has to carry out,
``next_deadline()`` says when it wants ``DeadlinePassed``, ``statistics()`` is a
frozen snapshot, and ``check()`` asserts every invariant.
"""
