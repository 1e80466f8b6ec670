"""Image and text towers of open_clip, from a local folder; the only file that imports it."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Tensor

from unplateau.errors import MissingExtra, PieceError
from unplateau.extractors.towers import CLIP_MEAN, CLIP_STD, AbstractTower, Facts, resized

CONFIG = "open_clip_config.json"
WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
"""File names that open_clip writes and reads."""


@final
class OpenClipTower(AbstractTower):
    """The vision transformer of open_clip's CLIP."""

    def __init__(self, visual: Any, rules: dict[str, Any]) -> None:
        super().__init__()
        self.visual = visual
        self.facts = Facts(
            patch=int(visual.patch_size[0]),
            width=int(visual.conv1.out_channels),
            embedding=int(visual.output_dim),
            blocks=len(visual.transformer.resblocks),
            mean=tuple(rules.get("mean") or CLIP_MEAN),
            std=tuple(rules.get("std") or CLIP_STD),
        )

    def tokens(self, images: Tensor) -> Tensor:
        """See `AbstractTower`."""
        cells = self.visual.conv1(images)
        rows, columns = cells.shape[-2:]
        first = self.visual.class_embedding.to(cells.dtype).expand(len(cells), 1, -1)
        places = resized(self.visual.positional_embedding, rows, columns).to(cells.dtype)
        tokens: Tensor = self.visual.ln_pre(torch.cat([first, cells.flatten(2).transpose(1, 2)], dim=1) + places)
        return tokens

    def block(self, index: int, tokens: Tensor, *, values: bool) -> Tensor:
        """See `AbstractTower`."""
        block = self.visual.transformer.resblocks[index]
        if not values:
            attended: Tensor = block(tokens)
            return attended
        attention, width = block.attn, tokens.shape[-1]
        own = F.linear(block.ln_1(tokens), attention.in_proj_weight[2 * width :], attention.in_proj_bias[2 * width :])
        tokens = tokens + block.ls_1(attention.out_proj(own))
        seen: Tensor = tokens + block.ls_2(block.mlp(block.ln_2(tokens)))
        return seen

    def shared(self, tokens: Tensor) -> Tensor:
        """See `AbstractTower`."""
        found: Tensor = self.visual.ln_post(tokens) @ self.visual.proj
        return found


def open_clip_tower(folder: Path, *, trained: bool) -> OpenClipTower:
    """The image tower of the model in `folder`, with its weights or, where not `trained`, random ones.

    Raises:
        MissingExtra: open_clip is not installed.
        PieceError: the folder lacks a file, or holds a model of another kind.
    """
    from_folder = _model(folder, trained=trained)
    visual: Any = from_folder.visual
    if type(visual).__name__ != "VisionTransformer" or visual.attn_pool is not None:
        raise PieceError(
            f"{str(folder)!r} must hold a vision transformer with a class token; its image tower is a "
            f"{type(visual).__name__}. Take it as a timm network."
        )
    return OpenClipTower(visual, _rules(folder))


def open_clip_words(folder: Path, words: tuple[str, ...]) -> Tensor:
    """What the model in `folder` makes of words: (Q, E), each of length 1.

    Raises:
        PieceError: as in `open_clip_tower`.
    """
    model = _model(folder, trained=True).eval()
    open_clip = _package(folder)
    with torch.no_grad():
        meant: Tensor = model.encode_text(open_clip.get_tokenizer(f"local-dir:{folder}")(list(words)), normalize=True)
    return meant


def _model(folder: Path, *, trained: bool) -> Any:
    open_clip = _package(folder)
    if trained and not any((folder / name).is_file() for name in WEIGHTS):
        raise PieceError(
            f"{str(folder)!r} must hold the weights of its model; place {WEIGHTS[0]} or {WEIGHTS[1]} there, beside "
            f"{CONFIG}."
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the library, on activation functions and files that were not asked for
            return open_clip.create_model(f"local-dir:{folder}", load_weights=trained)
    except Exception as error:  # a folder that is damaged makes the library fail in any way whatever
        said = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")[:160]
        raise PieceError(f"{str(folder)!r} must hold a model of open_clip; it says: {said}. Save it again.") from error


def _rules(folder: Path) -> dict[str, Any]:
    rules: dict[str, Any] = json.loads((folder / CONFIG).read_text(encoding="utf-8")).get("preprocess_cfg") or {}
    return rules


def _package(folder: Path) -> Any:
    try:
        import open_clip
    except ImportError as error:
        raise MissingExtra("open_clip_torch", needed_for=f"'clip/{folder}'") from error
    return open_clip
