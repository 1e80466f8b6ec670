"""What every check is: it measures, then it judges, and never draws."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Generic, TypeVar

from unplateau.experiments.run import Run
from unplateau.types import Finding, Verdict

Measured = TypeVar("Measured")

HEADINGS = ("What it measures", "Why it matters", "When it misleads", "What to do next", "Reference")
"""Headings that the docstring of every check has, in this order; the report prints them."""


class AbstractCheck(ABC, Generic[Measured]):
    """One question of a diagnosis."""

    @abstractmethod
    def measure(self, run: Run) -> Measured:
        """Numbers with intervals, saved as they are."""

    @abstractmethod
    def judge(self, measured: Measured) -> Finding:
        """What the numbers say: the only place with a threshold."""


UNMEASURED = "Not measured: it takes trainings that were not done."
"""What a check says whose trainings are absent: none was wanted, or the verdict was settled before them."""


def unmeasured(check: str) -> Finding:
    """The finding of a check whose trainings are absent."""
    return Finding(check, Verdict.UNDETERMINED, UNMEASURED)
