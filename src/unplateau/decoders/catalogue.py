"""The decoders by name."""

from __future__ import annotations

from collections.abc import Callable

from unplateau.decoders.base import AbstractDecoder
from unplateau.decoders.boxes import boxes
from unplateau.decoders.conv import conv
from unplateau.decoders.label import label
from unplateau.decoders.linear import linear
from unplateau.decoders.queries import is_queries, queries
from unplateau.decoders.smp import fpn, unet
from unplateau.errors import PieceError, nearest
from unplateau.types import Level

Builder = Callable[[tuple[Level, ...], int], AbstractDecoder]
"""Takes the levels that the decoder reads and the number of logits a pixel, an image or a candidate box."""

DECODERS: dict[str, Builder] = {
    "linear": linear,
    "conv": conv,
    "unet": unet,
    "fpn": fpn,
}
"""Builders of mask decoders by name, weakest first."""

LABELS: dict[str, Builder] = {"label": label}
"""Builders of decoders of image labels."""

BOXES: dict[str, Builder] = {"boxes": boxes}
"""Builders of decoders of boxes."""

BY_KIND = {"mask": DECODERS, "multi-label": DECODERS, "label": LABELS, "boxes": BOXES}
"""What answers each kind of task; the first of each is taken where none is named."""


def build_decoder(name: str, reads: tuple[Level, ...], outputs: int, kind: str = "mask") -> AbstractDecoder:
    """The decoder `name` of `BY_KIND[kind]` for an extractor that gives `reads`, or "queries(NAME, NAME)" for masks.

    Raises:
        PieceError: no such name, no levels, no outputs, or levels that this decoder cannot read.
    """
    known = BY_KIND[kind]
    spelled = known is DECODERS and is_queries(name)
    if name not in known and not spelled:
        what = "A decoder" if known is DECODERS else f"A decoder for the task {kind!r}"
        raise PieceError(f"{what} must be one of {', '.join(known)}; got {name!r}: {nearest(name, known)}")
    if not reads:
        raise PieceError("`reads` must name at least one level; got none. Build it with reads=extractor.gives.")
    if outputs < 1:
        raise PieceError(f"`outputs` must be at least 1; got {outputs}. Take task.outputs.")
    return queries(name, reads, outputs) if spelled else known[name](reads, outputs)


def first_decoder(kind: str) -> str:
    """The name of the decoder that answers a kind of task where none is named."""
    return next(iter(BY_KIND[kind]))
