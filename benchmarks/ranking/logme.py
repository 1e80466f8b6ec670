"""LogME: how much evidence a Bayesian linear model finds for the labels in frozen features (arXiv 2102.11005).

The evidence is maximised over alpha and beta by MacKay's fixed point, written for any rank: where there are fewer rows
than features, the directions without any data enter the determinant as alpha, which the published code leaves out.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from unplateau.extractors.base import AbstractExtractor
from unplateau.types import IGNORE, Pictures
from unplateau.upgrades.cache import forward
from unplateau.upgrades.probe import sampled

PIXELS = 20
"""Of each image, as the rows of the regression."""

ROUNDS, SETTLED = 100, 1e-6

Matrix = NDArray[np.float64]


def evidence(features: Matrix, labels: Matrix) -> float:
    """The largest log evidence per row of labels (N,) given features (N, D)."""
    rows, channels = features.shape
    basis, singular, _ = np.linalg.svd(features, full_matrices=False)
    kept = singular > singular.max(initial=0.0) * 1e-10
    basis, power = basis[:, kept], singular[kept] ** 2
    projected = (basis.T @ labels) ** 2
    outside = max(float(labels @ labels - projected.sum()), 1e-12)
    alpha = beta = 1.0
    for _ in range(ROUNDS):
        before = alpha / beta
        weights, misfit = _fit(alpha, beta, power, projected, outside)
        known = float((beta * power / (alpha + beta * power)).sum())
        alpha, beta = known / max(weights, 1e-12), (rows - known) / max(misfit, 1e-12)
        if abs(alpha / beta - before) <= SETTLED * before:
            break
    weights, misfit = _fit(alpha, beta, power, projected, outside)
    determinant = np.log(alpha + beta * power).sum() + (channels - len(power)) * math.log(alpha)
    whole = channels * math.log(alpha) + rows * math.log(beta / (2 * math.pi)) - determinant
    return float(whole - beta * misfit - alpha * weights) / (2 * rows)


def _fit(alpha: float, beta: float, power: Matrix, projected: Matrix, outside: float) -> tuple[float, float]:
    """Squared length of the mean weights, and squared misfit of what they predict."""
    weights = float((beta**2 * power * projected / (alpha + beta * power) ** 2).sum())
    misfit = float((projected * (alpha / (alpha + beta * power)) ** 2).sum()) + outside
    return weights, misfit


def logme(extractor: AbstractExtractor, pictures: Pictures, seed: int = 0) -> float:
    """Mean evidence over the classes, on pixels of all levels upsampled."""
    generator = torch.Generator().manual_seed(seed)
    rows, labels = [], []
    for first in range(0, len(pictures), 16):
        images, masks = pictures.images[first : first + 16], pictures.masks[first : first + 16].flatten(1)
        pixels = torch.randint(0, masks.shape[1], (len(masks), PIXELS), generator=generator)
        rows.append(sampled(forward(extractor, images), pixels, pictures.size).flatten(0, 1))
        labels.append(torch.gather(masks, 1, pixels).flatten())
    found, wanted = torch.cat(rows).double().numpy(), torch.cat(labels).numpy()
    counted = wanted != IGNORE
    classes = range(1, 2) if pictures.task.outputs == 1 else range(pictures.task.outputs)
    return float(np.mean([evidence(found[counted], (wanted[counted] == each).astype(float)) for each in classes]))
