"""The decoders by name."""

from __future__ import annotations

from collections.abc import Callable

from unplateau.decoders.base import AbstractDecoder
from unplateau.decoders.conv import conv
from unplateau.decoders.linear import linear
from unplateau.decoders.smp import fpn, unet
from unplateau.errors import PieceError, nearest
from unplateau.types import Level

DECODERS: dict[str, Callable[[tuple[Level, ...], int], AbstractDecoder]] = {
    "linear": linear,
    "conv": conv,
    "unet": unet,
    "fpn": fpn,
}
"""Builders by name, weakest first; each takes the levels that it reads and the number of logits a pixel."""


def build_decoder(name: str, reads: tuple[Level, ...], outputs: int) -> AbstractDecoder:
    """The decoder `name` of `DECODERS` for an extractor that gives `reads`.

    Raises:
        PieceError: no such name, no levels, no outputs, or levels that this decoder cannot read.
    """
    if name not in DECODERS:
        raise PieceError(f"A decoder must be one of {', '.join(DECODERS)}; got {name!r}: {nearest(name, DECODERS)}")
    if not reads:
        raise PieceError("`reads` must name at least one level; got none. Build it with reads=extractor.gives.")
    if outputs < 1:
        raise PieceError(f"`outputs` must be at least 1; got {outputs}. Take task.outputs.")
    return DECODERS[name](reads, outputs)
