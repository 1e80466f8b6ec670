"""The optimiser and its schedule: AdamW under a one-cycle cosine, deeper layers of the extractor at a lower rate."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import OneCycleLR

from unplateau.model import SegmentationModel
from unplateau.training.recipe import Recipe


def adamw(model: SegmentationModel, recipe: Recipe) -> AdamW:
    """AdamW over all that may be trained."""
    return AdamW(parameter_groups(model, recipe), recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True)


def one_cycle(optimizer: AdamW, recipe: Recipe) -> OneCycleLR:
    """Up to each group's rate and down to nothing, by half a cosine each."""
    warmup = recipe.warmup
    if warmup * recipe.steps == 1:
        # A rise of a single step has no length, and torch divides by it. Without one the run begins at its peak, as
        # it does when the rise is shorter still.
        warmup *= 1 - 1e-9
    peaks = [group["lr"] for group in optimizer.param_groups]
    return OneCycleLR(optimizer, peaks, total_steps=recipe.steps, pct_start=warmup)


def parameter_groups(model: SegmentationModel, recipe: Recipe) -> list[dict[str, Any]]:
    """What may be trained, the group of the full rate first.

    With a `layer_decay` below 1, the decoder has the full rate and each block of the extractor, from the last to the
    first, `layer_decay` times the rate of the one after it (arXiv 1801.06146; arXiv 2106.08254 for transformers).
    """
    if recipe.layer_decay == 1:
        return [{"params": _trained(model)}]
    groups = [{"params": _trained(model.decoder), "lr": recipe.learning_rate}]
    for depth, block in enumerate(reversed(blocks(model.extractor).values()), start=1):
        groups.append({"params": block, "lr": recipe.learning_rate * recipe.layer_decay**depth})
    return [group for group in groups if group["params"]]


def blocks(extractor: nn.Module) -> dict[str, list[nn.Parameter]]:
    """The extractor's trained parameters by block, in the order of the definition, which is that of the computation.

    A block is what the first number in a parameter's name counts ("layer1.0", "blocks.11", "features.3"), or the layer
    itself ("conv1") where nothing is counted.
    """
    found: dict[str, list[nn.Parameter]] = {}
    for name, weight in extractor.named_parameters():
        if weight.requires_grad:
            found.setdefault(_block(name), []).append(weight)
    return found


def _block(name: str) -> str:
    parts = name.split(".")
    counted = [place for place, part in enumerate(parts) if part.isdigit()]
    return ".".join(parts[: counted[0] + 1] if counted else parts[:-1])


def _trained(piece: nn.Module) -> list[nn.Parameter]:
    return [weight for weight in piece.parameters() if weight.requires_grad]
