"""The light decoder: one linear rule over standardised characteristics, found in closed form, shard by shard.

It looks at a single place of each map, so that what it reads was there: it adds no reach and no shapes of its own.
Ridge regression on the pixels of some images (Hoerl and Kennard, 1970); the other images are read with it.

Axes: N images, B images of a shard, P sampled pixels, R rows, D channels of all levels, K outputs, Q quarters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from unplateau.decoders.grids import upsample
from unplateau.errors import DataError
from unplateau.measures.scoring import score_images
from unplateau.measures.thresholds import Counts, ScoreTable, best_threshold, counts_at, join
from unplateau.types import IGNORE, Characteristics, Size
from unplateau.upgrades.cache import Part

SAMPLED = 128
"""Pixels of an image that the rule is found on: its neighbours would say the same again."""

RIDGES = (1e-3, 1e-2, 1e-1)
"""Strengths that are tried, as a share of the variance of a channel."""

QUARTERS = 4
"""Two halves read each other; the quarters of a half choose its strength."""

Parts = Callable[[], Iterable[Part]]
"""One pass over the characteristics of all images."""


@dataclass(frozen=True)
class Truth:
    """Masks uint8 (N, H, W): indices of `outputs` classes, or 0/1 for one; 255 = not counted. And the quarters."""

    masks: Tensor
    outputs: int
    quarters: tuple[int, ...]

    @property
    def size(self) -> Size:
        """Height and width in pixels."""
        return int(self.masks.shape[-2]), int(self.masks.shape[-1])


@dataclass(frozen=True)
class Rule:
    """Scores of a cell: (its channels - `mean`) * `scale` @ `weights` + `bias`; all float32, weights (D, K)."""

    mean: Tensor
    scale: Tensor
    weights: Tensor
    bias: Tensor


@dataclass(frozen=True)
class Sums:
    """What ridge regression needs of some rows: their number, the sums of x (D), y (K), and the products."""

    rows: float
    x: Tensor
    y: Tensor
    xx: Tensor
    xy: Tensor

    def __add__(self, other: Sums) -> Sums:
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return Sums(*(mine + theirs for mine, theirs in pairs))


def probe(parts: Parts, truth: Truth, seed: int = 0) -> Counts:
    """Counts (N, C, 3) of each image, read by the rule that the other half of the images gave.

    The threshold of a half is the best one on the other, where the rule of this half was applied to images that it
    was not found on.

    Raises:
        DataError: a half of the images has no counted pixel.
    """
    mean, scale, sums = _sums(parts, truth, seed)
    halves = [(0, 1), (2, 3)]
    rules = [_rule(mean, scale, [sums[quarter] for quarter in half]) for half in halves]
    tables = _tables(parts, truth, rules)
    own = [np.array([place for place, each in enumerate(truth.quarters) if each in half]) for half in halves]
    counts = np.zeros((len(tables), *tables.argmax.shape[1:]), np.int64)
    for half in (0, 1):
        threshold = best_threshold(tables.take(own[1 - half])) if truth.outputs == 1 else float("nan")
        counts[own[half]] = counts_at(tables.take(own[half]), threshold)
    return counts


def deal(groups: Sequence[str], weights: Sequence[float], seed: int = 0) -> tuple[int, ...]:
    """The quarter of each image: whole groups, spread so that every half and quarter has a like share of `weights`.

    Where a half has a single group it is cut in two in order, which only its choice of strength sees.

    Raises:
        DataError: fewer than two groups.
    """
    names = sorted(set(groups))
    if len(names) < 2:
        raise DataError(f"The images must come from at least 2 groups, to be read by others; got {len(names)}.")
    order = np.random.default_rng(seed).permutation(len(names))
    total = dict.fromkeys(names, 0.0)
    for group, weight in zip(groups, weights, strict=True):
        total[group] += weight
    ranked = sorted((names[place] for place in order), key=lambda name: -total[name])
    half = _evenly(ranked, total, 2)
    quarter: dict[str, int] = {}
    for side in (0, 1):
        own = [name for name in ranked if half[name] == side]
        quarter |= {name: 2 * side + place for name, place in _evenly(own, total, 2).items()}
    return _cut([quarter[group] for group in groups])


def _evenly(names: Sequence[str], total: dict[str, float], bins: int) -> dict[str, int]:
    """Each name, heaviest first, to the lightest bin; to the one with fewest names where they tie."""
    loads = [(0.0, 0)] * bins
    placed = {}
    for name in names:
        lightest = min(range(bins), key=lambda place: loads[place])
        placed[name] = lightest
        loads[lightest] = (loads[lightest][0] + total[name], loads[lightest][1] + 1)
    return placed


def _cut(quarters: list[int]) -> tuple[int, ...]:
    for first in (0, 2):
        own = [place for place, each in enumerate(quarters) if each in (first, first + 1)]
        if len({quarters[place] for place in own}) == 1:
            for place in own[len(own) // 2 :]:
                quarters[place] = first + 1 if quarters[place] == first else first
    return tuple(quarters)


# ---- finding the rule ----------------------------------------------------------------------------------------


def _sums(parts: Parts, truth: Truth, seed: int) -> tuple[Tensor, Tensor, list[Sums]]:
    """Mean and scale (D) of the first shard, by which all rows are standardised, and the sums of each quarter."""
    generator = torch.Generator().manual_seed(seed)
    mean = scale = torch.zeros(0)
    sums: list[Sums] = []
    for part in parts():
        pixels = _pixels(truth.masks[part.first : part.first + len(part)], generator)
        x_BPD = sampled(part.characteristics, pixels, truth.size)
        y_BP = torch.gather(truth.masks[part.first : part.first + len(part)].flatten(1), 1, pixels)
        if not sums:
            mean, scale = _standard(x_BPD[y_BP != IGNORE])
            sums = [_nothing(len(mean), truth.outputs)] * QUARTERS
        x_BPD = (x_BPD - mean) * scale
        for quarter in range(QUARTERS):
            chosen = [place for place in range(len(part)) if truth.quarters[part.first + place] == quarter]
            sums[quarter] = sums[quarter] + _add(x_BPD[chosen], y_BP[chosen], truth.outputs)
    if not sums or any(sums[first].rows + sums[first + 1].rows == 0 for first in (0, 2)):
        raise DataError("Each half of the images must have pixels that count; one has none. Label more of them.")
    return mean, scale, sums


def _pixels(masks: Tensor, generator: torch.Generator) -> Tensor:
    """Random places (B, P) in the flattened masks (B, H, W)."""
    return torch.randint(0, masks[0].numel(), (len(masks), SAMPLED), generator=generator)


def sampled(characteristics: Characteristics, pixels: Tensor, size: Size) -> Tensor:
    """All channels (B, P, D) at pixels (B, P) of images of `size`, bilinear as when the maps are upsampled."""
    columns = []
    for maps, stride in zip(characteristics.levels, characteristics.strides, strict=True):
        height, width = maps.shape[-2] * stride, maps.shape[-1] * stride
        x = (2 * (pixels % size[1]) + 1) / width - 1
        y = (2 * torch.div(pixels, size[1], rounding_mode="floor") + 1) / height - 1
        places = torch.stack([x, y], dim=-1)[:, None].float()
        read = F.grid_sample(maps.float(), places, mode="bilinear", padding_mode="border", align_corners=False)
        columns.append(read[:, :, 0].transpose(1, 2))
    return torch.cat(columns, dim=-1)


def _standard(x_RD: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and one over the deviation (D); a channel that never changes is left out, and with too few rows none is."""
    if len(x_RD) < 2:
        return torch.zeros(x_RD.shape[1]), torch.ones(x_RD.shape[1])
    deviation = x_RD.std(0)
    return x_RD.mean(0), torch.where(deviation > 1e-6, 1 / deviation.clamp(min=1e-6), 0.0)


def _nothing(channels: int, outputs: int) -> Sums:
    zeros = torch.zeros(channels, dtype=torch.float64)
    return Sums(
        0.0, zeros, zeros.new_zeros(outputs), zeros.new_zeros(channels, channels), zeros.new_zeros(channels, outputs)
    )


def _add(x_BPD: Tensor, y_BP: Tensor, outputs: int) -> Sums:
    counted = y_BP != IGNORE
    x, y = x_BPD[counted], y_BP[counted]
    true = (y[:, None] == 1) if outputs == 1 else (y[:, None] == torch.arange(outputs))
    wanted = true.float()
    sums = (x.sum(0), wanted.sum(0), x.T @ x, x.T @ wanted)
    return Sums(float(len(x)), *(each.double() for each in sums))


def _rule(mean: Tensor, scale: Tensor, quarters: list[Sums]) -> Rule:
    """The rule of a half, with the strength that lets its quarters foretell each other best."""
    errors = [sum(_error(_solve(ours, ridge), other) for ours, other in _both(quarters)) for ridge in RIDGES]
    weights, bias = _solve(quarters[0] + quarters[1], RIDGES[int(np.argmin(errors))])
    return Rule(mean, scale, weights.float(), bias.float())


def _both(quarters: list[Sums]) -> Iterator[tuple[Sums, Sums]]:
    if all(each.rows > 0 for each in quarters):
        yield quarters[0], quarters[1]
        yield quarters[1], quarters[0]


def _solve(sums: Sums, ridge: float) -> tuple[Tensor, Tensor]:
    """Weights (D, K) and bias (K) of the regression with centred rows."""
    x, y = sums.x / sums.rows, sums.y / sums.rows
    covariance = sums.xx / sums.rows - torch.outer(x, x)
    covariance.diagonal().add_(ridge)
    weights = torch.cholesky_solve(sums.xy / sums.rows - torch.outer(x, y), torch.linalg.cholesky(covariance))
    return weights, y - x @ weights


def _error(solved: tuple[Tensor, Tensor], other: Sums) -> float:
    """Mean squared error on other rows, up to what no rule changes."""
    weights, bias = solved
    quadratic = (weights * (other.xx @ weights)).sum() + other.rows * (bias**2).sum()
    cross = 2 * (bias * (other.x @ weights)).sum() - 2 * (weights * other.xy).sum() - 2 * (bias * other.y).sum()
    return float((quadratic + cross) / other.rows)


# ---- reading with it -----------------------------------------------------------------------------------------


def _tables(parts: Parts, truth: Truth, rules: list[Rule]) -> ScoreTable:
    """Scores of every image by the rule of the half that it is not in."""
    tables = []
    for part in parts():
        scores = [_scores(part.characteristics, rule, truth.size) for rule in rules]
        within = truth.quarters[part.first : part.first + len(part)]
        chosen = torch.stack([scores[1 if quarter < 2 else 0][place] for place, quarter in enumerate(within)])
        tables.append(score_images(chosen.numpy(), truth.masks[part.first : part.first + len(part)].numpy()))
    return join(tables)


def _scores(characteristics: Characteristics, rule: Rule, size: Size) -> Tensor:
    """Scores (B, K, H, W) in 0..1; the rule comes before the upsampling, for both are linear."""
    weights = rule.weights * rule.scale[:, None]
    constant = rule.bias - rule.mean @ weights
    levels, first = characteristics.levels, 0
    height, width = levels[0].shape[-2] * characteristics.strides[0], levels[0].shape[-1] * characteristics.strides[0]
    total = torch.zeros(())
    for maps in levels:
        own = weights[first : first + maps.shape[1]]
        total = total + upsample(torch.einsum("bdhw,dk->bkhw", maps.float(), own), (height, width))
        first += maps.shape[1]
    scores = (total + constant[:, None, None])[..., : size[0], : size[1]]
    return scores.clamp(0, 1)
