"""The common scale of the small gain bars in a table: which gains it spans, and where a gain lies on it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from unplateau.types import Interval


@dataclass(frozen=True)
class GainScale:
    """A linear scale of gains that always holds zero; `ticks` are round numbers on it."""

    low: float
    high: float
    ticks: tuple[float, ...]

    def at(self, gain: float) -> float:
        """Place of a gain in percent of the width."""
        return round(100 * (gain - self.low) / (self.high - self.low), 2)


def gain_scale(gains: Iterable[Interval]) -> GainScale:
    """The scale that holds every gain with its interval, negatives included, and a little room at each end."""
    ends = [end for each in gains for end in (each.mean, each.low, each.high) if math.isfinite(end)]
    low, high = min([0.0, *ends]), max([0.0, *ends])
    if high - low < 1e-6:
        low, high = -0.01, 0.01
    room = 0.06 * (high - low)
    return GainScale(low - room, high + room, _ticks(low, high))


def _ticks(low: float, high: float) -> tuple[float, ...]:
    """Three or four round numbers from `low` to `high`."""
    rough = (high - low) / 3
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    return tuple(round(index * step, 10) for index in range(math.ceil(low / step), math.floor(high / step) + 1))
