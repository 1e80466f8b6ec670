"""Teachers: frozen extractors with weights, what they say of an image as standard features, how much each counts."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unplateau.errors import PieceError, UnplateauError
from unplateau.extractors.bounded import rung
from unplateau.extractors.catalogue import build_extractor
from unplateau.extractors.fused import PRETRAINED, is_fused
from unplateau.model import SegmentationModel, pad_to
from unplateau.pretraining.base import look
from unplateau.training.saved import FACTS, load_model
from unplateau.types import Characteristics, Level, Prediction
from unplateau.upgrades.hadamard import Moments, Standard, standard

LEAST_WEIGHT = 0.1
"""Of a teacher that supplies nothing of what is demanded, when all weights together are as many as the teachers: the
eye chart is measured on planted scenes, and none of its zeros is certain."""


@dataclass(frozen=True)
class Said:
    """What a teacher says of a batch: a map (B, C, h, w) for each of `levels`."""

    maps: tuple[Tensor, ...]


@final
class Teacher(nn.Module):
    """An extractor whose weights stay, or a trained model, whose answers then count as one more level.

    What f learnt to read is a small part of what the characteristics hold; the answers say which part (after Hinton,
    Vinyals and Dean, arXiv 1503.02531).
    """

    def __init__(self, name: str, extractor: nn.Module, gives: tuple[Level, ...], answers: nn.Module | None) -> None:
        super().__init__()
        self.name = name
        self.extractor, self.answers = extractor, answers
        self.levels = gives if answers is None else (*gives, Level(_outputs(answers), gives[0].stride))
        self.stride = max(level.stride for level in gives)
        self.requires_grad_(False).eval()

    @torch.no_grad()
    def forward(self, images: Tensor) -> Said:
        """What it says of images (B, 3, H, W), RGB 0..1: of as many whole cells as each level has in them."""
        height, width = images.shape[-2:]
        padded = pad_to(images, self.stride)
        given = look(self.extractor, padded)
        maps = list(given.levels)
        if self.answers is not None:
            read = Characteristics(tuple(each.float() for each in maps), given.strides)
            answer: Prediction = self.answers(read, (padded.shape[-2], padded.shape[-1]))
            maps.append(F.avg_pool2d(answer.logits.float(), self.levels[-1].stride))
        grids = [(height // level.stride, width // level.stride) for level in self.levels]
        return Said(tuple(each[..., :rows, :columns] for each, (rows, columns) in zip(maps, grids, strict=True)))

    def digest(self) -> str:
        """A short hash of its weights."""
        found = hashlib.sha256(self.name.encode())
        for name, value in self.state_dict().items():
            found.update(name.encode())
            found.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        return found.hexdigest()[:12]


def _outputs(decoder: nn.Module) -> int:
    return int(decoder.outputs)  # type: ignore[arg-type]


def open_teacher(said: str | Path) -> Teacher:
    """The teacher that `said` names: a file of weights, "pretrained:NAME", or a folder written by `train`.

    Raises:
        PieceError: it names no weights, a model that gives no mask, or a fusion that was trained with nothing.
    """
    name = str(said)
    if (Path(name) / FACTS).is_file():
        return _trained(name)
    if Path(name).is_dir():
        raise PieceError(f"A teacher that is a folder must be one that `train` wrote; {name!r} holds no {FACTS}.")
    if is_fused(name):
        raise PieceError(
            f"What a fusion mixes is learnt together with f, and {name!r} has learnt nothing yet. Train it with that "
            "`extractor` and name the model's folder, or name its parts as teachers."
        )
    extractor = build_extractor(name)
    if not extractor.pretrained:
        published = "" if rung(name) else f"'{PRETRAINED}{name}', "
        raise PieceError(
            f"A teacher must bring weights; {name!r} names a network with random ones. Give a file of weights, "
            f"{published}or the folder of a trained model."
        )
    return Teacher(name, extractor, extractor.gives, None)


def _trained(name: str) -> Teacher:
    model: SegmentationModel = load_model(Path(name)).model
    if model.decoder.gives != "mask":
        raise PieceError(f"A model that teaches must give masks; that in {name!r} gives {model.decoder.gives}.")
    return Teacher(name, model.extractor, model.extractor.gives, model.decoder)


def standards(teacher: Teacher, batches: Iterable[Tensor]) -> tuple[Standard, ...]:
    """How each level of a teacher becomes standard, measured on batches of images (B, 3, H, W).

    Raises:
        UnplateauError: it gives what is no number.
    """
    sums: list[Moments] = []
    for images in batches:
        found = [Moments.of(maps) for maps in teacher(images).maps]
        sums = [one + other for one, other in zip(sums, found, strict=True)] if sums else found
    if not all(torch.isfinite(each.total).all() for each in sums):
        raise UnplateauError(f"A teacher must give finite numbers; {teacher.name!r} does not. Check its weights.")
    return tuple(standard(each) for each in sums)


def weights_by_demand(demand: Mapping[str, float], supplies: Sequence[Mapping[str, float]]) -> tuple[float, ...]:
    """How much each teacher counts: what it supplies of what a task demands, all together as many as there are.

    `demand` is the share of the attainable area that needs each family, `supplies` how well each teacher delivers it,
    0..1. The same for all where nothing that is demanded is supplied.
    """
    worth = [
        sum(max(0.0, share) * max(0.0, supply.get(family, 0.0)) for family, share in demand.items())
        for supply in supplies
    ]
    if not 0 < sum(worth) < math.inf:
        return (1.0,) * len(worth)
    count = len(worth)
    shares = [max(each / sum(worth), LEAST_WEIGHT / count) for each in worth]
    return tuple(count * share / sum(shares) for share in shares)
