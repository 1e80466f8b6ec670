"""`pretrain`: an extractor learns from images without masks; resumable, and it stops when it learns nothing.

Every random number of a step comes from the seed and the step alone, so a resumed run ends as an unbroken one.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.swa_utils import update_bn

from unplateau.data.unlabelled import Unlabelled
from unplateau.errors import UnplateauError
from unplateau.extractors.base import AbstractExtractor
from unplateau.extractors.catalogue import build_extractor
from unplateau.measures.dense_quality import dense_quality
from unplateau.model import pad_to
from unplateau.pretraining.base import AbstractMethod, cells
from unplateau.pretraining.methods import build_method
from unplateau.pretraining.state import Point, State, mark_of, read_state, write_series, write_state
from unplateau.training.batches import positions, step_generator
from unplateau.training.devices import accelerator
from unplateau.training.saved import save_extractor

EXTRACTOR, SERIES, STATE = "extractor.safetensors", "series.json", "state"

HELD_OUT, MOST_HELD_OUT = 0.1, 24
"""Share of the images that is never trained on, and the most of them: dense quality is measured there."""

COLLAPSED, PATIENCE, GRACE = 0.01, 20, 0.1
"""A run has collapsed when the spread of its embeddings stays below this for so many steps, after this share of it."""

CELLS = 12
"""Cells on the short side of the grid on which dense features are compared."""

CALIBRATING = 4
"""Batches that batch statistics are taken from before features are looked at or kept."""

Told = Callable[[int, int, str], None]
"""Called after each step with how many are done, of how many, and which."""


@dataclass(frozen=True)
class Schooling:
    """How an extractor is pretrained.

    Attributes:
        method: "families", "dense", "dino" or "simmim".
        steps: optimiser steps.
        batch: images a step, each seen in several views.
        learning_rate: peak; it rises over `warmup` of the steps and falls as half a cosine.
        weight_decay: of AdamW.
        clip: largest norm of the gradient.
        evaluations: how often, at most, dense quality is measured and the state saved, evenly over the run.
    """

    method: str = "dense"
    steps: int = 400
    batch: int = 16
    learning_rate: float = 2e-3
    warmup: float = 0.1
    weight_decay: float = 1e-2
    clip: float = 1.0
    evaluations: int = 6

    @property
    def evaluate_every(self) -> int:
        """Steps between evaluations; where it does not divide the steps, the last interval is the shorter one."""
        return math.ceil(self.steps / self.evaluations)

    def ends(self, step: int) -> bool:
        """Whether an evaluation follows that many steps."""
        return step % self.evaluate_every == 0 or step == self.steps

    def rate(self, step: int) -> float:
        """Learning rate of a step."""
        rise = max(1.0, self.warmup * self.steps)
        if step + 1 < rise:
            return self.learning_rate * (step + 1) / rise
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * (step + 1 - rise) / max(1.0, self.steps - rise)))


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
    method.to(accelerator()).to(memory_format=torch.channels_last)
    run = _Run(pool, method, schooling, seed, folder, folder / STATE / f"{mark}.pt")
    run.resume()
    while run.state.step < schooling.steps:
        run.advance()
        if run.due:
            run.evaluate()
        told(run.state.step, schooling.steps, f"step {run.state.step}")
    return run.state.series


@final
class _Run:
    """A pretraining under way."""

    def __init__(
        self, pool: Unlabelled, method: AbstractMethod, schooling: Schooling, seed: int, folder: Path, saved: Path
    ) -> None:
        self.pool, self.method, self.schooling, self.seed = pool, method, schooling, seed
        self.folder, self.saved = folder, saved
        self.device = next(method.parameters()).device
        self.weights = [weight for weight in method.parameters() if weight.requires_grad]
        self.optimizer = AdamW(self.weights, schooling.learning_rate, weight_decay=schooling.weight_decay)
        self.fit, self.held = parts(len(pool), seed)
        self.state = State(step=0, low=0, losses=(), series=())

    def resume(self) -> None:
        """Take up what an interrupted run left; without one, measure the start."""
        found = read_state(self.saved, self.method, self.optimizer)
        if found is None:
            self.evaluate()
        else:
            self.state = found

    @property
    def due(self) -> bool:
        """Whether this step ends with an evaluation."""
        return self.schooling.ends(self.state.step)

    def advance(self) -> None:
        """One optimiser step."""
        step, rate = self.state.step, self.schooling.rate(self.state.step)
        batch = self.fit[positions(len(self.fit), self.schooling.batch, step, self.seed)]
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.method.train()
        outcome = self.method(self._images(batch), step_generator(self.seed, step))
        self.optimizer.zero_grad(set_to_none=True)
        outcome.loss.backward()
        norm = nn.utils.clip_grad_norm_(self.weights, self.schooling.clip).detach()
        loss, spread = float(outcome.loss.detach()), float(outcome.spread)
        self._refuse_infinite(loss, float(norm), batch)
        self.optimizer.step()
        self.method.advance(step)
        low = self.state.low + 1 if spread < COLLAPSED else 0
        self.state = State(step + 1, low, (*self.state.losses, loss), self.state.series)
        self._refuse_collapsed(spread)

    def evaluate(self) -> None:
        """Measure the dense quality; keep the extractor if it is the best so far; save the state, last."""
        extractor = calibrated(self.method.kept, [self._images(batch) for batch in self._calibrating()])
        quality = dense_quality(_features(extractor, self._images(self.held)))
        losses = self.state.losses
        loss = sum(losses) / len(losses) if losses else math.nan
        point = Point(self.state.step, loss, quality.separation, quality.rank, quality.spread, quality.score)
        # The random start is measured and never kept.
        best = max((each.score for each in self.state.series[1:]), default=-math.inf)
        self.state = State(self.state.step, self.state.low, (), (*self.state.series, point))
        if self.state.step and point.score > best:
            save_extractor(extractor, self.folder / EXTRACTOR)
        write_series(self.state.series, self.folder / SERIES)
        write_state(self.state, self.saved, self.method, self.optimizer)

    def _images(self, indices: Tensor) -> Tensor:
        images = self.pool.images[indices].to(self.device).float().div(255)
        return images.contiguous(memory_format=torch.channels_last)

    def _calibrating(self) -> list[Tensor]:
        batch, most = self.schooling.batch, self.schooling.batch * CALIBRATING
        order = torch.arange(0, len(self.fit), max(1, len(self.fit) // most))[:most]
        return [self.fit[each] for each in order.split(batch) if len(each) > 1]

    def _refuse_infinite(self, loss: float, norm: float, batch: Tensor) -> None:
        if math.isfinite(loss) and math.isfinite(norm):
            return
        names = [self.pool.names[index] for index in batch.tolist()]
        raise UnplateauError(
            f"The loss of pretraining must stay finite; it was not at step {self.state.step + 1}, on "
            f"{', '.join(names)}. {self._kept()}Lower `learning_rate` (it is {self.schooling.learning_rate:g}) and "
            "look for broken images among these."
        )

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


def parts(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Indices to train on, and those held out."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed * 9_176_263 + 1))
    held = min(MOST_HELD_OUT, max(2, round(HELD_OUT * count)))
    return order[held:].sort().values, order[:held].sort().values


def calibrated(extractor: AbstractExtractor, batches: list[Tensor]) -> AbstractExtractor:
    """A copy in eval mode whose batch statistics are those of whole images: views and masks have others."""
    settled = copy.deepcopy(extractor)
    stride = max(level.stride for level in settled.gives)
    update_bn([pad_to(each, stride) for each in batches], settled)
    return settled.eval().requires_grad_(False)


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
