"""The shuffled-label control: what is learnt from wrong masks must not come back on other images."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray

from unplateau.checks.check import AbstractCheck, unmeasured
from unplateau.data.transforms import NONE
from unplateau.experiments.fits import Fit, Fitted, spread
from unplateau.experiments.prior import position_scores
from unplateau.experiments.run import Run
from unplateau.measures.intervals import bootstrap
from unplateau.measures.thresholds import counts_at, mean_iou
from unplateau.types import IGNORE, Finding, Fold, Interval, Pictures, Verdict

SHUFFLED = "shuffled labels"
"""What the training on exchanged masks is called, and the view that it is given."""

IMAGES, REPORT = 12, 24
"""Images whose wrong masks are learnt by heart, and at most how many others are asked for them."""

STEPS, RATE = 120, 3e-3
"""Steps in which a dozen wrong masks are learnt, and the rate."""

SAME = 0.9
"""IoU from which a mask that trains and one that reports are taken for the same mask, twice."""

LEARNT = 0.15
"""IoU above position alone on what was trained on, without which nothing was remembered that could come back."""

BACK = 0.05
"""IoU above position alone on other images from which wrong masks came back."""


@dataclass(frozen=True)
class ShuffledMeasured:
    """IoU above position alone after training on exchanged masks: `seen` on what was trained on, `others` on what was
    not, over images. `same` is how many of those have a mask that trains too.
    """

    seen: float
    others: Interval
    same: int


@dataclass(frozen=True)
class Exchange:
    """Exchanged masks and the images that take part: `parts` (few that train, the same to choose, others)."""

    pictures: Pictures
    parts: Fold
    same: int


@final
class ShuffledCheck(AbstractCheck[ShuffledMeasured | None]):
    """Whether wrong masks come back on images that were not trained on.

    What it measures: masks are exchanged among images, the same mask always for the same other one; the model in
        question learns a dozen by heart and answers images beyond the split, those first whose mask is also among
        the trained ones. Its IoU on the exchanged masks, minus that of their mean position.

    Why it matters: nothing in an image tells which wrong mask it was given. A model that knows it has seen that very
        image: one picture is on both sides of the split, or the score looks at what trained.

    When it misleads: it sees pictures that are twice there with the same mask; a twin with another mask, or one that is
        mirrored, is for the check of leaks. A mask drawn into the image is exchanged with it and not seen here: then
        colour alone scores high on the ladder.

    What to do next: look for the same pictures in several groups or splits, and put them into one.

    Reference: Zhang et al., Understanding deep learning requires rethinking generalization, arXiv 1611.03530.
    """

    def measure(self, run: Run) -> ShuffledMeasured | None:
        """What came back; None where it was not trained."""
        if SHUFFLED not in run.outcomes or (made := exchange(run.pictures, run.folds[0], run.seed)) is None:
            return None
        (fitted,), prior = run.outcomes[SHUFFLED], position_scores(made.pictures, made.parts)
        seen = mean_iou(counts_at(fitted.seen, fitted.threshold)) - mean_iou(counts_at(prior.seen, prior.threshold))
        both = np.concatenate([_report(fitted), _report(prior)], axis=1)
        others = bootstrap(both, _above, np.random.default_rng(run.seed))
        return ShuffledMeasured(seen, others, made.same)

    def judge(self, measured: ShuffledMeasured | None) -> Finding:
        """Concern where wrong masks surely came back; sound where they were learnt and did not."""
        if measured is None:
            return unmeasured(SHUFFLED)
        numbers = {"seen": measured.seen, "others": measured.others, "same": measured.same}
        said = (
            f"A model that learnt wrong masks scores {measured.others.mean:+.3f} against position alone on other images"
        )
        if measured.others.low > 0 and measured.others.mean >= BACK:
            claim = f"{said}: it has seen them, for nothing else could tell."
            return Finding(SHUFFLED, Verdict.CONCERN, claim, None, numbers)
        if measured.seen < LEARNT:
            claim = f"The wrong masks were not learnt ({measured.seen:+.3f}), so none could come back."
            return Finding(SHUFFLED, Verdict.UNDETERMINED, claim, None, numbers)
        if measured.others.mean >= BACK:
            return Finding(SHUFFLED, Verdict.UNDETERMINED, f"{said}, which may be chance.", None, numbers)
        return Finding(SHUFFLED, Verdict.SOUND, f"{said}: none came back.", None, numbers)


def shuffled_fit(fit: Fit, pictures: Pictures, seed: int) -> tuple[Fit, Pictures] | None:
    """The training of the model in question on exchanged masks, and its pictures; None with too few images."""
    made = exchange(pictures, fit.parts, seed)
    if made is None:
        return None
    recipe = replace(
        fit.recipe, steps=STEPS, batch=min(8, len(made.parts.fit)), augmentation=NONE, half_size=0.0, crop=None
    )
    recipe = replace(
        recipe, learning_rate=max(RATE, recipe.learning_rate), evaluations=2, patience=0, positive_rate=0.0
    )
    recipe = replace(recipe, ema=0.0, frozen_steps=0, accumulate=1)
    return replace(fit, name=SHUFFLED, view=SHUFFLED, parts=made.parts, recipe=recipe, maps=(), cost=0.3), made.pictures


def exchange(pictures: Pictures, fold: Fold, seed: int) -> Exchange | None:
    """Masks exchanged among the images of a fold that show something, equal ones alike; None with fewer than four."""
    fit, report = (_showing(pictures, part) for part in (fold.fit, fold.report))
    if min(len(fit), len(report)) < 2:
        return None
    pairs = same_masks(pictures, fit, report)
    few = spread(tuple(pairs), IMAGES)
    few = (*few, *spread(tuple(each for each in fit if each not in pairs), IMAGES - len(few)))
    twins = tuple(pairs[each] for each in few if each in pairs)
    # A mask may be there twice by chance: a few of these alone would tell nothing.
    others = tuple(each for each in report if each not in twins)
    asked = (*twins, *spread(others, max(0, (REPORT if not twins else REPORT // 2) - len(twins))))
    partner = {pairs[each]: each for each in few if each in pairs}
    items = [*few, *(each for each in asked if each not in partner)]
    order = np.random.default_rng(seed).permutation(len(items))
    given = {items[order[place]]: items[order[place - 1]] for place in range(len(items))}
    masks = pictures.masks.clone()
    for index in (*few, *asked):
        masks[index] = pictures.masks[given[partner.get(index, index)]]
    return Exchange(replace(pictures, masks=masks), Fold(few, few, asked), len(partner))


def same_masks(pictures: Pictures, fit: tuple[int, ...], report: tuple[int, ...]) -> dict[int, int]:
    """Of images that train, the one that reports with the same mask, where each is the other's nearest."""
    first, second = (_flat(pictures, part) for part in (fit, report))
    hit = first @ second.T
    iou = hit / (first.sum(1)[:, None] + second.sum(1)[None] - hit)
    mine, theirs = iou.argmax(1), iou.argmax(0)
    return {
        fit[place]: report[mine[place]]
        for place in range(len(fit))
        if iou[place, mine[place]] >= SAME and theirs[mine[place]] == place
    }


def _flat(pictures: Pictures, part: tuple[int, ...]) -> NDArray[np.float32]:
    """Masks as rows of 0 and 1; of several classes, one row after another for each."""
    masks = pictures.masks[list(part)].flatten(1)
    labels = [1] if pictures.task.binary else range(1, pictures.task.outputs)
    rows: NDArray[np.float32] = torch.cat([masks == label for label in labels], 1).float().numpy()
    return rows


def _showing(pictures: Pictures, part: tuple[int, ...]) -> tuple[int, ...]:
    """The images that hold something but the first class, which stands for nothing."""
    masks = pictures.masks[list(part)].flatten(1)
    held = ((masks > 0) & (masks != IGNORE)).any(1).tolist()
    return tuple(index for index, holds in zip(part, held, strict=True) if holds)


def _report(fitted: Fitted) -> NDArray[np.float64]:
    return counts_at(fitted.report, fitted.threshold).astype(np.float64)


def _above(both: NDArray[np.float64]) -> float:
    """IoU of the first half of the columns minus that of the second."""
    half = both.shape[1] // 2
    return mean_iou(both[:, :half]) - mean_iou(both[:, half:])
