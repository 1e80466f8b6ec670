"""Language-aligned extractors: cells in the same space as words, from a local folder.

"clip/FOLDER" is the model in FOLDER, as open_clip or transformers saves it. ":2,5" after it gives these blocks' cells
too. "~attention" leaves the last block as it is. "clip-like/FOLDER" is the same network with random weights.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

from unplateau.errors import PieceError
from unplateau.extractors import hfclip, openclip
from unplateau.extractors.base import AbstractExtractor
from unplateau.extractors.normalise import Normalise
from unplateau.extractors.towers import AbstractTower
from unplateau.types import Characteristics, Level

CLIP, CLIP_LIKE, ATTENTION = "clip/", "clip-like/", "~attention"


@dataclass(frozen=True)
class ClipSaid:
    """What a name says: the folder, whether with its weights, blocks to give too, the last block changed or not."""

    folder: Path
    trained: bool
    blocks: tuple[int, ...]
    values: bool

    @staticmethod
    def of(name: str) -> ClipSaid:
        """Take a name apart."""
        rest = name.removeprefix(CLIP_LIKE).removeprefix(CLIP)
        values = not rest.endswith(ATTENTION)
        rest = rest.removesuffix(ATTENTION)
        listed = re.search(r":(\d+(?:,\d+)*)$", rest)
        blocks = tuple(int(each) for each in listed[1].split(",")) if listed else ()
        folder = Path(rest[: listed.start()] if listed else rest)
        return ClipSaid(folder, name.startswith(CLIP), blocks, values)

    @property
    def architecture(self) -> str:
        """The name of the same network with random weights."""
        blocks = ":" + ",".join(map(str, self.blocks)) if self.blocks else ""
        return f"{CLIP_LIKE}{self.folder}{blocks}{'' if self.values else ATTENTION}"


@final
class ClipExtractor(AbstractExtractor):
    """The cells of a language-aligned vision transformer; the last level lies in the space of its words.

    Training on whole images aligned the class token alone, and the last attention mixes each cell with the rest of the
    image, so that its cells say little of their own place. With `values` every cell of the last block attends to itself
    alone: what remains of that block is its value path, which the class token reads (MaskCLIP, arXiv 2112.01071).
    """

    reach = float("inf")

    def __init__(self, tower: AbstractTower, said: ClipSaid) -> None:
        super().__init__()
        facts = tower.facts
        if any(not 0 <= block < facts.blocks - 1 for block in said.blocks):
            raise PieceError(
                f"After ':' must stand blocks from 0 to {facts.blocks - 2} of {str(said.folder)!r}; got "
                f"{', '.join(map(str, said.blocks))}. The last one is always given."
            )
        self.said, self.tower = said, tower
        self.normalise = Normalise(mean=facts.mean, std=facts.std)
        self.blocks = tuple(sorted(said.blocks))
        levels = (*(Level(facts.width, facts.patch) for _ in self.blocks), Level(facts.embedding, facts.patch))
        self.gives = levels
        self.architecture, self.pretrained = said.architecture, said.trained

    def forward(self, images: Tensor) -> Characteristics:
        """Images (B, 3, H, W), RGB 0..1, to one map of cells for each block asked for, and one in the words' space."""
        facts, levels = self.tower.facts, []
        rows, columns = (side // facts.patch for side in images.shape[-2:])
        tokens = self.tower.tokens(self.normalise(images))
        for index in range(facts.blocks):
            last = index == facts.blocks - 1
            tokens = self.tower.block(index, tokens, values=last and self.said.values)
            if index in self.blocks:
                levels.append(_map(tokens[:, 1:], rows, columns))
        levels.append(_map(self.tower.shared(tokens[:, 1:]), rows, columns))
        return Characteristics(tuple(levels), tuple(level.stride for level in self.gives))

    def embed(self, words: tuple[str, ...]) -> Tensor:
        """What words mean in the space of the last level: (Q, C), each of length 1.

        Random directions where the network has random weights, to which no word means anything.

        Raises:
            PieceError: the folder lacks what reads words.
        """
        if not self.said.trained:
            generator = torch.Generator().manual_seed(0)
            return F.normalize(torch.randn(len(words), self.gives[-1].channels, generator=generator), dim=-1)
        layout = _layout(self.said.folder)
        read = openclip.open_clip_words if layout == openclip.CONFIG else hfclip.transformers_words
        return read(self.said.folder, words)


def _map(tokens: Tensor, rows: int, columns: int) -> Tensor:
    return tokens.transpose(1, 2).unflatten(2, (rows, columns)).contiguous()


def is_clip(name: str) -> bool:
    """Whether a name spells a language-aligned extractor."""
    return name.startswith((CLIP, CLIP_LIKE))


def clip(name: str) -> AbstractExtractor:
    """The extractor that "clip/FOLDER" spells; see the top of this file.

    Raises:
        PieceError: the folder is in neither layout, lacks a file, or has no such block.
        MissingExtra: the library of its layout is not installed.
    """
    said = ClipSaid.of(name)
    layout = _layout(said.folder)
    build = openclip.open_clip_tower if layout == openclip.CONFIG else hfclip.transformers_tower
    return ClipExtractor(build(said.folder, trained=said.trained), said)


def clip_files(name: str) -> tuple[Path, ...]:
    """The files whose content decides what an extractor of that name is, as far as they are there."""
    folder = ClipSaid.of(name).folder
    names = (openclip.CONFIG, *openclip.WEIGHTS, hfclip.CONFIG, hfclip.WEIGHTS)
    return tuple(folder / each for each in names if (folder / each).is_file())


def _layout(folder: Path) -> str:
    """The file that says which library saved a folder."""
    if (folder / openclip.CONFIG).is_file():
        return openclip.CONFIG
    try:
        kind = json.loads((folder / hfclip.CONFIG).read_text(encoding="utf-8")).get("model_type")
    except (OSError, ValueError, AttributeError):
        kind = None
    if kind != "clip":
        raise PieceError(
            f"After {CLIP!r} must stand a folder with {openclip.CONFIG}, as open_clip saves it, or {hfclip.CONFIG} of "
            f"a CLIP model, as transformers does; {str(folder)!r} holds neither. Place the model's files there."
        )
    return hfclip.CONFIG
