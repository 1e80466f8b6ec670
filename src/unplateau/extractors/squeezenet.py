"""SqueezeNet 1.1, small enough to ship with weights; the only file that imports torchvision."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import final

import torch.nn.functional as F
from torch import Tensor, nn

from unplateau.errors import PieceError
from unplateau.extractors.base import AbstractExtractor
from unplateau.extractors.normalise import Normalise, caffe, imagenet
from unplateau.extractors.tensors import load, read_tensors
from unplateau.types import Characteristics, Level

TAKEN = {1: Level(64, 2), 4: Level(128, 4), 7: Level(256, 8), 12: Level(512, 16)}
"""Layers whose output is given, with what each promises."""

LEFT, RIGHT = (1, 0, 1, 0), (0, 1, 0, 1)

# Without padding each strided layer loses a cell. Padding on one side keeps the count and moves the centre of a cell by
# half its size; taking turns keeps every level within a quarter of a cell of where its stride says, where one side
# throughout would end near half a cell off.
PADDED = {0: RIGHT, 2: LEFT, 5: RIGHT, 8: LEFT}
"""Border of zeros before a strided layer: left, right, top, bottom in cells."""

PREPROCESSING: dict[str, Callable[[], Normalise]] = {"caffe": caffe, "imagenet": imagenet}
"""How published weights of this network expect their images."""


@final
class SqueezeNetExtractor(AbstractExtractor):
    """The `features` of torchvision's squeezenet1_1, every level with exactly H / stride x W / stride cells."""

    def __init__(self, features: nn.Sequential, preprocessing: str, *, pretrained: bool) -> None:
        super().__init__()
        self.architecture = "squeezenet1_1" if preprocessing == "caffe" else f"squeezenet1_1-{preprocessing}"
        self.features = features
        self.normalise = PREPROCESSING[preprocessing]()
        self.gives = tuple(TAKEN.values())
        self.reach = 207.0
        self.pretrained = pretrained

    def forward(self, images: Tensor) -> Characteristics:
        """Images (B, 3, H, W), RGB 0..1, to feature maps at strides 2, 4, 8 and 16."""
        maps, levels = self.normalise(images), []
        for index, layer in enumerate(self.features):
            maps = layer(F.pad(maps, PADDED[index]) if index in PADDED else maps)
            if index in TAKEN:
                levels.append(maps)
        return Characteristics(tuple(levels), tuple(level.stride for level in self.gives))


def squeezenet(weights: Path | None = None, *, preprocessing: str = "caffe") -> AbstractExtractor:
    """SqueezeNet 1.1 with `weights` from a file, or random.

    `preprocessing` is a name in `PREPROCESSING` and belongs to the weights: "caffe" is BGR 0..255 minus the mean,
    "imagenet" is RGB 0..1 over mean and standard deviation, as torchvision's own weights expect.

    Raises:
        PieceError: unknown preprocessing, or a file that does not fit.
    """
    if preprocessing not in PREPROCESSING:
        raise PieceError(f"`preprocessing` must be one of {sorted(PREPROCESSING)}; got {preprocessing!r}.")
    extractor = SqueezeNetExtractor(_features(), preprocessing, pretrained=weights is not None)
    if weights is not None:
        load(extractor, read_tensors(weights), "squeezenet1_1")
    return extractor


def _features() -> nn.Sequential:
    from torchvision.models import squeezenet1_1

    features: nn.Sequential = squeezenet1_1(weights=None).features
    for layer in features:
        if isinstance(layer, nn.MaxPool2d):
            layer.ceil_mode = False
    return features
