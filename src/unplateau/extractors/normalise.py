"""What happens to an image before its pretrained network sees it."""

from __future__ import annotations

from collections.abc import Callable
from typing import final

import torch
from torch import Tensor, nn

from unplateau.errors import PieceError
from unplateau.extractors.base import AbstractExtractor

IMAGENET_MEAN = (0.485, 0.456, 0.406)
"""Mean of ImageNet, RGB, 0..1."""

IMAGENET_STD = (0.229, 0.224, 0.225)
"""Standard deviation of ImageNet, RGB, 0..1."""

CAFFE_MEAN = (123.68, 116.779, 103.939)
"""Mean of ImageNet, RGB, 0..255, as networks ported from Caffe subtract it."""


@final
class Normalise(nn.Module):
    """Images (B, 3, H, W), RGB 0..1, to (image - mean) / std, and to BGR when `reverse` is set.

    `mean` and `std` are RGB in the unit of the input. They are rules, not weights: a saved state does not hold them.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...], *, reverse: bool = False) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).reshape(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).reshape(1, 3, 1, 1), persistent=False)
        self.reverse = reverse

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W), RGB 0..1, as the network expects them."""
        normal = (images - self.mean) / self.std
        return normal.flip(1) if self.reverse else normal

    def become(self, other: Normalise) -> None:
        """Take the rule of another."""
        self.mean, self.std, self.reverse = other.mean.clone(), other.std.clone(), other.reverse


def imagenet() -> Normalise:
    """RGB, minus the mean of ImageNet, over its standard deviation."""
    return Normalise(mean=IMAGENET_MEAN, std=IMAGENET_STD)


def caffe() -> Normalise:
    """BGR, 0..255, minus the mean of ImageNet, no scaling."""
    r, g, b = CAFFE_MEAN
    return Normalise(mean=(r / 255, g / 255, b / 255), std=(1 / 255, 1 / 255, 1 / 255), reverse=True)


def half() -> Normalise:
    """RGB, -1..1: as networks of Inception's make and many transformers expect it."""
    return Normalise(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


def unit() -> Normalise:
    """RGB, 0..1, as it is."""
    return Normalise(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


def whole() -> Normalise:
    """RGB, 0..255, as a file holds it."""
    return Normalise(mean=(0.0, 0.0, 0.0), std=(1 / 255, 1 / 255, 1 / 255))


def imagenet_bgr() -> Normalise:
    """BGR, minus the mean of ImageNet, over its standard deviation: as images that OpenCV reads."""
    return Normalise(mean=IMAGENET_MEAN, std=IMAGENET_STD, reverse=True)


NORMALISATIONS: dict[str, Callable[[], Normalise]] = {
    "imagenet": imagenet,
    "bgr": imagenet_bgr,
    "half": half,
    "unit": unit,
    "bytes": whole,
    "caffe": caffe,
}
"""What published networks are trained with, by the word that a name may end in after "~"."""


def without_rule(name: str) -> tuple[str, str]:
    """A name such as "weights.safetensors~half" as the name before its rule, and the rule; "" where it says none."""
    bare, _, rule = name.rpartition("~")
    return (bare, rule) if bare and rule in NORMALISATIONS else (name, "")


def rule_of(extractor: AbstractExtractor) -> Normalise | None:
    """What an extractor does to its images before its network sees them; None where it has no such rule."""
    return next((each for each in extractor.modules() if isinstance(each, Normalise)), None)


def under(extractor: AbstractExtractor, rule: str) -> AbstractExtractor:
    """The extractor, fed by that rule of `NORMALISATIONS` from now on, and under a name that says so.

    Raises:
        PieceError: it has no rule that could be another.
    """
    own = rule_of(extractor)
    if own is None:
        raise PieceError(
            f"A rule such as '~{rule}' must follow the name of a network that normalises its images; "
            f"{extractor.architecture!r} does not. Leave it out."
        )
    own.become(NORMALISATIONS[rule]())
    extractor.architecture = f"{extractor.architecture}~{rule}"
    return extractor
