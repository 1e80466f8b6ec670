"""A diagnosis without training: a `Run` whose fits scored what we say they scored."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from conftest import make_pictures
from unplateau.data.sources import open_data
from unplateau.data.splits import split
from unplateau.experiments.fits import Fitted
from unplateau.experiments.plan import CONTEXT, FRACTIONS, HALF_STEPS, Plan, less_name, make_plan, mapped
from unplateau.experiments.run import Run
from unplateau.experiments.views import Objects
from unplateau.measures.thresholds import BINS, ScoreTable, counts_of
from unplateau.types import Epoch, Fold, Pictures, Sample

TRUE, FALSE = 1000, 50_000
"""Pixels of an image that are and are not of the class."""

ALIKE = 1100
"""Pixels of an image that are not of the class and look like it."""

DIAMETER, SIZE = 20.0, (96, 96)


def table(ious: np.ndarray, cut: float = 0.5) -> ScoreTable:
    """Images with these IoU at every threshold next to `cut`; what is far below or above it is answered worse."""
    hit = np.rint(np.asarray(ious) * TRUE).astype(np.int64)
    histograms = np.zeros((len(hit), 1, 2, BINS), np.int64)
    high, low = round((cut + 0.1) * BINS), round((cut - 0.1) * BINS)
    histograms[:, 0, 1, high], histograms[:, 0, 1, low] = hit, TRUE - hit
    histograms[:, 0, 0, low] = FALSE
    chosen = histograms[..., BINS // 2 :].sum(-1)
    argmax = counts_of(chosen[..., 1], chosen.sum(-1), histograms[..., 1, :].sum(-1))
    return ScoreTable(histograms, argmax)


def told_apart(decided: np.ndarray) -> ScoreTable:
    """Images with a little more area that looks like the class than is of it: told apart where `decided`, else all one
    score.

    To claim all of it has the best IoU; it finds no more than it claims wrongly, except where it is told apart.
    """
    decided = np.asarray(decided, bool)
    histograms = np.zeros((len(decided), 1, 2, BINS), np.int64)
    right, wrong, unsure, low = (round(score * BINS) for score in (0.95, 0.3, 0.8, 0.1))
    true, alike = np.where(decided, right, unsure), np.where(decided, wrong, unsure)
    images = np.arange(len(decided))
    histograms[images, 0, 1, true], histograms[images, 0, 0, alike], histograms[:, 0, 0, low] = TRUE, ALIKE, FALSE
    chosen = histograms[..., BINS // 2 :].sum(-1)
    argmax = counts_of(chosen[..., 1], chosen.sum(-1), histograms[..., 1, :].sum(-1))
    return ScoreTable(histograms, argmax)


def epoch(step: int, best: float, iou: float | None = None, **more: float) -> Epoch:
    given = {"train_loss": 1 - best, "val_loss": 1.1 - best, "best_threshold": 0.5, "coverage": 1.0, **more}
    return Epoch(
        step=step,
        iou=best if iou is None else iou,
        best_iou=best,
        average_precision=best,
        boundary_iou=best / 2,
        class_iou=(best,),
        learning_rate=1e-3,
        gradient_norm=1.0,
        **given,
    )


def curve(best: float, evaluations: int = 8) -> tuple[Epoch, ...]:
    """A run that rises and settles at `best`."""
    return tuple(epoch(10 * (place + 1), best * (1 - 0.5**place / 2)) for place in range(evaluations))


def fitted(inner: np.ndarray, report: np.ndarray, seen: np.ndarray, cut: float = 0.5) -> Fitted:
    return Fitted(table(inner, cut), table(report, cut), table(seen, cut), curve(float(report.mean())), 1.0)


def made_pictures(groups: int = 8, of_each: int = 3) -> Pictures:
    return make_pictures([f"g{place // of_each}" for place in range(groups * of_each)])


def source_of(pictures: Pictures):
    images = pictures.images.permute(0, 2, 3, 1).numpy()
    return open_data(
        [
            Sample(name, image, mask, group)
            for name, image, mask, group in zip(
                pictures.names, images, pictures.masks.numpy(), pictures.groups, strict=True
            )
        ]
    )


LADDER = {"prior": 0.2, "colour": 0.3, "texture": 0.45, "contour": 0.4, "context": 0.7}
"""IoU of the rungs; an ordered rung that is not named scores between texture and context by its reach."""


def made_run(
    scores: dict[str, float] | None = None,
    *,
    groups: int = 8,
    folds: int = 3,
    noise: float = 0.02,
    baseline: str = "unet",
    candidate: str | None = None,
    seen: float = 0.9,
    cut: float = 0.5,
    seed: int = 0,
) -> Run:
    """A run whose rungs score `scores` on average: images differ alike for all rungs, and a little for each alone."""
    pictures = made_pictures(groups)
    parts = split(pictures, folds=folds, seed=seed)
    untrained = candidate and f"timm/{candidate}"
    plan = make_plan(Objects.discs(DIAMETER), SIZE, baseline=baseline, candidate=candidate, untrained=untrained)
    wanted = _filled({**LADDER, **(scores or {})}, plan)
    generator = np.random.default_rng(seed)
    difficulty = np.repeat(generator.normal(0, noise, groups), 3)
    outcomes = {name: _outcomes(value, parts, difficulty, generator, seen, cut) for name, value in wanted.items()}
    for name in {plan.baseline, CONTEXT}:
        outcomes[name] = tuple(
            replace(each, maps=_answers(pictures, mapped(parts, number, len(pictures))))
            for number, each in enumerate(outcomes[name])
        )
    return Run(source_of(pictures), pictures, parts, Objects.discs(DIAMETER), plan, outcomes, seed)


def _answers(pictures: Pictures, indices: tuple[int, ...]) -> np.ndarray:
    """A sure and right answer for each of the pictures."""
    masks = pictures.masks[list(indices)].numpy()
    return np.where(masks == 1, BINS * 9 // 10, BINS // 10).astype(np.uint8)[:, None]


def _filled(scores: dict[str, float], plan: Plan) -> dict[str, float]:
    ordered = [rung.name for rung in plan.rungs if rung.name.startswith("reach")]
    steps = np.linspace(scores["texture"], scores["context"], len(ordered) + 2)[1:-1]
    filled = {**dict(zip(ordered, steps.tolist(), strict=True)), **scores}
    for rung in plan.rungs:
        filled.setdefault(rung.name, 0.5)
    full = filled[plan.baseline]
    for place, fraction in enumerate(FRACTIONS):
        filled.setdefault(less_name(fraction), full - 0.1 / (1 + place))
    filled.setdefault(HALF_STEPS, full - 0.02)
    return filled


def _outcomes(
    value: float,
    folds: tuple[Fold, ...],
    difficulty: np.ndarray,
    generator: np.random.Generator,
    seen: float,
    cut: float,
) -> tuple[Fitted, ...]:
    made = []
    for fold in folds:
        own = generator.normal(0, 0.002, len(difficulty))
        ious = np.clip(value + difficulty + own, 0, 1)
        parts = [ious[list(part)] for part in (fold.inner, fold.report)]
        made.append(fitted(*parts, np.full(4, seen), cut))
    return tuple(made)


def changed(run: Run, **outcomes: tuple[Fitted, ...]) -> Run:
    """The run with other outcomes; names with spaces are written with underscores."""
    return replace(run, outcomes={**run.outcomes, **{n.replace("_", " "): o for n, o in outcomes.items()}}, _sums={})
