"""Power laws of the IoU against what is scaled, with the exponent left open where few points cannot tell it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unplateau.measures.intervals import Draws

EXPONENTS = (0.3, 1.0)
"""Range of the exponent for data, even: learning curves of vision models lie in it (arXiv 1712.00409, 2108.07686)."""

STEP_EXPONENTS = (0.3, 3.0)
"""The same for steps: a schedule that ends at a low rate saturates faster than data do. Doubling the steps of planted
tasks gave exponents from .2 to 3 (docs/log.md)."""


@dataclass(frozen=True)
class Law:
    """IoU(n) = ceiling - scale * n ** -exponent, with n relative to all of the data."""

    ceiling: float
    scale: float
    exponent: float

    def at(self, share: float) -> float:
        """IoU at `share` times the data, at most 1."""
        return float(min(1.0, self.ceiling - self.scale * share**-self.exponent))


def fit_law(shares: NDArray[np.float64], values: NDArray[np.float64], exponent: float) -> Law:
    """Least squares for ceiling and scale of one curve (K,), the whole data counting as much as all smaller shares.

    The scale is not negative: more data does not hurt in the long run, and a curve that falls is noise.
    """
    ceilings, scales = _fit(shares, values[None], np.array([exponent]))
    return Law(float(ceilings[0]), float(scales[0]), exponent)


def predict(
    shares: NDArray[np.float64],
    draws: NDArray[np.float64],
    factors: tuple[float, ...],
    generator: np.random.Generator,
    exponents: tuple[float, float] = EXPONENTS,
) -> list[Draws]:
    """For draws (R, K) of the IoU at K shares, the IoU (R,) at each of `factors` times the data.

    Each draw gets its own exponent from `exponents`: three points do not fix it, and the interval must say so. The
    law gives the change from all of the data, so the prediction starts from what was measured there.
    """
    drawn = generator.uniform(*exponents, size=len(draws))
    _, scales = _fit(shares, draws, drawn)
    return [np.minimum(1.0, draws[:, -1] + scales * (1 - factor**-drawn)) for factor in factors]


def _fit(
    shares: NDArray[np.float64], values: NDArray[np.float64], exponents: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    weights = np.ones(len(shares))
    weights[-1] = max(1, len(shares) - 1)
    weights /= weights.sum()
    terms = shares[None] ** -exponents[:, None]
    mean_term, mean_value = terms @ weights, values @ weights
    spread = ((terms - mean_term[:, None]) ** 2) @ weights
    together = ((terms - mean_term[:, None]) * (values - mean_value[:, None])) @ weights
    scales = np.maximum(0.0, -together / np.maximum(spread, 1e-12))
    return mean_value + scales * mean_term, scales
