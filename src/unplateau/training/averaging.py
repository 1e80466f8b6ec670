"""A moving average of the weights, which wobbles less from evaluation to evaluation than the weights do."""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

Tensors = tuple[Tensor, ...] | list[Tensor]


def averaged(model: nn.Module, decay: float) -> AveragedModel:
    """A copy of the model that follows it by `update_parameters`, each time by 1 - `decay` of the way.

    Batch statistics are averaged as the weights are. The first updates go further, 9 / (10 + updates) of the way, so
    that a short run is not held back by its random start (Polyak averaging as in TensorFlow and timm).
    """
    copy = AveragedModel(model, multi_avg_fn=partial(_update, decay), use_buffers=True)
    copy.requires_grad_(False)
    return copy


def _update(decay: float, averages: Tensors, currents: Tensors, count: Tensor | int) -> None:
    early = (1 + int(count)) / (10 + int(count))
    get_ema_multi_avg_fn(min(decay, early))(averages, currents, count)
