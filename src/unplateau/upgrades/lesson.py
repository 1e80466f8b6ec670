"""A short lesson: every extractor is shown the same scenes for the same few steps, to see what it can learn."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unplateau.decoders.linear import linear
from unplateau.extractors.base import AbstractExtractor
from unplateau.model import SegmentationModel
from unplateau.training.devices import accelerator, native_bf16

STEPS, SCENES_A_STEP = 108, 8

PEAK = 2e-3
"""Learning rate at the top of the one-cycle schedule."""

Shown = Callable[[int, int], tuple[str, Tensor, Tensor]]
"""The family, images uint8 (B, 3, H, W) and masks (B, H, W) of 0/1 for a step, given its number and B."""


def taught(extractor: AbstractExtractor, shown: Shown, families: tuple[str, ...], seed: int) -> AbstractExtractor:
    """A copy of `extractor` after the lesson, which the extractor itself does not have.

    All families are learnt at once, each with a linear rule of its own over what they share. Frozen parts of it stay
    frozen; an extractor without trainable weights comes back as it is.
    """
    pupil = deepcopy(extractor)
    trainable = [weight for weight in pupil.parameters() if weight.requires_grad]
    if not trainable:
        return pupil
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        models = {family: SegmentationModel(pupil, linear(pupil.gives, 1)) for family in families}
        _train(models, shown, nn.ParameterList(trainable))
    return pupil.train(extractor.training)


def _train(models: dict[str, SegmentationModel], shown: Shown, trainable: nn.ParameterList) -> None:
    device = accelerator()
    weights = [*trainable, *(weight for model in models.values() for weight in model.decoder.parameters())]
    for model in models.values():
        model.to(device).train()
    optimiser = torch.optim.AdamW(weights, lr=PEAK, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, PEAK, total_steps=STEPS, pct_start=0.2)
    for step in range(STEPS):
        family, images, masks = shown(step, SCENES_A_STEP)
        with torch.autocast(device.type, torch.bfloat16, enabled=native_bf16(device.type)):
            answer = models[family](images.to(device).float().div(255))
        optimiser.zero_grad(set_to_none=True)
        _loss(answer.logits.float()[:, 0], masks.to(device)).backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()
        schedule.step()


def _loss(logits: Tensor, masks: Tensor) -> Tensor:
    """Cross-entropy and Dice over a batch; logits and masks (B, H, W)."""
    wanted = masks.float()
    said = logits.sigmoid()
    dice = 1 - (2 * (said * wanted).sum() + 1) / (said.sum() + wanted.sum() + 1)
    return F.binary_cross_entropy_with_logits(logits, wanted) + dice
