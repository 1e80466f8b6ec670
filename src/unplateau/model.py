"""The model: an extractor and a decoder that fit."""

from __future__ import annotations

from typing import final

import torch.nn.functional as F
from torch import Tensor, nn

from unplateau.decoders.base import AbstractDecoder
from unplateau.errors import PieceError
from unplateau.extractors.base import AbstractExtractor
from unplateau.types import Candidates, Level, Prediction


@final
class SegmentationModel(nn.Module):
    """f(c(image)). Refuses, before any training, pieces that do not agree on what passes between them.

    Takes images float (B, 3, H, W), RGB 0..1, of any size: sides are padded up to the coarsest stride by
    repeating the border and the answer is cropped back.

    Raises:
        PieceError: the decoder reads other levels than the extractor gives, or words that mean nothing to it.
    """

    def __init__(self, extractor: AbstractExtractor, decoder: AbstractDecoder) -> None:
        super().__init__()
        if decoder.reads != extractor.gives:
            raise PieceError(
                f"`decoder` must read what `extractor` gives; {type(decoder).__name__} reads {_said(decoder.reads)} "
                f"and {type(extractor).__name__} gives {_said(extractor.gives)}. "
                "Build it with reads=extractor.gives."
            )
        if decoder.words:
            decoder.hear(extractor.embed(decoder.words))
        self.extractor = extractor
        self.decoder = decoder

    def forward(self, images: Tensor) -> Prediction | Candidates:
        """Images (B, 3, H, W) to what the decoder gives; logits (B, outputs, H, W) of a mask decoder."""
        height, width = images.shape[-2:]
        padded = pad_to(images, stride=max(level.stride for level in self.extractor.gives))
        characteristics = self.extractor(padded)
        prediction: Prediction | Candidates = self.decoder(characteristics, (padded.shape[-2], padded.shape[-1]))
        if self.decoder.gives != "mask":
            return prediction
        return Prediction(prediction.logits[..., :height, :width])


def pad_to(images: Tensor, stride: int) -> Tensor:
    """Images (B, C, H, W) with bottom and right border repeated until both sides are divisible by `stride`."""
    height, width = images.shape[-2:]
    down, right = -height % stride, -width % stride
    return F.pad(images, (0, right, 0, down), mode="replicate") if down or right else images


def _said(levels: tuple[Level, ...]) -> str:
    return "[" + ", ".join(f"{level.channels} channels at stride {level.stride}" for level in levels) + "]"
