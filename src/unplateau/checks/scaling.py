"""Power laws of the IoU against what is scaled, with the exponent left open where few points cannot tell it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unplateau.measures.intervals import Draws

EXPONENTS = (0.3, 3.0)
"""Range of the exponent, even before anything is seen: learning curves of vision models lie in .3 to 1 (arXiv
1712.00409, 2108.07686), small tasks saturate faster, and so do steps under a schedule that ends at a low rate
(docs/log.md)."""

NOISE = 0.0106
"""Standard deviation in IoU of one training by its seed: that of a difference (`gains.SEED_SPREAD`) over root two."""


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
) -> list[Draws]:
    """For draws (R, K) of the IoU at K shares, the IoU (R,) at each of `factors` times the whole.

    Each draw gets its own exponent: from the whole range where two points cannot tell it, else one that its points
    allow. The law gives the change from all of the data, so the prediction starts from what was measured there.
    """
    drawn = _exponents(shares, draws, generator)
    _, scales = _fit(shares, draws, drawn)
    return [np.minimum(1.0, draws[:, -1] + scales * (1 - factor**-drawn)) for factor in factors]


def foretell(
    shares: NDArray[np.float64],
    means: NDArray[np.float64],
    draws: NDArray[np.float64],
    factors: tuple[float, ...],
    seed: int,
) -> list[tuple[float, Draws]]:
    """`predict` with its mean: the IoU that the measured means (K,) foretell at each factor, and its draws (R,)."""
    ahead = predict(shares, draws, factors, np.random.default_rng(seed))
    middle = predict(shares, np.repeat(means[None], 200, 0), factors, np.random.default_rng(seed))
    return [(float(centre.mean()), each) for centre, each in zip(middle, ahead, strict=True)]


def likely_exponent(shares: NDArray[np.float64], values: NDArray[np.float64]) -> float:
    """The mean of the exponents that one curve (K,) allows."""
    return float(_exponents(shares, np.repeat(values[None], 400, 0), np.random.default_rng(0)).mean())


def _exponents(
    shares: NDArray[np.float64], draws: NDArray[np.float64], generator: np.random.Generator
) -> NDArray[np.float64]:
    """An exponent for each draw (R,), in proportion to how likely it makes the points, whose noise is `NOISE`."""
    if len(shares) < 3:
        return generator.uniform(*EXPONENTS, size=len(draws))
    grid = np.linspace(*EXPONENTS, 28)
    worth = np.empty((len(draws), len(grid)))
    for place, exponent in enumerate(grid):
        ceilings, scales = _fit(shares, draws, np.full(len(draws), exponent))
        missed = draws - (ceilings[:, None] - scales[:, None] * shares[None] ** -exponent)
        worth[:, place] = -(missed**2).sum(1) / (2 * NOISE**2)
    # The largest of log weights with Gumbel noise is a draw by the weights.
    picked: NDArray[np.float64] = grid[(worth + generator.gumbel(size=worth.shape)).argmax(1)]
    return picked


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
