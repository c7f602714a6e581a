"""What the commands do without any network."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import fastworker
from fastworker import _errors
from fastworker._models import TaskResult, TaskStatus
from fastworker._outcomes import Absence
from fastworker.cli import main
from fastworker.cli._demo_run import Figures, files_below
from fastworker.cli._demo_view import DemoView
from fastworker.cli._describe import describe
from fastworker.cli._errors import Exit, errors_in_one_line
from fastworker.cli._status import show
from fastworker.cli._submit import report
from fastworker.cli._supervised import address_to_dial, fastworker_command
from fastworker.demo import hash_file

COMMANDS = [
    "control-plane", "subworker", "submit", "status", "cancel", "list", "callbacks", "demo",
    "completion",
]  # fmt: skip


@pytest.fixture(autouse=True)
def _restore_logging(monkeypatch: pytest.MonkeyPatch) -> None:
    # The commands own their process, and set this for all of it.
    monkeypatch.setattr(logging, "raiseExceptions", logging.raiseExceptions)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, prog_name="fastworker")


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_names_every_command_and_the_exit_codes(flag: str) -> None:
    result = run(flag)
    assert result.exit_code == 0
    assert all(f"\n  {command} " in result.stdout for command in COMMANDS)
    for code in Exit:
        assert str(int(code)) in result.stdout


@pytest.mark.parametrize(
    ("command", "options"),
    [
        (
            "control-plane",
            "--worker-id --base-address --discovery-address --subworker-port "
            "--result-cache-size --result-cache-ttl --task-modules --gui-host --gui-port "
            "--no-gui --processes --concurrency --backend --drain-timeout "
            "--serialization-format --log-level",
        ),
        (
            "subworker",
            "--worker-id --control-plane-address --base-address --discovery-address "
            "--task-modules --concurrency --backend --drain-timeout --serialization-format "
            "--log-level",
        ),
        (
            "submit",
            "--task-name --args --kwargs --non-blocking --json --discovery-address --timeout "
            "--priority --max-retries --task-timeout --expires --grace --task-modules "
            "--serialization-format --log-level",
        ),
        (
            "cancel",
            "--task-id --grace --json --discovery-address --timeout --log-level",
        ),
        (
            "status",
            "--task-id --json --discovery-address --timeout --serialization-format --log-level",
        ),
        (
            "list",
            "--task-modules --tree --json --discovery-address --timeout "
            "--serialization-format --log-level",
        ),
        ("callbacks", "--state --limit --json --discovery-address --timeout --log-level"),
        ("demo", "--json"),
    ],
)
def test_help_of_a_command_has_all_its_options(command: str, options: str) -> None:
    result = run(command, "-h")
    assert result.exit_code == 0
    missing = [option for option in options.split() if f"{option} " not in result.stdout]
    assert missing == []
    assert "--supervised" not in result.stdout


@pytest.mark.parametrize(
    "default",
    [
        "tcp://127.0.0.1:5555", "tcp://127.0.0.1:5550", "5560", "10000", "3600", "8080",
        "control-plane",
    ],
)  # fmt: skip
def test_help_tells_the_defaults(default: str) -> None:
    assert f"[default: {default}" in " ".join(run("control-plane", "-h").stdout.split())


def test_the_version_is_that_of_the_package() -> None:
    result = run("--version")
    assert result.stdout == f"fastworker, version {fastworker.__version__}\n"


@pytest.mark.parametrize("words", [["--version"], ["--help"], ["nonsense"], ["list", "-h"]])
def test_the_module_and_the_script_are_the_same_command(words: list[str]) -> None:
    script = Path(sys.executable).with_name("fastworker")
    by_script, by_module = (
        subprocess.run([*command, *words], capture_output=True, text=True, check=False)
        for command in ([script], [sys.executable, "-m", "fastworker"])
    )
    assert by_script.stdout + by_script.stderr
    assert (by_module.returncode, by_module.stdout, by_module.stderr) == (
        by_script.returncode, by_script.stdout, by_script.stderr
    )  # fmt: skip


def test_help_tells_where_the_dashboard_is_found() -> None:
    text = " ".join(run("control-plane", "-h").stdout.split())
    assert "--gui-host HOST Where the dashboard listens. [default: 127.0.0.1]" in text
    assert "--gui-port PORT At which port. [default: 8080]" in text
    assert "--no-gui Serve no dashboard." in text


HEAVY = {"trio", "anyio", "pynng", "msgspec", "rich", "cachetools"}


@pytest.mark.parametrize("arguments", [["--help"], ["control-plane", "-h"], ["--version"]])
def test_help_loads_neither_event_loops_nor_sockets(arguments: list[str]) -> None:
    # A process of its own: here they are loaded already.
    source = (
        "import sys\nfrom fastworker.cli import main\n"
        f"try: main({arguments!r})\n"
        f"finally: print(*sorted({HEAVY!r} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, check=True
    )
    assert done.stdout
    assert done.stderr.strip() == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ["submit"],
        ["submit", "--task-name", "add", "--prioritty", "low"],
        ["submit", "--task-name", "add", "--priority", "urgent"],
        ["submit", "--task-name", "add", "--args", "1", "--non-blokcing"],
        ["status"],
        ["subworker", "--worker-id", "w1"],
        ["subworker", "--control-plane-address", "tcp://127.0.0.1:5555"],
        ["control-plane", "--processes", "-1"],
        ["control-plane", "--concurrency", "0"],
        ["demo", "/no/such/folder"],
        ["submit", "--task-name", "add", "--kwargs", "[1]"],
        ["callbacks", "--state", "lost"],
        ["callbacks", "--limit", "-1"],
        ["completion"],
        ["completion", "csh"],
        ["nonsense"],
    ],
)
def test_wrong_usage_exits_with_2_and_prints_nothing_to_stdout(arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.exit_code == Exit.USAGE
    assert result.stdout == ""
    assert "Error: " in result.stderr


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["control-plane", "--base-address", "localhost"], "'localhost'"),
        (["control-plane", "--subworker-port", "70000"], "70000"),
        (["control-plane", "--result-cache-size", "0"], "result_cache_max_size=0"),
        (["control-plane", "--subworker-port", "5550"], "5550"),
        (["control-plane", "--gui-port", "-1"], "gui_port=-1"),
        (["control-plane", "--base-address", "tcp://0.0.0.0:5555"], "say insecure=True"),
        (["control-plane", "--discovery-address", "tcp://[::]:5550"], "tcp://[::]:5550"),
        (["control-plane", "--base-address", "tcp://no.such.invalid:1"], "does not resolve"),
        (["control-plane", "--max-queued", "0"], "max_queued=0"),
        (["control-plane", "--task-modules", "no_such_module"], "no_such_module"),
        (["subworker", "--worker-id", "w", "--control-plane-address", "x"], "'x'"),
        (["submit", "--task-name", "add", "--timeout", "-1"], "timeout=-1"),
        (["status", "--task-id", "x", "--discovery-address", "tcp://h:0"], "tcp://h:0"),
        (["list", "--task-modules", "no_such_module"], "no_such_module"),
    ],
)
def test_a_wrong_setting_exits_with_78_and_one_line_that_shows_it(
    arguments: list[str], shown: str
) -> None:
    result = run(*arguments)
    assert result.exit_code == Exit.BAD_CONFIGURATION
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("fastworker: ")
    assert shown in result.stderr


def test_a_wrong_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTWORKER_TIMEOUT", "soon")
    result = run("submit", "--task-name", "add")
    assert result.exit_code == Exit.BAD_CONFIGURATION
    assert "FASTWORKER_TIMEOUT='soon'" in result.stderr


# --- exit codes ---


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (_errors.UnknownTask("x"), Exit.UNKNOWN),
        (_errors.NotEncodable("x"), Exit.USAGE),
        (_errors.PayloadTooLarge("x", 2, 1), Exit.USAGE),
        (_errors.QueueFull("x"), Exit.TRY_AGAIN),
        (_errors.SubmitRefused("x"), Exit.TRY_AGAIN),
        (_errors.ControlPlaneUnreachable("tcp://h:1", "x"), Exit.NO_CONTROL_PLANE),
        (_errors.LinkBroken("x"), Exit.NO_CONTROL_PLANE),
        (_errors.ConfigurationError("x"), Exit.BAD_CONFIGURATION),
        (_errors.AddressInUse("tcp://h:1"), Exit.BAD_CONFIGURATION),
        (_errors.RegistrationError("x"), Exit.BAD_CONFIGURATION),
        (KeyboardInterrupt(), Exit.INTERRUPTED),
    ],
)
def test_each_expected_error_is_one_line_and_an_exit_code(
    error: BaseException, code: Exit, capsys: pytest.CaptureFixture[str]
) -> None:
    wrapped = BaseExceptionGroup("of a nursery", [error])
    for raised in (error, wrapped):
        with pytest.raises(SystemExit) as caught, errors_in_one_line():
            raise raised
        assert caught.value.code == code
        output = capsys.readouterr()
        assert output.out == ""
        assert output.err == f"fastworker: {str(error) or 'interrupted'}\n"


def test_a_bug_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError), errors_in_one_line():
        raise ZeroDivisionError


@pytest.mark.parametrize(
    ("status", "error", "code", "hint"),
    [
        (TaskStatus.FAILURE, "ValueError: timed out", Exit.TASK_FAILED, ""),
        (TaskStatus.FAILURE, "timed out after 30 s", Exit.TIMED_OUT, "--timeout"),
        (TaskStatus.CANCELLED, "cancelled", Exit.CANCELLED, "submit it again"),
        (TaskStatus.EXPIRED, "expired", Exit.TIMED_OUT, "--timeout"),
        (TaskStatus.SUCCESS, "no longer kept", Exit.UNKNOWN, "--result-cache-size"),
    ],
)
@pytest.mark.parametrize("as_json", [False, True])
def test_a_task_without_a_value_says_why_and_what_to_do_on_stderr(
    status: TaskStatus,
    error: str,
    code: Exit,
    hint: str,
    as_json: bool,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert report(TaskResult("some-id", status, error=error), as_json=as_json) == code
    output = capsys.readouterr()
    assert output.err.startswith(f"fastworker: task some-id: {error}")
    assert output.err.count("\n") == 1
    assert hint in output.err
    if as_json:
        shown = json.loads(output.out)
        assert (shown["status"], shown["error"]) == (status.value, error)
    else:
        assert output.out == ""


def test_a_failure_with_a_traceback_says_how_to_see_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    failed = TaskResult("x", TaskStatus.FAILURE, error="ValueError: 1", traceback="Traceback")
    assert report(failed) == Exit.TASK_FAILED
    assert capsys.readouterr().err == (
        "fastworker: task x: ValueError: 1 (--log-level DEBUG shows the traceback)\n"
    )


def test_a_value_is_all_that_stdout_has(capsys: pytest.CaptureFixture[str]) -> None:
    assert report(TaskResult("some-id", TaskStatus.SUCCESS, {"a": 1})) == Exit.OK
    assert capsys.readouterr() == ('{"a": 1}\n', "")


def test_a_value_is_in_an_object_with_json(capsys: pytest.CaptureFixture[str]) -> None:
    result = TaskResult("some-id", TaskStatus.SUCCESS, [1], worker_id="w1", attempts=1)
    assert report(result, as_json=True) == Exit.OK
    output = capsys.readouterr()
    assert output.err == ""
    assert json.loads(output.out) == {
        "task_id": "some-id",
        "status": "success",
        "result": [1],
        "error": None,
        "started_at": None,
        "completed_at": None,
        "worker_id": "w1",
        "attempts": 1,
    }


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize(
    ("found", "status", "code", "said"),
    [
        *((TaskResult("x", status), status.value, Exit.OK, "") for status in TaskStatus),
        (Absence.EVICTED, "evicted", Exit.OK, "it has ended, and its result is no longer kept"),
        (Absence.UNKNOWN, "unknown", Exit.UNKNOWN, "unknown to the control plane at tcp://h:1"),
    ],
)
def test_status_tells_every_state_apart(
    found: TaskResult | Absence,
    status: str,
    code: Exit,
    said: str,
    as_json: bool,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert show("x", found, "tcp://h:1", as_json=as_json) == code
    output = capsys.readouterr()
    if found is Absence.UNKNOWN and not as_json:
        assert output.out == ""
    else:
        shown = json.loads(output.out)
        assert (shown["task_id"], shown["status"]) == ("x", status)
        assert list(shown) == list(describe(TaskResult("x", TaskStatus.PENDING)))
    assert output.err.count("\n") == (1 if said else 0)
    assert said in output.err


# --- supervised processes ---


@pytest.mark.parametrize(
    ("bound", "dialed"),
    [
        ("tcp://0.0.0.0:5560", "tcp://127.0.0.1:5560"),
        ("tcp://[::]:5560", "tcp://[::1]:5560"),
        ("tcp://10.0.0.1:5560", "tcp://10.0.0.1:5560"),
        ("tcp://[fe80::1]:1", "tcp://[fe80::1]:1"),
    ],
)
def test_a_bind_address_is_dialed_where_this_machine_is(bound: str, dialed: str) -> None:
    assert address_to_dial(bound) == dialed


def test_python_does_not_look_into_the_current_folder_for_its_own_modules(
    folder: Path,
) -> None:
    (folder / "random.py").write_text("raise SystemExit('a user\\'s file was imported')")
    command = fastworker_command("subworker", {"worker-id": "w-1", "backend": None})
    assert command[1:] == [
        "-P",
        "-m",
        "fastworker",
        "subworker",
        "--supervised",
        "--worker-id=w-1",
    ]
    done = subprocess.run([*command, "--help"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


# --- the demo's parts ---


def test_hash_file_counts_bytes_and_lines(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for content, lines in [(b"", 0), (b"a", 1), (b"a\n", 1), (b"a\nb", 2), (b"\n\n", 2)]:
        path.write_bytes(content)
        facts = hash_file(str(path))
        assert (facts["bytes"], facts["lines"]) == (len(content), lines)
        assert len(facts["sha256"]) == 64


def test_the_demo_looks_at_regular_files_only(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "file").touch()
    (tmp_path / "a").touch()
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "nowhere").symlink_to(tmp_path / "missing")
    (tmp_path / "site-packages").mkdir()
    (tmp_path / "site-packages" / "left out").touch()
    subprocess.run(["mkfifo", tmp_path / "pipe"], check=True)
    errors: list[OSError] = []
    found = list(files_below(str(tmp_path), "site-packages", errors.append))
    assert found == [str(tmp_path / "a"), str(tmp_path / "b" / "file")]
    assert errors == []


def test_the_demos_table_shows_shares_and_the_first_failures(
    capsys: pytest.CaptureFixture[str],
) -> None:
    figures = Figures("/folder", tasks=10, seconds=2.0)
    for number in range(3):
        figures.add("ok", _hashed(f"worker-{number % 2 + 1}"))
    for number in range(7):
        failed = TaskResult(
            "x", TaskStatus.FAILURE, error="OSError: gone", worker_id="worker-1"
        )
        figures.add(f"/folder/\udcff{number}", failed)
    DemoView(as_json=False).show(figures)
    output = capsys.readouterr().out
    assert "9 tasks, 90%" in output
    assert "1 tasks, 10%" in output
    assert output.count("OSError: gone") == 5
    assert "and 2 more failures" in output
    assert "5" in output.split("tasks/s")[1].splitlines()[0]


def _hashed(worker_id: str) -> TaskResult:
    facts = {"sha256": "", "bytes": 2, "lines": 1}
    return TaskResult("x", TaskStatus.SUCCESS, facts, worker_id=worker_id)
