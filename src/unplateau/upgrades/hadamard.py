"""PHI-S: a teacher's features rotated so that every channel has the same variance, then divided by its root.

From "PHI-S: Distribution Balancing for Label-Free Multi-Teacher Distillation" (arXiv 2410.01680). Plain whitening would
blow up directions in which a teacher says nothing; dividing each channel by its own spread would change what the
teacher means by a distance. A rotation and a single scale change neither, and an error then weighs the same in every
channel.

Axes: M rows, C channels, B images, h w cells.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

LEAST = 1e-6
"""Least spread that counts as any: below it a teacher says the same everywhere, and is left at zero."""


@dataclass(frozen=True)
class Standard:
    """How the features of one level of a teacher become standard ones: minus `mean` (C,), times `turn` (C, C).

    `turn` holds rotation and scale. Standard features have mean 0 and variance 1 in every channel, over the rows that
    it was measured on.
    """

    mean: Tensor
    turn: Tensor

    def of(self, maps: Tensor) -> Tensor:
        """Maps (B, C, h, w) as standard ones of the same shape, float32."""
        rows = maps.float().movedim(1, -1) - self.mean.to(maps.device)
        return (rows @ self.turn.to(maps.device).T).movedim(-1, 1)


@dataclass(frozen=True)
class Moments:
    """Sums over rows from which mean and covariance come; they add over batches, in float64."""

    count: int
    total: Tensor
    products: Tensor

    @staticmethod
    def of(maps: Tensor) -> Moments:
        """Those of the cells of maps (B, C, h, w)."""
        rows = maps.detach().movedim(1, -1).flatten(0, -2).double().cpu()
        return Moments(len(rows), rows.sum(0), rows.T @ rows)

    def __add__(self, other: Moments) -> Moments:
        return Moments(self.count + other.count, self.total + other.total, self.products + other.products)


def standard(moments: Moments) -> Standard:
    """The PHI standardisation (arXiv 2410.01680, section 3.3): y' = H U^T (y - mean) / phi.

    U are the eigenvectors of the covariance, H turns their variances into equal ones, and phi is the root of the mean
    variance.
    """
    mean = moments.total / moments.count
    covariance = moments.products / moments.count - torch.outer(mean, mean)
    values, vectors = torch.linalg.eigh(covariance)
    values = values.clamp_min(0)
    phi = values.mean().sqrt()
    scale = 1 / phi if phi > LEAST else torch.zeros(())
    return Standard(mean.float(), (scale * levelling(values) @ vectors.T).float())


def levelling(values: Tensor) -> Tensor:
    """A rotation (C, C) after which independent channels of the variances `values` (C,) all have the mean one.

    A Hadamard matrix where there is one of that order, as it spreads each direction over all channels; else plane
    rotations one after the other (Bendel and Mickey, 1978), which only level.
    """
    found = hadamard(len(values))
    return found / math.sqrt(len(values)) if found is not None else _planes(values)


def hadamard(order: int) -> Tensor | None:
    """A matrix (order, order) of +1 and -1 with orthogonal rows; None where neither construction gives one.

    Sylvester's doubling, over those of Paley (1933) for primes.
    """
    if order == 1:
        return torch.ones(1, 1, dtype=torch.float64)
    if _prime(order - 1) and order % 4 == 0:
        return _paley_first(order - 1)
    if order % 4 == 0 and _prime(order // 2 - 1) and (order // 2 - 1) % 4 == 1:
        return _paley_second(order // 2 - 1)
    half = hadamard(order // 2) if order % 2 == 0 else None
    return None if half is None else torch.kron(torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=torch.float64), half)


def _prime(number: int) -> bool:
    return number > 1 and all(number % divisor for divisor in range(2, math.isqrt(number) + 1))


def _bordered(prime: int, sign: int) -> Tensor:
    """Paley's matrix of quadratic residues with a border of ones, symmetric for `sign` 1 and skew for -1."""
    squares = {place * place % prime for place in range(1, prime)}
    row = torch.tensor([0] + [1 if place in squares else -1 for place in range(1, prime)], dtype=torch.float64)
    bordered = torch.zeros(prime + 1, prime + 1, dtype=torch.float64)
    bordered[0, 1:], bordered[1:, 0] = 1, sign
    places = torch.arange(prime)
    bordered[1:, 1:] = row[(places[None] - places[:, None]) % prime]
    return bordered


def _paley_first(prime: int) -> Tensor:
    return torch.eye(prime + 1, dtype=torch.float64) + _bordered(prime, -1)


def _paley_second(prime: int) -> Tensor:
    inner, eye = _bordered(prime, 1), torch.eye(prime + 1, dtype=torch.float64)
    return torch.kron(inner, torch.tensor([[1.0, 1], [1, -1]], dtype=torch.float64)) + torch.kron(
        eye, torch.tensor([[1.0, -1], [-1, -1]], dtype=torch.float64)
    )


def _planes(values: Tensor) -> Tensor:
    """In each plane rotation, the channel of most and that of least variance, so that one of them gets the mean."""
    turn, covariance = torch.eye(len(values), dtype=torch.float64), torch.diag(values.double())
    mean = float(values.mean())
    for _ in range(len(values) - 1):
        spread = covariance.diagonal() - mean
        high, low = int(spread.argmax()), int(spread.argmin())
        if float(spread[high]) <= 1e-12 * mean:
            break
        plane = _plane(covariance, high, low, mean)
        covariance, turn = plane @ covariance @ plane.T, plane @ turn
    return turn


def _plane(covariance: Tensor, high: int, low: int, mean: float) -> Tensor:
    """The rotation of two channels after which the first has the variance `mean`."""
    a, b, c = (float(covariance[i, j]) for i, j in ((high, high), (low, low), (high, low)))
    # a cos^2 + 2 c cos sin + b sin^2 = mean, for the tangent: (b - mean) t^2 + 2 c t + (a - mean) = 0
    root = math.sqrt(max(0.0, c * c - (a - mean) * (b - mean)))
    tangent = (-c + math.copysign(root, -c)) / (b - mean)
    cosine = 1 / math.sqrt(1 + tangent * tangent)
    plane = torch.eye(len(covariance), dtype=torch.float64)
    plane[high, high] = plane[low, low] = cosine
    plane[high, low], plane[low, high] = tangent * cosine, -tangent * cosine
    return plane
