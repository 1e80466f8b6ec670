"""A teacher beside the masks: a trained model whose answers another is fine-tuned to give too.

Axes: B images, C outputs, H W pixels, h w cells.
"""

from __future__ import annotations

from pathlib import Path
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

from unplateau.errors import PieceError
from unplateau.model import SegmentationModel
from unplateau.training.activation import activated
from unplateau.training.saved import FACTS, load_model
from unplateau.types import Prediction, Size, Task


@final
class Coach:
    """A model whose weights stay. What it says of an image stands beside what is true of it (arXiv 1503.02531).

    Its answers hold what masks do not: which pixels are doubtful, and what it says of images changed at random, of
    which a small set has no more than its masks tell. It is no module, so that no state and no optimiser holds it.
    """

    def __init__(self, model: SegmentationModel, *, exclusive: bool) -> None:
        self._model = model.requires_grad_(False).eval().to(memory_format=torch.channels_last)
        self._exclusive = exclusive

    @torch.no_grad()
    def says(self, images: Tensor, size: Size) -> Tensor:
        """Its scores (B, C, h, w), 0..1, of images (B, 3, H, W), RGB 0..1, as means over the cells of `size`."""
        self._model.to(images.device)
        answer: Prediction = self._model(images.contiguous(memory_format=torch.channels_last))
        scores = activated(answer.logits.float(), self._exclusive)
        return scores if scores.shape[-2:] == size else F.interpolate(scores, size=size, mode="area")

    def loss(self, logits: Tensor, said: Tensor) -> Tensor:
        """Cross-entropy of logits (B, C, H, W) with the scores that it gave, of every pixel: it has a word on each."""
        if self._exclusive and logits.shape[1] > 1:
            return F.cross_entropy(logits.float(), said)
        return F.binary_cross_entropy_with_logits(logits.float(), said)


def open_coach(folder: str | Path, task: Task) -> Coach:
    """The coach that a model written by `train` is for this task.

    Raises:
        PieceError: no model there, a damaged one, or one of another task or of none with masks.
    """
    if not (Path(folder) / FACTS).is_file():
        raise PieceError(
            f"`teacher` must be a folder written by `train`; there is no {FACTS!r} in {str(folder)!r}. Train one first."
        )
    saved = load_model(Path(folder))
    if saved.model.decoder.gives != "mask" or task.kind not in ("mask", "multi-label"):
        raise PieceError(f"`teacher` says what is in each pixel, and the task {task.kind!r} is another. Leave it out.")
    if saved.task != task:
        raise PieceError(
            f"`teacher` must answer the same question; {str(folder)!r} was trained for {_said(saved.task)}, this is "
            f"{_said(task)}. Give a model of this task, or leave it out."
        )
    return Coach(saved.model, exclusive=task.exclusive)


def _said(task: Task) -> str:
    ids = ", ".join(map(str, task.positive or task.classes))
    return f"{task.kind!r} of {'positive ' if task.positive else ''}class{'es' if len(ids) > 1 else ''} {ids}"
