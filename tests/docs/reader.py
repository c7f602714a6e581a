"""Does what a page says, as its reader would: files, commands, Ctrl-C, in that order.

Commands run on terminals of their own, in one empty folder. The pages keep the
default ports; here each of them stands for a free one, in what is typed, in
the programs and, the other way round, in what is shown.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from tests.docs.page import Block
from tests.nng.shell import MARK, ON_TERMINAL, Shell, wait_until
from tests.ports import free_port

PATIENCE = 20.0
DEFAULT_PORTS = (5550, 5555, 5560, 8080, 9000)

# Commands that a reader leaves running in a shell of their own.
RUNS_ON = re.compile(
    r"(\.venv/bin/)?fastworker (control-plane|subworker) .*|python listener\.py"
)
# How a control plane shows that it is up, if the page does not show it.
IS_UP = "  run by "

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


class Command:
    """A command on a terminal, and all that it has written there."""

    def __init__(self, typed: str, folder: Path, environ: dict[str, str]) -> None:
        self.typed = typed
        self.runs_on = False  # as far as the reader knows
        self.read = 0  # characters that the page has shown already
        self._bytes = b""
        self._master, slave = os.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-c", ON_TERMINAL, "bash", "-c", typed],
            cwd=folder, env=environ, stdin=slave, stdout=slave, stderr=slave,
        )  # fmt: skip
        os.close(slave)
        self._reader = threading.Thread(target=self._read_all, daemon=True)
        self._reader.start()

    def _read_all(self) -> None:
        with contextlib.suppress(OSError):  # how Linux says that nobody has it open
            while chunk := os.read(self._master, 65536):
                self._bytes += chunk

    @property
    def output(self) -> str:
        text = self._bytes.decode(errors="replace").replace("\r\n", "\n")
        return _ESCAPES.sub("", text)

    def press_ctrl_c(self) -> None:
        os.write(self._master, b"\x03")

    def wait(self) -> int:
        """Wait for its end and for all that it wrote; return the exit code."""
        try:
            code = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.typed!r} still runs:\n{self.output}") from None
        self._reader.join(PATIENCE)
        return code

    def clear(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._reader.join(PATIENCE)
        os.close(self._master)


class Reader:
    """Somebody who follows one page, in one folder."""

    def __init__(self, folder: Path, page: str) -> None:
        self.folder = folder
        self._page = page
        self._shell = Shell(folder)
        self._ports = {default: free_port() for default in DEFAULT_PORTS}
        self._environ = {
            **self._shell.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONWARNINGS": "error",
            "COLUMNS": "96",
            "TERM": "dumb",
            "FASTWORKER_BASE_ADDRESS": f"tcp://127.0.0.1:{self._ports[5555]}",
            "FASTWORKER_DISCOVERY_ADDRESS": f"tcp://127.0.0.1:{self._ports[5550]}",
            "FASTWORKER_SUBWORKER_PORT": str(self._ports[5560]),
        }
        if "127.0.0.1:8080" in page:  # it is about the dashboard, which others do not need
            self._environ["FASTWORKER_GUI_ENABLED"] = "1"
            self._environ["FASTWORKER_GUI_PORT"] = str(self._ports[8080])
        assert MARK in self._environ
        # As "python3 -m venv .venv" would have made it, with the same packages.
        (folder / ".venv").symlink_to(sys.prefix)
        self._commands: list[Command] = []
        self._latest: dict[str, Command] = {}  # of each shell, by its caption
        self._code = 0

    # --- blocks ---

    def follow(self, block: Block) -> None:
        """Do what a block says."""
        where = f"line {block.line}"
        if block.language == "python":
            self._follow_python(block, where)
        elif block.language == "console":
            self._follow_console(block, where)

    def _follow_python(self, block: Block, where: str) -> None:
        name = block.file_name or "example.py"
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self._with_free_ports(block.text))
        if not block.file_name:
            command = self._start(f"python {name}")
            assert command.wait() == 0, f"{where}:\n{command.output}"
            shown = f"`{self._as_shown(command.output).strip()}`"
            assert shown in self._page, f"{where}: the page does not say that it prints {shown}"

    def _follow_console(self, block: Block, where: str) -> None:
        steps = re.split(r"^(?=\$ )", block.text, flags=re.MULTILINE)
        if steps[0]:
            self._expect(self._latest[block.caption], steps[0], where)
        for step in steps[1:]:
            typed, _, shown = step.removeprefix("$ ").partition("\n")
            asks_code = typed == "echo $?"
            if asks_code:
                typed = f"(exit {self._code}); {typed}"
            asked = f"{step}$ echo $?\n" in block.text
            command = self._start(typed)
            command.runs_on = bool(RUNS_ON.fullmatch(typed)) and not asked
            self._latest[block.caption] = command
            self._expect(command, shown, where)
            if not command.runs_on:
                self._code = command.wait()
                assert self._code == 0 or asked, f"{where}: {typed} exits with {self._code}"

    def _start(self, typed: str) -> Command:
        typed = self._with_free_ports(typed)
        command = Command(typed, self.folder, self._environ)
        self._commands.append(command)
        return command

    # --- what is shown ---

    def _expect(self, command: Command, shown: str, where: str) -> None:
        before, *stops = re.split(r"^(?=\^C)", shown, flags=re.MULTILINE)
        if before or not stops:
            at_end = not command.runs_on and not stops
            self._expect_part(command, before, where, to_its_end=at_end)
        elif not command.runs_on:
            # Nothing shows that it has begun: a person waits a moment, too.
            time.sleep(1.5)
        for stop in stops:
            command.press_ctrl_c()
            self._expect_part(command, stop, where, to_its_end=stop is stops[-1])

    def _expect_part(
        self, command: Command, part: str, where: str, *, to_its_end: bool
    ) -> None:
        pattern = pattern_of(part)
        if to_its_end:
            command.wait()
            output = self._as_shown(command.output)[command.read :]
            if part.startswith("^C"):
                output = output[output.find("^C") :]  # what came before is shown elsewhere
            assert re.fullmatch(pattern, output), (
                f"{where}: {command.typed}\nis said to show\n{part}\nand shows\n{output}"
            )
            return
        if not part and "fastworker control-plane" in command.typed:
            pattern = rf"(?:.*\n)*{IS_UP}"
        matched: list[str] = []

        def is_there() -> bool:
            found = re.match(pattern, self._as_shown(command.output)[command.read :])
            matched[:] = [found[0]] if found else []
            assert found or command.process.poll() is None, (
                f"{where}: {command.typed} has ended:\n{command.output}"
            )
            return bool(found)

        try:
            wait_until(is_there, f"{where}: {part}", PATIENCE)
        except AssertionError as error:
            raise AssertionError(f"{error}\nbut\n{command.output}") from None
        command.read += len(matched[0])

    def _with_free_ports(self, text: str) -> str:
        for default, port in self._ports.items():
            text = re.sub(rf"\b127\.0\.0\.1:{default}\b", f"127.0.0.1:{port}", text)
        return text

    def _as_shown(self, text: str) -> str:
        for default, port in self._ports.items():
            text = re.sub(rf"\b127\.0\.0\.1:{port}\b", f"127.0.0.1:{default}", text)
        return text

    def leave(self) -> None:
        """End whatever still runs."""
        for command in self._commands:
            command.clear()
        self._shell.clear()


def pattern_of(shown: str) -> str:
    """A regular expression for what a page shows.

    ``...`` stands for anything within a line, or, alone in its line, for any
    number of lines.
    """
    pattern = ""
    for line in shown.splitlines():
        if line == "...":
            pattern += r"(?:.*\n)*?"
        else:
            pattern += ".*".join(map(re.escape, line.split("..."))) + r"[ ]*\n"
    return pattern


@contextlib.contextmanager
def open_reader(folder: Path, page: str) -> Iterator[Reader]:
    """A reader who leaves nothing behind."""
    reader = Reader(folder, page)
    try:
        yield reader
    finally:
        reader.leave()
