"""How ``fastworker top`` looks: lines of a given width, as many as fit, out of its state.

Nothing is drawn here, and nothing is asked: the same state gives the same lines.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from rich.text import Text

from fastworker.cli._output import one_line
from fastworker.cli._top_state import Json, TopState

PRIORITIES: Final = ("critical", "high", "normal", "low")
SPARK_SECONDS: Final = 300
_BARS: Final = "▁▂▃▄▅▆▇█"
_ASCII_BARS: Final = ".:-=+*%#"
_STATUS_STYLES: Final = {
    "active": "green",
    "away": "red",
    "draining": "yellow",
    "success": "green",
    "failure": "red",
    "started": "cyan",
    "cancelled": "yellow",
    "expired": "yellow",
}
_LABEL: Final = "dim"

# A column: its heading, how wide it is, and whether it stands to the right.
Column = tuple[str, int, bool]
Cell = tuple[str, str]


class TopView:
    """See the module's first lines.

    Args:
      has_unicode: whether the terminal shows block characters.
    """

    def __init__(self, *, has_unicode: bool = True) -> None:
        self._has_unicode = has_unicode
        self._bars = _BARS if has_unicode else _ASCII_BARS
        self._dot = " · " if has_unicode else " | "

    def lines(
        self, state: TopState, *, width: int, height: int, now: float, wall: float
    ) -> list[Text]:
        """The screen.

        Args:
          height: how many lines there are at most.
          now: as for the state.
          wall: seconds since 1970.
        """
        overview = state.overview
        if overview is None:
            return [_cut(self._problem(state), width)][:height]
        lines = [self._title(state, overview, width)]
        if state.problem:
            lines.append(self._problem(state))
        lines += [
            self._rates(overview),
            self._latencies(overview),
            *self._sparks(state, width),
            self._queues(overview),
            self._ends(overview),
        ]
        room = max(0, height - len(lines))
        workers = self._workers(state, now)
        tasks = self._tasks(state, width, wall)
        # Workers get half of what is left, or what tasks leave.
        of_workers = max(room // 2, room - len(tasks) - 2)
        for rows, count in ((workers, of_workers), (tasks, room)):
            count = min(count, height - len(lines))
            if count >= 3:
                lines.append(Text())
                lines += _some(rows, count - 1)
        lines = [_cut(line, width) for line in lines[:height]]
        if not self._has_unicode:
            for line in lines:
                line.plain = line.plain.replace("…", "~")
        return lines

    # --- parts ---

    def _title(self, state: TopState, overview: Json, width: int) -> Text:
        title = Text("FastWorker ", "bold")
        facts = [
            f"{overview['version']}",
            one_line(overview["worker_id"]),
            f"up {duration(overview['now'] - overview['started_at'])}",
            "on disk" if overview["is_durable"] else "in memory",
        ]
        title.append(self._dot.join(facts))
        if overview["is_draining"]:
            title.append(f"{self._dot}draining", "bold yellow")
        if overview["store_error"]:
            title.append(f"{self._dot}store: {one_line(overview['store_error'])}", "bold red")
        mark = ("disconnected", "bold red") if state.problem else ("live", "bold green")
        room = width - title.cell_len - len(mark[0])
        if room < 1:
            title.truncate(max(0, width - len(mark[0]) - 1))
            room = width - title.cell_len - len(mark[0])
        title.append(" " * max(0, room))
        return title.append(*mark)

    def _problem(self, state: TopState) -> Text:
        return Text(one_line(state.problem or "waiting for the first numbers"), "bold red")

    def _rates(self, overview: Json) -> Text:
        rates = overview["rates"]
        return _facts(
            ("submitted", f"{rate(rates['submitted'])}/s", ""),
            ("succeeded", f"{rate(rates['succeeded'])}/s", "green"),
            ("failed", f"{rate(rates['failed'])}/s", "red" if rates["failed"] else ""),
            ("running", f"{overview['running']:,}", "cyan"),
            ("workers", f"{overview['workers']:,}", ""),
            ("clients", f"{overview['clients']:,}", ""),
        )

    def _latencies(self, overview: Json) -> Text:
        latency = overview["latency"]
        return _facts(
            *(
                (name, f"{seconds(latency[p50])} / {seconds(latency[p99])}", "")
                for name, p50, p99 in (
                    ("p50 / p99", "p50", "p99"),
                    ("waiting", "wait_p50", "wait_p99"),
                    ("running", "run_p50", "run_p99"),
                )
            )
        )

    def _sparks(self, state: TopState, width: int) -> list[Text]:
        done = [(p["at"], p["succeeded"] + p["failed"]) for p in state.history]
        slow = [(p["at"], p["p99"]) for p in state.history]
        queued = [(p["at"], sum(p["queued"].values())) for p in state.history]
        lines = []
        for name, points, told in (
            ("ended/s", done, rate),
            ("p99", slow, seconds),
            ("queued", queued, rate),
        ):
            known = [value for _, value in points if value is not None]
            most = f"  most {told(max(known))}" if known else ""
            line = Text(f"{name:8}", _LABEL)
            line.append(spark(points, max(10, min(60, width - 26)), self._bars), "blue")
            lines.append(line.append(most, _LABEL))
        return lines

    def _queues(self, overview: Json) -> Text:
        queued = overview["queued"]
        total, limit = sum(queued.values()), overview["max_queued"]
        return _facts(
            *((name, f"{queued[name]:,}", _depth(queued[name])) for name in PRIORITIES),
            ("full", f"{100 * total / limit:.0f} %" if limit else "-", _depth(total, limit)),
            ("retrying", f"{overview['retrying']:,}", ""),
            ("held", f"{overview['held']:,}", "yellow" if overview["held"] else ""),
        )

    def _ends(self, overview: Json) -> Text:
        return _facts(
            *(
                (name, f"{overview[name]:,}", "red" if name == "failed" and number else "")
                for name in ("succeeded", "failed", "cancelled", "expired")
                for number in (overview[name],)
            )
        )

    def _workers(self, state: TopState, now: float) -> list[Text]:
        columns: list[Column] = [
            *(("WORKER", 24, False), ("STATUS", 8, False), ("LOAD", 18, False)),
            *(("RUNNING", 7, True), ("HEARD", 7, True), ("LANES", 0, False)),
        ]
        rows: list[Sequence[Cell]] = []
        for worker_id, worker in state.workers.items():
            lanes = ", ".join(
                f"{one_line(lane['name'])} {lane['running']}/{lane['capacity']}"
                for lane in worker["lanes"]
            )
            status = worker["status"]
            heard = seconds(state.idle_of(worker_id, now=now))
            rows.append(
                (
                    (one_line(worker_id), ""),
                    (status, _STATUS_STYLES.get(status, "")),
                    (self._load(worker["load"], worker["capacity"]), ""),
                    (f"{worker['running_count']:,}", "cyan"),
                    ("here" if worker["is_inside"] else heard, ""),
                    (lanes, _LABEL),
                )
            )
        return _table(columns, rows, "no workers; start one with 'fastworker subworker'")

    def _load(self, load: int, capacity: int) -> str:
        cells = 8
        filled = min(cells, round(cells * load / capacity)) if capacity else 0
        bar = self._bars[-1] * filled + self._bars[0] * (cells - filled)
        return f"{bar} {load}/{capacity}"

    def _tasks(self, state: TopState, width: int, wall: float) -> list[Text]:
        name_width = max(16, min(40, width - (106 if width >= 130 else 90)))
        columns: list[Column] = [
            # An id in full can be copied; where there is room for it.
            *(("TASK", 36 if width >= 130 else 20, False), ("NAME", name_width, False)),
            *(("STATUS", 9, False), ("TIME", 7, True), ("WORKER", 16, False)),
            ("ERROR", 0, False),
        ]
        rows: list[Sequence[Cell]] = []
        shown: set[str] = set()
        for task in state.running():
            shown.add(task["task_id"])
            done = "" if task["progress"] is None else f"{100 * task['progress']:.0f} %"
            note = " ".join(filter(None, (done, task["message"])))
            rows.append(_task_cells(task, "started", wall - task["started_at"], note))
        for task in reversed(state.tasks.values()):
            if task["task_id"] in shown:
                continue
            rows.append(
                _task_cells(task, task["status"], _time_of(task, wall), task["error"] or "")
            )
        return _table(columns, rows, "no tasks since this was opened")


def _task_cells(task: Json, status: str, time: float | None, note: str) -> Sequence[Cell]:
    return (
        (one_line(task["task_id"]), _LABEL),
        (one_line(task["name"]), ""),
        (status, _STATUS_STYLES.get(status, "")),
        (seconds(time), ""),
        (one_line(task["worker_id"] or "-"), ""),
        (one_line(note), "red" if status == "failure" else _LABEL),
    )


def _time_of(task: Json, wall: float) -> float | None:
    """How long it has run, or waits; None if it ended without having run."""
    started = _moment(task["started_at"])
    if task["status"] == "pending":
        created = _moment(task["created_at"])
        return None if created is None else wall - created
    if started is None:
        return None
    if task["status"] == "started":
        return wall - started
    changed = _moment(task["changed_at"])
    return None if changed is None else changed - started


def _moment(text: str | None) -> float | None:
    return None if text is None else datetime.fromisoformat(text).astimezone(UTC).timestamp()


# --- words ---


def rate(value: float) -> str:
    """A number of tasks, or of tasks a second."""
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:.1f}"


def seconds(value: float | None) -> str:
    """A time as people say it."""
    if value is None:
        return "-"
    value = max(0.0, value)
    if value < 1:
        return f"{1000 * value:.0f} ms" if value >= 0.01 else f"{1000 * value:.1f} ms"
    return f"{value:.1f} s" if value < 100 else duration(value)


def duration(value: float) -> str:
    """A long time, in its two largest units."""
    left = max(0, int(value))
    parts: list[str] = []
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count or parts:
            parts.append(f"{count}{unit}")
    return " ".join(parts[:2]) or "0s"


def spark(points: Sequence[tuple[float, float | None]], cells: int, bars: str) -> str:
    """The last minutes as a line of bars; a gap where nothing is known."""
    if not points:
        return " " * cells
    end = points[-1][0]
    groups: list[list[float]] = [[] for _ in range(cells)]
    for at, value in points:
        cell = cells - 1 - int((end - at) * cells / SPARK_SECONDS)
        if value is not None and 0 <= cell < cells:
            groups[cell].append(value)
    means = [sum(group) / len(group) if group else None for group in groups]
    most = max((mean for mean in means if mean is not None), default=0.0)
    return "".join(
        " " if mean is None else bars[round((len(bars) - 1) * mean / most) if most else 0]
        for mean in means
    )


def _depth(count: int, limit: int = 0) -> str:
    if limit and count >= 0.9 * limit:
        return "bold red"
    return "yellow" if count else ""


def _facts(*facts: tuple[str, str, str]) -> Text:
    line = Text()
    for name, value, style in facts:
        line.append(f"{name} ", _LABEL)
        line.append(f"{value}   ", style)
    line.rstrip()
    return line


def _table(columns: Sequence[Column], rows: Sequence[Sequence[Cell]], empty: str) -> list[Text]:
    heading = _row(columns, [(name, "bold") for name, _, _ in columns])
    return [heading, *(_row(columns, row) for row in rows)] if rows else [Text(empty, _LABEL)]


def _row(columns: Sequence[Column], cells: Sequence[Cell]) -> Text:
    line = Text()
    for (_, width, is_right), (text, style) in zip(columns, cells, strict=True):
        cell = Text(text, style, no_wrap=True)
        if width:
            cell.truncate(width, overflow="ellipsis")
            padding = " " * max(0, width - cell.cell_len)
            if is_right:
                line.append(padding)
            line.append_text(cell)
            line.append(f"{'' if is_right else padding}  ")
        else:
            line.append_text(cell)
    line.rstrip()
    return line


def _some(rows: list[Text], count: int) -> list[Text]:
    """As many as fit; the last line says how many do not."""
    if len(rows) <= count:
        return rows
    return [*rows[: count - 1], Text(f"and {len(rows) - count + 1:,} more", _LABEL)]


def _cut(line: Text, width: int) -> Text:
    line.truncate(width, overflow="ellipsis")
    line.no_wrap = True
    return line
