"""What every way of learning from images without masks goes through: which images a step sees, at which rate, what a
gradient may do, when it is evaluated, and how it goes on from where it was left.

Every random number of a step comes from the seed and the step alone, so a resumed run ends as an unbroken one.
"""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.swa_utils import update_bn

from unplateau.data.unlabelled import Unlabelled
from unplateau.errors import UnplateauError
from unplateau.extractors.base import AbstractExtractor
from unplateau.model import pad_to
from unplateau.training.batches import positions
from unplateau.training.devices import accelerator

EXTRACTOR, SERIES, STATE = "extractor.safetensors", "series.json", "state"

HELD_OUT, MOST_HELD_OUT = 0.1, 24
"""Share of the images that is never trained on, and the most of them: evaluations are made there."""

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


class AbstractRun(ABC):
    """A schooling under way: what a step learns by, and what is measured and kept."""

    @property
    @abstractmethod
    def step(self) -> int:
        """Steps done."""

    @abstractmethod
    def resume(self) -> bool:
        """Take up what an interrupted run left; whether there was anything.

        Raises:
            UnplateauError: it cannot be read.
        """

    @abstractmethod
    def advance(self) -> None:
        """One optimiser step."""

    @abstractmethod
    def evaluate(self) -> None:
        """Measure; keep the extractor if it is the best so far; save the state, last."""


def finish(run: AbstractRun, schooling: Schooling, told: Told) -> None:
    """From where a run was left, or from its start, which is measured too, to the last step."""
    if not run.resume():
        run.evaluate()
    while run.step < schooling.steps:
        run.advance()
        if schooling.ends(run.step):
            run.evaluate()
        told(run.step, schooling.steps, f"step {run.step}")


@final
class Course:
    """A network, the images that it learns from, and how a step changes it.

    `what` is what an error calls the run. `stride`: images are padded to sides that it divides.
    """

    def __init__(
        self, pool: Unlabelled, network: nn.Module, schooling: Schooling, seed: int, *, what: str, stride: int = 1
    ) -> None:
        self.pool, self.network, self.schooling, self.seed = pool, network, schooling, seed
        self.what, self.stride = what, stride
        network.to(accelerator()).to(memory_format=torch.channels_last)
        self.device = next(network.parameters()).device
        self.weights = [weight for weight in network.parameters() if weight.requires_grad]
        self.optimizer = AdamW(self.weights, schooling.learning_rate, weight_decay=schooling.weight_decay)
        self.fit, self.held = parts(len(pool), seed)

    def drawn(self, step: int) -> Tensor:
        """Indices of the images of a step."""
        return self.fit[positions(len(self.fit), self.schooling.batch, step, self.seed)]

    def images(self, indices: Tensor) -> Tensor:
        """Images (B, 3, H, W), RGB 0..1."""
        images = self.pool.images[indices].to(self.device).float().div(255)
        return pad_to(images, self.stride).contiguous(memory_format=torch.channels_last)

    def some(self, most: int) -> Tensor:
        """Indices of at most so many of the images that train, evenly over them."""
        return self.fit[torch.arange(0, len(self.fit), max(1, len(self.fit) // most))[:most]]

    def calibrated(self, extractor: AbstractExtractor, most: int) -> AbstractExtractor:
        """A copy in eval mode whose batch statistics are those of at most so many whole images: views and masks have
        others.
        """
        settled = copy.deepcopy(extractor)
        stride = max(level.stride for level in settled.gives)
        batches = [self.images(each) for each in self.some(most).split(self.schooling.batch) if len(each) > 1]
        update_bn([pad_to(each, stride) for each in batches], settled)
        return settled.eval().requires_grad_(False)

    def descend(self, step: int, loss: Tensor, drawn: Tensor, advice: str) -> float:
        """Follow the gradient of the loss of step `step` on the images `drawn`; what the loss is.

        Raises:
            UnplateauError: loss or gradient are no longer finite; the weights stay. `advice` ends the sentence.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = self.schooling.rate(step)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.weights, self.schooling.clip).detach()
        value = float(loss.detach())
        if not (math.isfinite(value) and math.isfinite(float(norm))):
            names = ", ".join(self.pool.names[index] for index in drawn.tolist())
            raise UnplateauError(
                f"The loss of {self.what} must stay finite; it was not at step {step + 1}, on {names}. {advice}"
            )
        self.optimizer.step()
        return value


def parts(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Indices to train on, and those held out."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed * 9_176_263 + 1))
    held = min(MOST_HELD_OUT, max(2, round(HELD_OUT * count)))
    return order[held:].sort().values, order[:held].sort().values


def mean_loss(losses: Sequence[float]) -> float:
    """Mean of the losses since the last evaluation; nan at the start."""
    return sum(losses) / len(losses) if losses else math.nan


def leads(scores: Sequence[float]) -> bool:
    """Whether the last evaluation is better than all before it; the random start is measured and never kept."""
    return len(scores) > 1 and scores[-1] > max(scores[1:-1], default=-math.inf)
