"""A rehearsal: an extractor is trained on the task itself for a few small steps, to see how it takes to it.

What weights from elsewhere know of a task, how fast a network learns, and what its maps lose show in their first steps.
What needs a long training does not, and is left to supply and demand.

Axes: R resamples.
"""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import torch
from torch import Tensor, nn

from unplateau.data.splits import refuse_no_inner, split
from unplateau.decoders.linear import linear
from unplateau.extractors.base import AbstractExtractor
from unplateau.measures.intervals import Draws
from unplateau.measures.thresholds import best_threshold, counts_at
from unplateau.model import SegmentationModel
from unplateau.training.batches import positions
from unplateau.training.devices import accelerator
from unplateau.training.losses import CompoundLoss
from unplateau.training.scoring import score
from unplateau.types import Pictures
from unplateau.upgrades.demand import iou_draws, shrunk
from unplateau.upgrades.lesson import practise

STEPS = 12

SETTLING = 4
"""Last steps, which hardly change the weights any more: normalisation reads with the averages over these alone."""

BATCH = 12

SIDE = 48
"""Long side in pixels that is rehearsed at, or less: about that of the chart's scenes."""


def rehearsed(extractor: AbstractExtractor, pictures: Pictures, seed: int) -> tuple[float, Draws]:
    """IoU that a copy of `extractor` with a linear decoder comes to in a rehearsal, on images that chose nothing.

    And its draws (R,) over groups.

    Raises:
        DataError: too few images or groups to train and report on.
    """
    small = shrunk(pictures, SIDE)
    fold = split(small, seed=seed)[0]
    refuse_no_inner([fold])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        own = deepcopy(extractor)
        model = SegmentationModel(own, linear(own.gives, small.task.outputs)).to(accelerator()).train()
        _rehearse(model, small, torch.tensor(fold.fit), seed)
    threshold = best_threshold(score(model, small, fold.inner)) if small.task.outputs == 1 else float("nan")
    counts = counts_at(score(model, small, fold.report), threshold)
    groups = [small.groups[place] for place in fold.report]
    # The same resamples for all: what is drawn for one is drawn for the others.
    return iou_draws(counts, groups, np.random.default_rng(seed))


def _rehearse(model: SegmentationModel, pictures: Pictures, fit: Tensor, seed: int) -> None:
    """Every extractor sees the same images in the same order."""
    device, outputs = accelerator(), pictures.task.outputs
    loss = CompoundLoss(outputs, torch.ones(outputs)).to(device)

    def shown(step: int) -> Tensor:
        if step == STEPS - SETTLING:
            _forget_averages(model)
        chosen = fit[positions(len(fit), BATCH, step, seed)]
        images, masks = pictures.images[chosen].to(device), pictures.masks[chosen].to(device)
        # Every other step in the mirror, which doubles what there is to see.
        axes = [-1] if step % 2 else []
        said = model(images.flip(axes).float().div(255).contiguous(memory_format=torch.channels_last))
        total: Tensor = loss(said.logits, masks.flip(axes))
        return total

    practise([weight for weight in model.parameters() if weight.requires_grad], shown, STEPS)


def _forget_averages(model: nn.Module) -> None:
    """Averages over the batches that are to come, all alike: those of so few steps would still be of the first ones."""
    for module in model.modules():
        # What is frozen keeps the averages that belong to it.
        if isinstance(module, nn.BatchNorm2d) and module.training:
            module.reset_running_stats()
            module.momentum = None
