"""FastWorker beside others: the same no-op ``add(x, y)``, one client process, all results held.

Each system is installed from PyPI in an environment of its own, has one worker process with
the fastest settings that it documents, and is asked in its own quickest way. Three things are
measured of each:

- **burst**: tasks per second, from the first submit until all results are here, by the call
  that the system has for many tasks; as many tasks as take a few seconds.
- **100 callers**: tasks per second of 100 callers at once (Trio or asyncio tasks where the
  system has an async client, else threads), each of which submits one task and waits for its
  result before the next. No batch calls.
- **round trip**: one caller, one task after the other, p50 and p99 in milliseconds.

The systems take turns: all in round one, then all in round two, so that a machine that is
busier for a while is so for all. A figure is the median of the rounds, and a ratio is of two
medians of one run. Figures of different runs or machines say nothing beside each other.

Fair to the others: Redis is Debian's package, on loopback, a fresh one for each system and
round, keeps nothing on the disk, and is spoken to through hiredis. "SQLite" of FastWorker
means a file in which each task and each outcome is, fsync'ed, before anybody hears of it. The
client of each system calls ``gc.freeze()`` after its first tasks. Only correct results count: a
caller that gets nothing, or another task's result, is told below the table. What fails or takes
too long stays in the table.
"""
