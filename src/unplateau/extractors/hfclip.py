"""Image and text towers of CLIP as transformers has it, from a local folder; here alone it builds networks."""

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

CONFIG, WEIGHTS, RULES = "config.json", "model.safetensors", "preprocessor_config.json"
TOKENIZERS = ("tokenizer.json", "vocab.json")
"""File names that transformers writes and reads."""


@final
class TransformersTower(AbstractTower):
    """The vision transformer of transformers' CLIPModel."""

    def __init__(self, model: Any, rules: dict[str, Any]) -> None:
        super().__init__()
        self.vision, self.projection = model.vision_model, model.visual_projection
        config = model.config.vision_config
        self.facts = Facts(
            patch=int(config.patch_size),
            width=int(config.hidden_size),
            embedding=int(model.projection_dim),
            blocks=len(self.vision.encoder.layers),
            mean=tuple(rules.get("image_mean") or CLIP_MEAN),
            std=tuple(rules.get("image_std") or CLIP_STD),
        )

    def tokens(self, images: Tensor) -> Tensor:
        """See `AbstractTower`."""
        embeddings = self.vision.embeddings
        cells = embeddings.patch_embedding(images)
        rows, columns = cells.shape[-2:]
        first = embeddings.class_embedding.to(cells.dtype).expand(len(cells), 1, -1)
        places = resized(embeddings.position_embedding.weight, rows, columns).to(cells.dtype)
        # The name is the library's own.
        tokens: Tensor = self.vision.pre_layrnorm(torch.cat([first, cells.flatten(2).transpose(1, 2)], 1) + places)
        return tokens

    def block(self, index: int, tokens: Tensor, *, values: bool) -> Tensor:
        """See `AbstractTower`."""
        layer = self.vision.encoder.layers[index]
        attention, normal = layer.self_attn, layer.layer_norm1(tokens)
        # Written out, for the arguments of its own `forward` change from release to release.
        seen = attention.v_proj(normal) if values else _attended(attention, normal)
        tokens = tokens + attention.out_proj(seen)
        answer: Tensor = tokens + layer.mlp(layer.layer_norm2(tokens))
        return answer

    def shared(self, tokens: Tensor) -> Tensor:
        """See `AbstractTower`."""
        found: Tensor = self.projection(self.vision.post_layernorm(tokens))
        return found


def _attended(attention: Any, tokens: Tensor) -> Tensor:
    count = attention.num_heads
    query, key, value = (
        part(tokens).unflatten(-1, (count, -1)).transpose(1, 2)
        for part in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    return F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)


def transformers_tower(folder: Path, *, trained: bool) -> TransformersTower:
    """The image tower of the model in `folder`, with its weights or, where not `trained`, random ones.

    Raises:
        MissingExtra: transformers is not installed.
        PieceError: the folder lacks a file, or holds a model of another kind.
    """
    path = folder / RULES
    rules: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return TransformersTower(_model(folder, trained=trained), rules)


def transformers_words(folder: Path, words: tuple[str, ...]) -> Tensor:
    """What the model in `folder` makes of words: (Q, E), each of length 1.

    Raises:
        PieceError: as in `transformers_tower`, or it lacks its tokenizer.
    """
    model, transformers = _model(folder, trained=True).eval(), _package(folder)
    if not any((folder / name).is_file() for name in TOKENIZERS):
        raise _no_tokenizer(folder, words)  # the library would make up an empty one
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
        read = tokenizer(list(words), padding=True, truncation=True, return_tensors="pt")
    except Exception as error:  # a folder without its tokenizer makes the library fail in any way whatever
        raise _no_tokenizer(folder, words) from error
    with torch.no_grad():
        pooled = model.text_model(input_ids=read["input_ids"], attention_mask=read["attention_mask"]).pooler_output
        return F.normalize(model.text_projection(pooled), dim=-1)


def _no_tokenizer(folder: Path, words: tuple[str, ...]) -> PieceError:
    return PieceError(
        f"{str(folder)!r} must hold the tokenizer of its model, to read {', '.join(words)!r}: place tokenizer.json and "
        "tokenizer_config.json, or vocab.json and merges.txt, there."
    )


def _model(folder: Path, *, trained: bool) -> Any:
    transformers = _package(folder)
    if trained and not (folder / WEIGHTS).is_file():
        raise PieceError(f"{str(folder)!r} must hold the weights of its model: place {WEIGHTS} there, beside {CONFIG}.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            config = transformers.CLIPConfig.from_pretrained(folder, local_files_only=True)
            if not trained:
                return transformers.CLIPModel(config)
            model = transformers.CLIPModel.from_pretrained(
                folder, config=config, local_files_only=True, use_safetensors=True
            )
            return model.float()
    except Exception as error:  # a folder that is damaged makes the library fail in any way whatever
        said = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")[:160]
        raise PieceError(
            f"{str(folder)!r} must hold a CLIP model; transformers says: {said}. Save it again."
        ) from error


def _package(folder: Path) -> Any:
    try:
        import transformers
    except ImportError as error:
        raise MissingExtra("transformers", needed_for=f"'clip/{folder}'") from error
    return transformers
