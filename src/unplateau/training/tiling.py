"""Answers on images larger than a model was trained on, in overlapping tiles, and averaged over flips and scales.

Axes: C outputs, H W pixels of the image, h w of a tile.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

from unplateau.errors import UnplateauError, nearest
from unplateau.model import SegmentationModel, pad_to
from unplateau.training.activation import activated
from unplateau.training.devices import native_bf16
from unplateau.types import Size

FLIPS: dict[str, tuple[int, ...]] = {"horizontal": (-1,), "vertical": (-2,), "both": (-2, -1)}
"""Axes that each flip turns round; "both" is half a turn."""

AVERAGES = ("probabilities", "logits")
"""What can be averaged."""


@dataclass(frozen=True)
class Inference:
    """How an image is answered; as it stands, in one piece and once.

    Attributes:
        tile: height and width of the tiles, rounded up to the model's stride; an image that is smaller is its own
            tile. None = the whole image.
        overlap: least share of a tile's side that its neighbour covers too.
        margin: pixels of a tile's rim that are not used, where the image goes on. From half the reach of a model on
            (and a cell of its coarsest map more), tiles answer as the whole image does, if its levels tell its strides.
        flips: names of `FLIPS`, averaged with the image as it is.
        scales: factors on the sides of the image; 1 is the image as it is.
        average: "probabilities", the arithmetic mean, in which each answer has a say that its certainty cannot
            outgrow; or "logits", the geometric mean, in which a single very certain answer decides.
        batch: tiles that go through the model together.
    """

    tile: Size | None = None
    overlap: float = 0.5
    margin: int = 0
    flips: tuple[str, ...] = ()
    scales: tuple[float, ...] = (1.0,)
    average: str = "probabilities"
    batch: int = 8

    def __post_init__(self) -> None:
        if self.tile is not None and (min(self.tile) < 1 or not 0 <= 2 * self.margin < min(self.tile)):
            raise UnplateauError(
                f"`tile` must be a height and a width in pixels, more than twice `margin`; got {self.tile} and a "
                f"margin of {self.margin}. Take larger tiles."
            )
        if not 0 <= self.overlap < 1:
            raise UnplateauError(f"`overlap` is a share of a tile's side in 0..1; got {self.overlap}. Try 0.5.")
        if not self.scales or not all(0 < each < math.inf for each in self.scales):
            raise UnplateauError(f"`scales` must be factors above 0; got {self.scales}. Try (1.0,).")
        if self.batch < 1:
            raise UnplateauError(f"`batch` must be at least 1; got {self.batch}. Give another.")
        for name in set(self.flips) - FLIPS.keys():
            raise UnplateauError(f"`flips` must be {', '.join(map(repr, FLIPS))}; got {name!r}: {nearest(name, FLIPS)}")
        if self.average not in AVERAGES:
            raise UnplateauError(f"`average` must be {' or '.join(map(repr, AVERAGES))}; got {self.average!r}.")


def infer(model: SegmentationModel, image: Tensor, inference: Inference, exclusive: bool = True) -> Tensor:
    """Image uint8 (3, H, W) to float probabilities (C, H, W), on the model's device: sigmoid when binary, else softmax.

    Classes that are not `exclusive` have a sigmoid each. Memory is bounded by one image and one batch of tiles.
    """
    training = model.training
    model.eval()
    with torch.inference_mode():
        said = _Answer(model, inference, exclusive)
        views = _views(said, image.to(next(model.parameters()).device).float().div(255))
        mean = reduce(torch.Tensor.add_, views) / (len(inference.scales) * (1 + len(inference.flips)))
    model.train(training)
    return activated(mean[None], exclusive)[0] if inference.average == "logits" else mean


@dataclass(frozen=True)
class _Answer:
    """Who is asked, how, and what the logits mean."""

    model: SegmentationModel
    inference: Inference
    exclusive: bool


def _views(said: _Answer, image: Tensor) -> Iterator[Tensor]:
    """What is averaged (C, H, W), of each scale and flip, turned and sized back to the image."""
    inference = said.inference
    size = (image.shape[-2], image.shape[-1])
    for scale, axes in product(inference.scales, ((), *(FLIPS[name] for name in inference.flips))):
        sides = [max(1, round(side * scale)) for side in size]
        answer = _answer(said, _resized(image, sides).flip(axes))
        yield _resized(answer.flip(axes), size)


def _answer(said: _Answer, image: Tensor) -> Tensor:
    """Image float (3, H, W) to logits or probabilities (C, H, W), the mean of all tiles that show a pixel."""
    model, inference = said.model, said.inference
    if inference.tile is None:
        return _values(said, image[None])[0]
    height, width = image.shape[-2:]
    # Tiles begin where cells of the coarsest map begin, so that each cell sees what it sees on the whole image.
    stride = max(level.stride for level in model.extractor.gives)
    padded = pad_to(image[None], stride)[0]
    size = (padded.shape[-2], padded.shape[-1])
    windows = _windows(size, inference, stride)
    weight = torch.zeros(size, device=image.device)
    total = weight[None]
    for first in range(0, len(windows), inference.batch):
        part = windows[first : first + inference.batch]
        values = _values(said, torch.stack([padded[:, *window] for window in part]))
        if first == 0:
            total = values.new_zeros(values.shape[1], *size)
        for window, value in zip(part, values, strict=True):
            share = _share(window, size, inference.margin).to(value)
            total[:, *window] += share * value
            weight[window] += share
    return (total / weight)[:, :height, :width]


def _windows(size: Size, inference: Inference, stride: int) -> list[tuple[slice, slice]]:
    """The tiles of an image whose sides are divisible by `stride`, as rows and columns."""
    along = []
    for side, asked in zip(size, inference.tile or size, strict=True):
        length, margin = min(math.ceil(asked / stride), side // stride), math.ceil(inference.margin / stride)
        if 2 * margin >= length < side // stride:
            raise UnplateauError(
                f"`tile` must be more than twice `margin`, in multiples of the model's stride of {stride}; got "
                f"{asked} and a margin of {inference.margin}. Take larger tiles."
            )
        starts = _starts(side // stride, length, inference.overlap, margin)
        along.append([slice(start * stride, (start + length) * stride) for start in starts])
    return list(product(*along))


def _starts(side: int, tile: int, overlap: float, margin: int) -> list[int]:
    """Where tiles begin along a side: evenly from end to end, as few as the overlap and the margin allow."""
    step = max(1, min(math.floor(tile * (1 - overlap)), tile - 2 * margin))
    steps = math.ceil((side - tile) / step)
    return [round(place * (side - tile) / steps) for place in range(steps + 1)] if steps else [0]


def _share(window: tuple[slice, slice], size: Size, margin: int) -> Tensor:
    """Weight (h, w) of a tile's pixels: a Gaussian of an eighth of the side (nnU-Net), nothing in a rim inside."""
    rows, columns = (_profile(part, side, margin) for part, side in zip(window, size, strict=True))
    return rows[:, None] * columns[None, :]


def _profile(part: slice, side: int, margin: int) -> Tensor:
    length = part.stop - part.start
    places = torch.arange(length, dtype=torch.float64)
    weights = torch.exp(-0.5 * ((places - (length - 1) / 2) / (length / 8)) ** 2)
    if margin and part.start > 0:
        weights[:margin] = 0
    if margin and part.stop < side:
        weights[-margin:] = 0
    return weights


def _values(said: _Answer, images: Tensor) -> Tensor:
    """Images float (B, 3, h, w) to logits or probabilities (B, C, h, w), whichever are averaged."""
    device = images.device.type
    with torch.autocast(device, torch.bfloat16, enabled=native_bf16(device)):
        logits = said.model(images.contiguous(memory_format=torch.channels_last)).logits
    return logits.float() if said.inference.average == "logits" else activated(logits.float(), said.exclusive)


def _resized(image: Tensor, size: list[int] | Size) -> Tensor:
    """Image (C, h, w) at another size; itself at its own."""
    if tuple(image.shape[-2:]) == tuple(size):
        return image
    return F.interpolate(image[None], size=tuple(size), mode="bilinear", antialias=True)[0]
