"""`pretrain`: an extractor learns from images without masks; resumable, and it stops when it learns nothing."""

from __future__ import annotations

from pathlib import Path
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unplateau.data.unlabelled import Unlabelled
from unplateau.errors import UnplateauError
from unplateau.extractors.base import AbstractExtractor
from unplateau.extractors.catalogue import build_extractor
from unplateau.measures.dense_quality import dense_quality
from unplateau.model import pad_to
from unplateau.pretraining.base import AbstractMethod, cells
from unplateau.pretraining.course import (
    EXTRACTOR,
    SERIES,
    STATE,
    AbstractRun,
    Course,
    Schooling,
    Told,
    finish,
    leads,
    mean_loss,
)
from unplateau.pretraining.methods import build_method
from unplateau.pretraining.state import Point, State, mark_of, read_state, write_series, write_state
from unplateau.training.batches import step_generator
from unplateau.training.saved import save_extractor

COLLAPSED, PATIENCE, GRACE = 0.01, 20, 0.1
"""A run has collapsed when the spread of its embeddings stays below this for so many steps, after this share of it."""

CELLS = 12
"""Cells on the short side of the grid on which dense features are compared."""

CALIBRATING = 4
"""Batches that batch statistics are taken from before features are looked at or kept."""


def pretrain_extractor(
    pool: Unlabelled, *, extractor: str, schooling: Schooling, seed: int, folder: Path, told: Told
) -> tuple[Point, ...]:
    """Pretrain and keep the extractor of the best dense quality in `folder`; the series of evaluations.

    A call with the same arguments on the same folder goes on where the last one stopped.

    Raises:
        UnplateauError: no such method, the loss is no longer finite, the embeddings have collapsed, or the state in
            `folder` cannot be read. What was kept before stays.
        PieceError: no such extractor, or a checkpoint that does not fit.
        OutputError: `folder` cannot be written.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        method = build_method(schooling.method, build_extractor(extractor))
    mark = mark_of(pool, f"{extractor} {schooling} {seed}")
    course = Course(pool, method, schooling, seed, what="pretraining")
    run = _Run(course, method, folder, folder / STATE / f"{mark}.pt")
    finish(run, schooling, told)
    return run.state.series


@final
class _Run(AbstractRun):
    """A pretraining under way."""

    def __init__(self, course: Course, method: AbstractMethod, folder: Path, saved: Path) -> None:
        self.course, self.method, self.schooling = course, method, course.schooling
        self.folder, self.saved = folder, saved
        self.state = State(step=0, low=0, losses=(), series=())

    @property
    def step(self) -> int:
        """See `AbstractRun`."""
        return self.state.step

    def resume(self) -> bool:
        """See `AbstractRun`."""
        found = read_state(self.saved, self.method, self.course.optimizer)
        self.state = found or self.state
        return found is not None

    def advance(self) -> None:
        """See `AbstractRun`."""
        step, drawn = self.state.step, self.course.drawn(self.state.step)
        self.method.train()
        outcome = self.method(self.course.images(drawn), step_generator(self.course.seed, step))
        spread = float(outcome.spread)
        rate = f"{self.schooling.learning_rate:g}"
        advice = f"{self._kept()}Lower `learning_rate` (it is {rate}) and look for broken images among these."
        loss = self.course.descend(step, outcome.loss, drawn, advice)
        self.method.advance(step)
        low = self.state.low + 1 if spread < COLLAPSED else 0
        self.state = State(step + 1, low, (*self.state.losses, loss), self.state.series)
        self._refuse_collapsed(spread)

    def evaluate(self) -> None:
        """See `AbstractRun`; what is measured is the dense quality."""
        extractor = self.course.calibrated(self.method.kept, CALIBRATING * self.schooling.batch)
        quality = dense_quality(_features(extractor, self.course.images(self.course.held)))
        loss = mean_loss(self.state.losses)
        point = Point(self.state.step, loss, quality.separation, quality.rank, quality.spread, quality.score)
        self.state = State(self.state.step, self.state.low, (), (*self.state.series, point))
        if leads([each.score for each in self.state.series]):
            save_extractor(extractor, self.folder / EXTRACTOR)
        write_series(self.state.series, self.folder / SERIES)
        write_state(self.state, self.saved, self.method, self.course.optimizer)

    def _refuse_collapsed(self, spread: float) -> None:
        if self.state.low < PATIENCE or self.state.step < GRACE * self.schooling.steps:
            return
        raise UnplateauError(
            f"Pretraining must tell images apart; by step {self.state.step} the method {self.schooling.method!r} gives "
            f"all of them the same embedding (spread {spread:.4f} of 1 for {self.state.low} steps): it has collapsed. "
            f"{self._kept()}Take another `method`, a lower `learning_rate`, or images that differ more."
        )

    def _kept(self) -> str:
        scored = self.state.series[1:]
        if not scored:
            return ""
        best = kept_of(self.state.series)
        return f"{str(self.folder / EXTRACTOR)!r} holds the extractor of step {best.step}. "


def kept_of(series: tuple[Point, ...]) -> Point:
    """The evaluation whose extractor was kept: the best after the start, the first of equals."""
    return max(series[1:], key=lambda point: (point.score, -point.step))


def _features(extractor: AbstractExtractor, images: Tensor) -> NDArray[np.float32]:
    """Features (N, P, C) of the images on one grid of square cells."""
    height, width = images.shape[-2:]
    side = min(height, width) / CELLS
    grid = (max(2, round(height / side)), max(2, round(width / side)))
    stride = max(level.stride for level in extractor.gives)
    with torch.inference_mode():
        found = [cells(extractor(pad_to(each, stride)), grid).flatten(1, 2) for each in images.split(8)]
    features: NDArray[np.float32] = torch.cat(found).float().cpu().numpy()
    return features
