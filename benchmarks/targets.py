"""A figure beside what was asked of it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """One row: what was measured, and the most or the least that it may be."""

    name: str
    value: float
    unit: str
    at_most: float | None = None
    at_least: float | None = None

    @property
    def is_met(self) -> bool:
        """Whether it is inside its bounds; without any it is."""
        return not (
            (self.at_most is not None and self.value > self.at_most)
            or (self.at_least is not None and self.value < self.at_least)
        )

    def __str__(self) -> str:
        target = ""
        if self.at_most is not None:
            target = f"<= {self.at_most:g}"
        elif self.at_least is not None:
            target = f">= {self.at_least:g}"
        verdict = "" if not target else "met" if self.is_met else "NOT MET"
        return f"{self.name:48}{self.value:12,.2f} {self.unit:8}{target:10}{verdict}".rstrip()


def report(figures: list[Figure]) -> int:
    """Print the rows; 1 if one is not met, for the exit code."""
    for figure in figures:
        print(figure)
    return 0 if all(figure.is_met for figure in figures) else 1
