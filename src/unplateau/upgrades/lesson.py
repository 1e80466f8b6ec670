"""A short lesson: every extractor is shown the same scenes for the same steps, to see what it can learn.

All families at once, some scenes of each in every step: an extractor that saw one family at a time would normalise by
what no later image has. What was learnt is read by the rules that learnt it.

Axes: F families, B scenes of a family in a step, N scenes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unplateau.decoders.base import AbstractDecoder
from unplateau.decoders.linear import linear
from unplateau.extractors.base import AbstractExtractor
from unplateau.model import SegmentationModel, pad_to
from unplateau.training.devices import accelerator, native_bf16
from unplateau.types import IGNORE, Characteristics, Size

STEPS = 200

PEAK = 2e-3
"""Learning rate at the top of the one-cycle schedule."""

WARMUP = 0.15
"""Share of the steps until the peak."""

BATCH = 24
"""Scenes that are read together."""

Shown = Callable[[int], Mapping[str, tuple[Tensor, Tensor]]]
"""Of each family the images uint8 (B, 3, H, W) and masks (B, H, W) of 0/1/255 of a step, given its number."""


@dataclass(frozen=True)
class Pupil:
    """A taught copy of an extractor, and the linear rule of each family over what they share."""

    extractor: AbstractExtractor
    rules: dict[str, AbstractDecoder]

    def answers(self, family: str, images: Tensor) -> Tensor:
        """What it says of images uint8 (N, 3, H, W): scores (N, 1, H, W) in 0..1 on the CPU."""
        model = SegmentationModel(self.extractor, self.rules[family]).eval()
        device = accelerator()
        with torch.inference_mode():
            parts = [model(part.to(device).float().div(255)).logits.sigmoid().cpu() for part in images.split(BATCH)]
        return torch.cat(parts).float()


def taught(extractor: AbstractExtractor, shown: Shown, families: tuple[str, ...], seed: int) -> Pupil:
    """A copy of `extractor` after the lesson, which the extractor itself does not have, and what reads it.

    Frozen parts of it stay frozen; where nothing of it can be trained the rules alone learn.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        own = deepcopy(extractor).to(accelerator())
        rules = {family: linear(own.gives, 1).to(accelerator()) for family in families}
        pupil = Pupil(own, rules)
        _train(pupil, shown)
    own.eval()
    return pupil


def _train(pupil: Pupil, shown: Shown) -> None:
    device = accelerator()
    pupil.extractor.train()
    own = [weight for weight in pupil.extractor.parameters() if weight.requires_grad]
    weights = [*own, *(weight for rule in pupil.rules.values() for weight in rule.train().parameters())]
    practise(weights, lambda step: _loss_of(pupil, shown(step), device), STEPS)


def practise(weights: list[nn.Parameter], loss_of: Callable[[int], Tensor], steps: int) -> None:
    """So many steps on the loss of each, given its number, by one schedule for whoever is taught anything."""
    device = accelerator()
    optimiser = torch.optim.AdamW(weights, lr=PEAK, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, PEAK, total_steps=steps, pct_start=WARMUP)
    for step in range(steps):
        with torch.autocast(device.type, torch.bfloat16, enabled=native_bf16(device.type)):
            loss = loss_of(step)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()
        schedule.step()


def _loss_of(pupil: Pupil, scenes: Mapping[str, tuple[Tensor, Tensor]], device: torch.device) -> Tensor:
    """The losses of all families, after one pass of all their scenes together."""
    stride = max(level.stride for level in pupil.extractor.gives)
    images = pad_to(torch.cat([images for images, _ in scenes.values()]).to(device).float().div(255), stride)
    given = pupil.extractor(images.contiguous(memory_format=torch.channels_last))
    size, first, total = (int(images.shape[-2]), int(images.shape[-1])), 0, torch.zeros((), device=device)
    for family, (_, masks) in scenes.items():
        total = total + _loss(_said(pupil.rules[family], given, (first, len(masks)), size), masks.to(device))
        first += len(masks)
    return total


def _said(rule: AbstractDecoder, given: Characteristics, part: tuple[int, int], size: Size) -> Tensor:
    """Logits (B, H, W) of a rule on `part`, the first scene and how many."""
    first, count = part
    levels = tuple(maps[first : first + count] for maps in given.levels)
    logits: Tensor = rule(Characteristics(levels, given.strides), size).logits
    return logits[:, 0].float()


def _loss(logits: Tensor, masks: Tensor) -> Tensor:
    """Cross-entropy and Dice over the counted pixels of a batch; logits at least as large as the masks (B, H, W)."""
    counted = masks != IGNORE
    said = logits[:, : masks.shape[1], : masks.shape[2]][counted]
    wanted = (masks == 1).float()[counted]
    if not len(wanted):
        return said.sum()
    share = said.sigmoid()
    dice = 1 - (2 * (share * wanted).sum() + 1) / (share.sum() + wanted.sum() + 1)
    return F.binary_cross_entropy_with_logits(said, wanted) + dice
