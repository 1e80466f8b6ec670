"""Numbers of a log as they came, by column and moment, before anyone knows what they mean."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from typing import Any, final

from unplateau.errors import DataError

EMPTY = ("", "none", "null", "-", "n/a")
"""What loggers write where there is nothing."""


@final
class Series:
    """Columns of a log: each a number at some moments, in the order of the moments. `where` names the log.

    What is empty is left out; what is no number is kept in mind, to be refused only if the column is asked for.
    """

    def __init__(self, where: str) -> None:
        self.where = where
        self._values: dict[str, dict[int, float]] = {}
        self._sorted: dict[str, list[tuple[int, float]]] = {}
        self._broken: dict[str, tuple[int, Any]] = {}

    def add(self, column: str, moment: int, cell: Any, line: int = 0) -> None:
        """A cell of a column; of two at one moment the later counts, as where a run was resumed."""
        if cell is None or (isinstance(cell, str) and cell.strip().lower() in EMPTY):
            return
        try:
            value = float(cell)
        except (TypeError, ValueError):
            self._broken.setdefault(column, (line, cell))
            return
        self._values.setdefault(column, {})[moment] = value
        self._sorted.pop(column, None)

    @property
    def columns(self) -> list[str]:
        """Every column that holds a number, or something that should be one."""
        return list(dict.fromkeys([*self._values, *self._broken]))

    def of(self, column: str) -> list[tuple[int, float]]:
        """Moments and numbers of a column, ascending."""
        if column not in self._sorted:
            self._sorted[column] = sorted(self._values.get(column, {}).items())
        return self._sorted[column]

    def refuse_broken(self, columns: Iterable[str]) -> None:
        """Refuse words among the numbers of a column that is needed.

        Raises:
            DataError: there is one; line and column are named.
        """
        for column in columns:
            if column in self._broken:
                line, cell = self._broken[column]
                raise DataError(
                    f"{self.where!r} must hold numbers in column {column!r}; line {line} holds {str(cell)[:40]!r}. "
                    "Correct it, or name another column with `columns`."
                )

    def between(self, column: str, after: float, until: float) -> list[float]:
        """The numbers of a column at moments above `after` up to `until`, in their order."""
        points = self.of(column)
        first, last = (bisect_right(points, moment, key=_moment) for moment in (after, until))
        return [value for _, value in points[first:last]]


def _moment(point: tuple[int, float]) -> float:
    return point[0]
