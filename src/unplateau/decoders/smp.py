"""Decoders of segmentation_models_pytorch, imported inside functions, for it loads slowly."""

from __future__ import annotations

from itertools import pairwise
from typing import final

import torch
from torch import Tensor, nn

from unplateau.decoders.base import AbstractDecoder
from unplateau.decoders.grids import upsample
from unplateau.errors import PieceError
from unplateau.types import Characteristics, Level, Prediction, Size

WIDTHS = (256, 128, 64, 32, 16)
"""Channels after each step of the U-Net, coarsest first, for strides up to 32."""


@final
class UnetDecoder(AbstractDecoder):
    """Steps of two from the coarsest level to the pixels, each joined with the level of its stride where there is one.

    Levels of the same stride are stacked. With a single stride it is a plain upsampling path.
    """

    def __init__(self, reads: tuple[Level, ...], outputs: int, net: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.reads, self.outputs = reads, outputs
        self.steps = _steps(reads)
        self.net = net
        self.head = head

    def forward(self, characteristics: Characteristics, size: Size) -> Prediction:
        """Characteristics to logits (B, outputs, H, W) at `size` = (H, W) in pixels."""
        stacks = _stacks(characteristics)
        like = characteristics.levels[0]
        # smp starts its list with the image, of which it uses the size only, and accepts maps without channels.
        maps = [_empty(like, size, 1), *(stacks.get(step, _empty(like, size, step)) for step in self.steps)]
        return Prediction(upsample(self.head(self.net(maps)), size))


@final
class FpnDecoder(AbstractDecoder):
    """A feature pyramid over the four coarsest strides, each twice the one before; finer levels are not read."""

    def __init__(self, reads: tuple[Level, ...], outputs: int, net: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.reads, self.outputs = reads, outputs
        self.net = net
        self.head = head

    def forward(self, characteristics: Characteristics, size: Size) -> Prediction:
        """Characteristics to logits (B, outputs, H, W) at `size` = (H, W) in pixels."""
        stacks = _stacks(characteristics)
        maps = [stacks[stride] for stride in sorted(stacks)]
        return Prediction(upsample(self.head(self.net(maps)), size))


def unet(reads: tuple[Level, ...], outputs: int) -> AbstractDecoder:
    """The U-Net decoder.

    Raises:
        PieceError: a stride is not a power of two.
    """
    from segmentation_models_pytorch.base import initialization
    from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoder as Net

    odd = [level.stride for level in reads if level.stride & (level.stride - 1)]
    if odd:
        raise PieceError(
            f"The decoder 'unet' must read strides that are powers of two; got {odd}. Use 'linear' or 'conv'."
        )
    channels, steps = _channels(reads), _steps(reads)
    widths = [max(WIDTHS)] * max(len(steps) - len(WIDTHS), 0) + list(WIDTHS[-len(steps) :])
    net = Net([0, *(channels.get(step, 0) for step in steps)], widths, n_blocks=len(steps))
    head = nn.Conv2d(widths[-1], outputs, kernel_size=3, padding=1)
    initialization.initialize_decoder(net)
    initialization.initialize_head(head)
    return UnetDecoder(reads, outputs, net, head)


def fpn(reads: tuple[Level, ...], outputs: int) -> AbstractDecoder:
    """The feature pyramid decoder.

    Raises:
        PieceError: fewer than four strides, or the four coarsest do not double.
    """
    from segmentation_models_pytorch.base import initialization
    from segmentation_models_pytorch.decoders.fpn.decoder import FPNDecoder as Net

    channels = _channels(reads)
    strides = sorted(channels)
    last = strides[-4:]
    if len(last) < 4 or any(coarse != 2 * fine for fine, coarse in pairwise(last)):
        raise PieceError(
            f"The decoder 'fpn' must read four strides, each twice the one before; got {strides}. "
            "Use 'linear' or 'conv'."
        )
    net = Net([channels[stride] for stride in last], encoder_depth=4)
    head = nn.Conv2d(net.out_channels, outputs, kernel_size=1)
    initialization.initialize_decoder(net)
    initialization.initialize_head(head)
    return FpnDecoder(reads, outputs, net, head)


def _channels(reads: tuple[Level, ...]) -> dict[int, int]:
    """Channels at each stride, levels of the same stride together."""
    strides = dict.fromkeys(level.stride for level in reads)
    return {stride: sum(level.channels for level in reads if level.stride == stride) for stride in strides}


def _stacks(characteristics: Characteristics) -> dict[int, Tensor]:
    """Feature maps by stride, levels of the same stride stacked along the channels."""
    pairs = list(zip(characteristics.levels, characteristics.strides, strict=True))
    strides = dict.fromkeys(characteristics.strides)
    return {stride: torch.cat([maps for maps, own in pairs if own == stride], dim=1) for stride in strides}


def _steps(reads: tuple[Level, ...]) -> list[int]:
    """Strides that a U-Net passes: all powers of two up to the coarsest, and 1 only where there is a level to join."""
    strides = [level.stride for level in reads]
    powers = [2**power for power in range(max(strides).bit_length())]
    return powers if 1 in strides else powers[1:]


def _empty(like: Tensor, size: Size, stride: int) -> Tensor:
    """A map without channels on the grid of `stride`."""
    return like.new_zeros(like.shape[0], 0, size[0] // stride, size[1] // stride)
