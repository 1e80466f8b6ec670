"""Words as queries: how well each cell means what a class is called.

"queries(person, background)" names the classes or gives prompts; what they mean the extractor says.

Axes: B images, Q words, C channels, h w cells.
"""

from __future__ import annotations

import math
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unplateau.decoders.base import AbstractDecoder
from unplateau.decoders.grids import upsample
from unplateau.errors import PieceError
from unplateau.types import Characteristics, Level, Prediction, Size

OPENS, CLOSES, BETWEEN = "queries(", ")", ","

SHARPNESS = 1 / 0.07
"""Start of the factor of the cosines, as in CLIP (arXiv 2103.00020, section 2.5)."""


@final
class QueriesDecoder(AbstractDecoder):
    """The cosine between each cell of the last level and each word, times a learnt sharpness, plus a learnt bias.

    Cells are turned by a learnt matrix that begins as none (after CLIP-Adapter, arXiv 2110.04544); words stay what they
    mean. With one output the first word is the class, the others are what it is told from, and the logit is that of
    their softmax; a class of only one word has the cosine itself.
    """

    def __init__(self, reads: tuple[Level, ...], outputs: int, words: tuple[str, ...]) -> None:
        super().__init__()
        self.reads, self.outputs, self.words = reads, outputs, words
        channels = reads[-1].channels
        self.turn = nn.Linear(channels, channels, bias=False)
        nn.init.eye_(self.turn.weight)
        self.sharpness = nn.Parameter(torch.tensor(math.log(SHARPNESS)))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.register_buffer("meant", torch.zeros(len(words), channels))

    def hear(self, meant: Tensor) -> None:
        """Take what `words` mean: (Q, C).

        Raises:
            PieceError: in another space than the one of the cells.
        """
        own = self.meant
        if not isinstance(own, Tensor) or own.shape != meant.shape:
            raise PieceError(
                f"The words of 'queries' must lie in the space of the last level, of {self.reads[-1].channels} "
                f"channels; they have {meant.shape[-1]}. Take an extractor whose last level is language-aligned."
            )
        own.copy_(meant.to(own))

    def forward(self, characteristics: Characteristics, size: Size) -> Prediction:
        """Characteristics to logits (B, outputs, H, W) at `size` = (H, W) in pixels."""
        cells = F.normalize(self.turn(characteristics.levels[-1].movedim(1, -1)), dim=-1)
        alike_BQhw = (self.sharpness.exp() * cells @ self.get_buffer("meant").T).movedim(-1, 1)
        if self.outputs == 1 and len(self.words) > 1:
            alike_BQhw = alike_BQhw[:, :1] - torch.logsumexp(alike_BQhw[:, 1:], dim=1, keepdim=True)
        return Prediction(upsample(alike_BQhw + self.bias[:, None, None], size))


def is_queries(name: str) -> bool:
    """Whether a name spells words as queries."""
    return name.startswith(OPENS) and name.endswith(CLOSES)


def queries(name: str, reads: tuple[Level, ...], outputs: int) -> AbstractDecoder:
    """The decoder that a name such as "queries(person, background)" spells.

    Raises:
        PieceError: an empty word, the same one twice, or not one for each output.
    """
    words = tuple(each.strip() for each in name[len(OPENS) : -len(CLOSES)].split(BETWEEN))
    if not all(words) or len(set(words)) < len(words):
        raise PieceError(
            f"'queries' must name classes that differ, such as 'queries(person, background)'; got {name!r}. Name them."
        )
    if outputs not in (1, len(words)):
        raise PieceError(
            f"'queries' must name each of the {outputs} classes of the task in their order; got {len(words)}: "
            f"{', '.join(words)}. Name them all."
        )
    return QueriesDecoder(reads, outputs, words)
