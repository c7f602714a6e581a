"""A process with a store on a disk that fails when a test says so.

As a program it takes commands from its standard input, one a line, and answers
each with a line: "ok …" or "unavailable …".
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from fastworker._core._stored import Changes, TasksAsked
from fastworker._errors import StoreUnavailable
from fastworker._store._sqlite import SqliteStore

from .damage import now
from .rows import task

ROWS = 10  # of one transaction


def changes(number: int) -> Changes:
    """Transaction ``number`` of this process."""
    first = ROWS * number + 1
    return Changes(
        created=[task(each, payload=b"x" * 700) for each in range(first, first + ROWS)]
    )


def ids(numbers: range | list[int]) -> set[str]:
    """The ids of the tasks of these transactions."""
    return {row.spec.id for number in numbers for row in changes(number).created}


def serve(path: str) -> None:
    """The program."""
    store = SqliteStore(path, wall_clock=now)
    store.open()
    print("ok", flush=True)
    for line in sys.stdin:
        command, _, number = line.strip().partition(" ")
        begin = time.perf_counter()
        try:
            if command == "write":
                store.write(changes(int(number)))
            elif command == "endless":
                for each in range(1_000_000):
                    store.write(changes(each))
                    print(each, flush=True)
            elif command == "recover":
                store.recover()
            elif command == "page":
                store.reader().page(TasksAsked())
            elif command == "problems":
                print("ok", *store.take_problems(), flush=True)
                continue
        except StoreUnavailable as error:
            print("unavailable", error, flush=True)
        else:
            print("ok", f"{time.perf_counter() - begin:.3f}", flush=True)
    store.close()


class FaultyProcess:
    """Such a process.

    Args:
      path: of the file of its store.
      library: what ``faults.c`` was made into.
      crash: where it kills itself, as ``FASTWORKER_CRASH`` has it.
    """

    def __init__(self, path: Path, library: Path | None = None, *, crash: str = "") -> None:
        self.path = path
        self.fault = path.parent.parent / "fault"
        self.disk = path.parent.parent / "disk"
        self.disk.mkdir(exist_ok=True)
        names: list[str] = []
        for file in path.parent.iterdir():
            names.append(f"{file.name} {file.stat().st_ino}\n")
            shutil.copyfile(file, self.disk / str(file.stat().st_ino))
        (self.disk / "names").write_text("".join(names))
        environment = dict(os.environ)
        if library is not None:
            environment |= {
                "LD_PRELOAD": str(library),
                "FAULTS_FOLDER": str(path.parent),
                "FAULTS_FILE": str(self.fault),
                "FAULTS_DISK": str(self.disk),
            }
        if crash:
            environment["FASTWORKER_CRASH"] = crash
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.store.faulty", str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=Path(__file__).parents[2],
        )
        assert self.answer() == "ok"

    def answer(self) -> str:
        """The next line; empty if the process has ended."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def send(self, command: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()

    def ask(self, command: str) -> str:
        self.send(command)
        return self.answer()

    def break_disk(self, fault: str) -> None:
        """From now on; see ``faults.c``."""
        new = self.fault.with_suffix(".new")
        new.write_text(fault)
        new.rename(self.fault)

    def mend_disk(self) -> None:
        self.fault.unlink()

    def stop(self) -> None:
        """``SIGSTOP``, and wait until it has."""
        self.process.send_signal(signal.SIGSTOP)
        os.waitpid(self.process.pid, os.WUNTRACED)

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> list[str]:
        """``kill -9``; return what it has still said."""
        self.process.kill()
        rest = self.process.communicate()[0]
        return rest.split("\n")

    def close(self) -> None:
        """Let it end by itself."""
        self.process.communicate(timeout=60)

    def cut_power(self, to: Path) -> None:
        """Kill it; what is in ``to`` then is what the disk has."""
        self.kill()
        shutil.rmtree(to, ignore_errors=True)
        to.mkdir()
        for line in (self.disk / "names").read_text().splitlines():
            name, number = line.rsplit(" ", 1)
            kept = self.disk / number
            if kept.exists():
                shutil.copyfile(kept, to / name)
            else:
                (to / name).touch()


if __name__ == "__main__":
    serve(sys.argv[1])
