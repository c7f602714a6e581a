"""The campaign itself: what it says of a case, how that is tried again, what it measures."""

from __future__ import annotations

import mmap
import sys
from collections.abc import Iterable
from random import Random

import pytest

from tests.fuzz import __main__ as command
from tests.fuzz.campaign import MIB, Campaign, Unexpected
from tests.fuzz.targets import TARGETS

BAD = 0.97


class Fragile:
    """Breaks at certain numbers, and remembers what it was given in each life."""

    name = "fragile"
    share = 1.0
    life = 10

    def __init__(self) -> None:
        self.lives: list[list[float]] = []

    def live(self, cases: Iterable[Random]) -> None:
        self.lives.append([])
        for rng in cases:
            self.lives[-1].append(rng.random())
            if self.lives[-1][-1] > BAD:
                raise ValueError("too large")


def broken_case(target: Fragile) -> tuple[int, str]:
    with pytest.raises(Unexpected, match=r"fragile, case \d+: ValueError") as caught:
        Campaign(3).run(target, 10_000)
    return sum(map(len, target.lives)) - 1, str(caught.value)


def test_a_case_that_comes_out_wrong_is_named_with_the_command_that_repeats_it() -> None:
    number, said = broken_case(Fragile())
    assert f"case {number}:" in said
    assert f"python -m tests.fuzz --case 'fragile' {number} --seed 3" in said


def test_a_case_is_repeated_after_those_of_its_life() -> None:
    target = Fragile()
    number, _ = broken_case(target)
    again = Fragile()
    with pytest.raises(Unexpected, match=f"case {number}:"):
        Campaign(3).replay(again, number)
    assert again.lives == [target.lives[-1]]
    assert len(again.lives[0]) == number % again.life + 1


def test_what_is_kept_is_growth() -> None:
    kept: list[mmap.mmap] = []

    class Greedy(Fragile):
        def live(self, cases: Iterable[Random]) -> None:
            for rng in cases:
                # Pages of its own: the heap may have room that earlier tests have left.
                kept.append(mmap.mmap(-1, MIB))
                kept[-1].write(rng.randbytes(MIB))

    campaign = Campaign(3)
    campaign.run(Greedy(), 80)
    assert campaign.growth > 50


def test_a_case_that_takes_too_long_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.fuzz.campaign.PATIENCE", 0.05)

    class Endless(Fragile):
        def live(self, cases: Iterable[Random]) -> None:
            for _ in cases:
                while True:
                    pass

    with pytest.raises(Unexpected, match="case 0: TimeoutError"):
        Campaign(3).run(Endless(), 5)


def test_the_command_fails_if_a_case_does(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(TARGETS, "fragile", Fragile())
    monkeypatch.setattr(sys, "argv", ["fuzz", "5000", "3", "--only", "fragile"])
    assert command.main() == 1
    assert "again with: python -m tests.fuzz --case 'fragile'" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["fuzz", "300", "5", "--only", "frames"])
    assert command.main() == 0
    assert "300 cases of seed 5" in capsys.readouterr().out
