"""The comparison with others: what becomes of figures, and of runs that have none."""

from __future__ import annotations

import pytest

from benchmarks.peers import table
from benchmarks.peers.environment import requirements_of
from benchmarks.peers.results import Run, best, summarize
from benchmarks.peers.systems import SYSTEMS, System

OURS = System("ours", "FastWorker", "ours.py", is_ours=True)
QUICK = System("quick", "quick peer", "quick.py")
SLOW = System("slow", "slow peer", "slow.py")
DEAD = System("dead", "dead peer", "dead.py")


def run(system: System, number: int, burst: float, p50: float = 1.0) -> Run:
    figures = {"throughput": burst, "callers": burst / 2, "p50": p50, "p99": 2 * p50}
    return Run(system.key, number, figures)


def test_a_row_has_medians_and_ratios_to_the_best_peer() -> None:
    runs = [run(OURS, 1, 50_000, 0.5), run(SLOW, 1, 100, 4.0)]
    runs += [run(QUICK, number, burst, 1.0) for number, burst in enumerate([900, 2_000, 5_000])]
    rows = table.comparison([SLOW, QUICK, OURS], summarize(runs)).splitlines()
    assert rows[0].startswith("| system | burst, tasks/s | 100 callers, tasks/s |")
    assert rows[2:] == [
        "| FastWorker | 50,000 (25.0 ×) | 25,000 (25.0 ×) | 0.50 (0.50 ×) | 1.00 (0.50 ×) |",
        "| quick peer | 2,000 (1.00 ×) | 1,000 (1.00 ×) | 1.00 (1.00 ×) | 2.00 (1.00 ×) |",
        "| slow peer | 100 (0.05 ×) | 50.0 (0.05 ×) | 4.00 (4.00 ×) | 8.00 (4.00 ×) |",
    ]


def test_what_failed_keeps_the_figures_it_has_and_stands_last() -> None:
    halfway = Run("slow", 1, {"p50": 0.4}, error="not done after 60 s")
    dead = Run("dead", 1, error="exit code 1: ValueError: no")
    summaries = summarize([dead, halfway, run(QUICK, 1, 10)])
    rows = table.comparison([DEAD, SLOW, QUICK], summaries).splitlines()[2:]
    assert rows == [
        "| quick peer | 10.0 (1.00 ×) | 5.00 (1.00 ×) | 1.00 (2.50 ×) | 2.00 (1.00 ×) |",
        "| dead peer | failed | failed | failed | failed |",
        "| slow peer | failed | failed | 0.40 (1.00 ×) | failed |",
    ]


def test_a_round_that_failed_is_told_and_the_others_count() -> None:
    lost = Run("quick", 2, notes=["burst, of 300 tasks: 5 without a result"], error="died")
    summaries = summarize([run(QUICK, 1, 100), lost, run(QUICK, 3, 300)])
    assert summaries["quick"].figures["throughput"] == 200
    assert table.details([QUICK], summaries).splitlines()[1:] == [
        "  - round 2: burst, of 300 tasks: 5 without a result",
        "  - round 2: died",
    ]


def test_ratios_need_a_peer() -> None:
    rows = table.comparison([OURS], summarize([run(OURS, 1, 123.4)])).splitlines()
    assert rows[2] == "| FastWorker | 123 | 61.7 | 1.00 | 2.00 |"


def test_a_peer_that_did_nothing_is_no_best_one() -> None:
    summaries = summarize([run(SLOW, 1, 0.0, 0.1), run(QUICK, 1, 5.0, 1.0)])
    chosen = best(summaries.values(), "throughput")
    assert chosen is summaries["quick"]
    assert best(summaries.values(), "p50") is summaries["slow"]
    assert best([], "p50") is None


def test_half_load_has_rows_of_those_that_measure_it() -> None:
    figures = {"half load p50": 2.5, "half load p99": 9.5, "acknowledged": 1000}
    loaded, quick = Run("ours", 1, figures), Run("quick", 1, {"callers": 400.0})
    text = table.half_load([OURS, QUICK], summarize([loaded, quick]))
    assert text.splitlines()[2:] == ["| FastWorker | 2.50 | 9.50 | 1,000 (2.50 ×) |"]
    assert table.half_load([QUICK], summarize([run(QUICK, 1, 10)])) == ""


def test_a_run_takes_what_its_script_says_line_by_line() -> None:
    taken = Run("quick", 1)
    taken.take({"settings": "4 threads", "versions": {"huey": "3.0"}})
    taken.take({"p50": 1.5, "p99": 3})
    taken.take({"note": "odd"})
    assert taken.figures == {"p50": 1.5, "p99": 3}
    assert (taken.settings, taken.notes) == ("4 threads", ["odd"])
    text = table.details([QUICK], summarize([taken]))
    assert text.splitlines()[0] == "- quick peer: huey 3.0. 4 threads"


def test_requirements_are_those_in_the_block_of_a_script() -> None:
    text = '# /// script\n# dependencies = ["a[b]", "c==1"]\n# ///\n"""Doc."""\n'
    assert requirements_of(text) == ["a[b]", "c==1"]
    assert requirements_of('"""Nothing."""\n') == []


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda system: system.key)
def test_each_peer_says_what_it_needs(system: System) -> None:
    requirements = requirements_of(system.path.read_text())
    assert bool(requirements) is not system.is_ours
