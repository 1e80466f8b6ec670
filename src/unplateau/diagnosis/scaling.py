"""Power laws of the IoU against what is scaled, with the exponent left open where few points cannot tell it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unplateau.measures.intervals import Draws

EXPONENTS = (0.3, 1.0)
"""Range of the exponent, even: learning curves of vision models lie in it (arXiv 1712.00409, 2108.07686)."""


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
    shares: NDArray[np.float64], draws: NDArray[np.float64], factors: tuple[float, ...], generator: np.random.Generator
) -> list[Draws]:
    """For draws (R, K) of the IoU at K shares, the IoU (R,) at each of `factors` times the data.

    Each draw gets its own exponent from `EXPONENTS`: three points do not fix it, and the interval must say so. The
    law gives the change from all of the data, so the prediction starts from what was measured there.
    """
    exponents = generator.uniform(*EXPONENTS, size=len(draws))
    _, scales = _fit(shares, draws, exponents)
    return [np.minimum(1.0, draws[:, -1] + scales * (1 - factor**-exponents)) for factor in factors]


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
