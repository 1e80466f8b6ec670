"""How checkpoints from elsewhere name the tensors of a network, put into timm's names. No network is touched here.

The names were read in the sources of each method: facebookresearch/dino, dinov2, mae and moco-v3, bytedance/ibot,
lightly-ai/lightly, torchvision, and ViT, DINOv2 and ResNet of huggingface/transformers, before and after its release 5.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

from unplateau.extractors.tensors import COUNTER

TEACHER_WORDS = re.compile(r"(?:^|[._])(?:teacher|momentum|ema|target|encoder_k)(?:[._]|$)")
"""In what stands before the names of a copy that is an average of others, the better one to take."""

STUDENT_WORDS = re.compile(r"(?:^|[._])(?:student|base_encoder|online|anchor|encoder_q)(?:[._]|$)")
"""In what stands before the names of a copy that gradients trained."""

WRAPPERS = re.compile(r"_(?:orig_mod|fsdp_wrapped_module|checkpoint_wrapped_module)\.")
"""What torch puts between names when it compiles, shards or checkpoints a module."""

JOINED = {"attn.qkv": ("attn.q", "attn.k", "attn.v"), "mlp.fc1": ("mlp.gate", "mlp.up")}
"""Tensors that timm keeps in one and others apart, in the order in which timm stacks them."""

NEARLY = 0.5
"""Share of the best copy's values from which other tensors of a file count as another copy of the network."""

Grid = tuple[int, int]
"""Rows and columns of patches."""

Renaming = tuple[str, str | Callable[[re.Match[str]], str]]


@dataclass(frozen=True)
class Layout:
    """A way to name tensors: a name that only it has, and what to rename, in this order, to reach timm's names."""

    name: str
    mark: str
    renamings: tuple[Renaming, ...]


@dataclass(frozen=True)
class Source:
    """A tensor, and the names that it has in the file: several when timm joins them."""

    tensor: Tensor
    origins: tuple[str, ...]


@dataclass(frozen=True)
class Copy:
    """One copy of the network in a file: `root` stands before its names, `tensors` has them in timm's names.

    `branch` is "teacher", "student", or "" when the file does not say.
    """

    layout: str
    root: str
    branch: str
    tensors: dict[str, Source]


# ---- the layouts ---------------------------------------------------------------------------------------------


def _stage(match: re.Match[str]) -> str:
    return f"layer{int(match[1]) + 1}."


def _numbered(kind: str) -> Callable[[re.Match[str]], str]:
    return lambda match: f".{kind}{int(match[1]) + 1}."


def _letter(match: re.Match[str]) -> str:
    return f".attn.{match[1][0]}."


START = r"(?:^|(?<=\.))"

LAYOUTS = (
    Layout("timm", "", ()),
    Layout(
        "dinov2",
        r"blocks\.\d+\.\d+\.norm1\.|register_tokens$|\.mlp\.w12\.",
        (
            (r"blocks\.\d+\.(\d+)\.", r"blocks.\1."),  # chunks of blocks, each numbered through
            (START + r"register_tokens$", "reg_token"),
            (r"\.mlp\.w12\.", ".mlp.fc1."),
            (r"\.mlp\.w3\.", ".mlp.fc2."),
        ),
    ),
    Layout("ibot", r"blocks\.\d+\.gamma_1$", ((r"\.gamma_([12])$", r".ls\1.gamma"),)),
    Layout(
        "transformers",
        r"embeddings\.patch_embeddings\.projection\.weight$",
        (
            (START + r"embeddings\.cls_token$", "cls_token"),
            (START + r"embeddings\.mask_token$", "mask_token"),
            (START + r"embeddings\.register_tokens$", "reg_token"),
            (START + r"embeddings\.position_embeddings$", "pos_embed"),
            (START + r"embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
            (START + r"(?:encoder\.)?layers?\.(\d+)\.", r"blocks.\1."),
            (r"\.attention\.(?:attention\.)?(query|key|value|[qkv]_proj)\.", _letter),
            (r"\.attention\.(?:output\.dense|o_proj)\.", ".attn.proj."),
            (r"\.intermediate\.dense\.", ".mlp.fc1."),
            (r"(blocks\.\d+)\.output\.dense\.", r"\1.mlp.fc2."),
            (r"\.mlp\.weights_in\.", ".mlp.fc1."),
            (r"\.mlp\.(?:weights_out|down_proj)\.", ".mlp.fc2."),
            (r"\.mlp\.(gate|up)_proj\.", r".mlp.\1."),
            (r"\.layernorm_before\.", ".norm1."),
            (r"\.layernorm_after\.", ".norm2."),
            (r"\.layer_scale([12])\.lambda1$", r".ls\1.gamma"),
            (START + r"layernorm\.", "norm."),
        ),
    ),
    Layout(
        "torchvision",
        r"encoder_layer_0\.self_attention\.in_proj_weight$",
        (
            (START + r"class_token$", "cls_token"),
            (START + r"encoder\.pos_embedding$", "pos_embed"),
            (START + r"conv_proj\.", "patch_embed.proj."),
            (START + r"encoder\.layers\.encoder_layer_(\d+)\.", r"blocks.\1."),
            (r"\.ln_([12])\.", r".norm\1."),
            (r"\.self_attention\.in_proj_", ".attn.qkv."),
            (r"\.self_attention\.out_proj\.", ".attn.proj."),
            (r"\.mlp\.(?:0|linear_1)\.", ".mlp.fc1."),
            (r"\.mlp\.(?:3|linear_2)\.", ".mlp.fc2."),
            (START + r"encoder\.ln\.", "norm."),
        ),
    ),
    Layout(
        "transformers",
        r"embedder\.embedder\.convolution\.weight$",
        (
            (START + r"embedder\.embedder\.convolution\.", "conv1."),
            (START + r"embedder\.embedder\.normalization\.", "bn1."),
            (START + r"encoder\.stages\.(\d+)\.layers\.", _stage),
            (r"\.shortcut\.convolution\.", ".downsample.0."),
            (r"\.shortcut\.normalization\.", ".downsample.1."),
            (r"\.layer\.(\d+)\.convolution\.", _numbered("conv")),
            (r"\.layer\.(\d+)\.normalization\.", _numbered("bn")),
        ),
    ),
    Layout(
        "sequential",  # a ResNet through nn.Sequential(*children), as lightly's examples take it
        r"(?:^|\.)4\.0\.conv1\.weight$",
        (
            (START + r"([4-7])\.(?=\d+\.(?:conv|bn|downsample))", lambda match: f"layer{int(match[1]) - 3}."),
            (START + r"(?<!downsample\.)0\.((?:\d+\.)?(?:weight|bias|running_mean|running_var))$", r"conv1.\1"),
            (START + r"(?<!downsample\.)(?<!conv1\.)1\.(weight|bias|running_mean|running_var)$", r"bn1.\1"),
        ),
    ),
)
"""Known layouts. The first is timm's own, which DINO, MAE, MoCo v3 and most of lightly share."""


# ---- reading -------------------------------------------------------------------------------------------------


def plain(name: str) -> str:
    """A name that survives timm's feature wrappers, which turn stages.0 into stages_0."""
    return name.replace("_", ".")


def copies(tensors: Mapping[str, Tensor], wanted: Collection[str]) -> tuple[Copy, ...]:
    """The copies of a network in a file, fullest first; `wanted` are the network's names, as `plain` gives them.

    The layout is the one under which most values of the file bear names of the network.
    """
    layout, named, votes = max(_readings(tensors, wanted), key=lambda each: max(each[2].values(), default=0))
    most = max(votes.values(), default=0)
    roots = sorted((root for root in votes if votes[root] >= NEARLY * most), key=lambda root: (-votes[root], len(root)))
    averaged = any(TEACHER_WORDS.search(root) for root in roots)
    return tuple(Copy(layout.name, root, _branch(root, averaged), _under(root, named)) for root in roots)


def _readings(
    tensors: Mapping[str, Tensor], wanted: Collection[str]
) -> Iterator[tuple[Layout, dict[str, Source], Counter[str]]]:
    for layout in reversed(LAYOUTS):  # where two name as much, the one that a name gives away
        if any(re.search(layout.mark, name) for name in tensors):
            named = _joined(_renamed(tensors, layout))
            yield layout, named, _votes(named, wanted)


def _renamed(tensors: Mapping[str, Tensor], layout: Layout) -> dict[str, Source]:
    renamed = {}
    for origin, tensor in tensors.items():
        name = WRAPPERS.sub("", origin)
        for pattern, replacement in layout.renamings:
            name = re.sub(pattern, replacement, name)
        if not name.endswith(COUNTER):
            renamed[name] = Source(tensor, (origin,))
    return renamed


def _joined(named: dict[str, Source]) -> dict[str, Source]:
    """What timm keeps in one tensor: query, key and value; gate and input of a gated MLP."""
    joined = dict(named)
    for (whole, parts), end in product(JOINED.items(), ("weight", "bias")):
        first = f"{parts[0]}.{end}"
        for before in [name.removesuffix(first) for name in named if name.endswith(f".{first}")]:
            names = [f"{before}{part}.{end}" for part in parts]
            if all(name in named for name in names):
                sources = [joined.pop(name) for name in names]
                origins = tuple(origin for source in sources for origin in source.origins)
                stacked = torch.cat([source.tensor for source in sources])
                joined[f"{before}{whole}.{end}"] = Source(stacked, origins)
    return joined


def _votes(named: Mapping[str, Source], wanted: Collection[str]) -> Counter[str]:
    """How many values stand behind each root under a name of the network."""
    votes: Counter[str] = Counter()
    for name, source in named.items():
        parts = name.split(".")
        for cut in range(len(parts)):
            if plain(".".join(parts[cut:])) in wanted:
                votes[".".join([*parts[:cut], ""]) if cut else ""] += source.tensor.numel()
    return votes


def _under(root: str, named: Mapping[str, Source]) -> dict[str, Source]:
    return {name.removeprefix(root): source for name, source in named.items() if name.startswith(root)}


def _branch(root: str, averaged: bool) -> str:
    """Beside an averaged copy, one that says nothing of itself is the student: `backbone` and `backbone_momentum`."""
    if TEACHER_WORDS.search(root):
        return "teacher"
    return "student" if averaged or STUDENT_WORDS.search(root) else ""


# ---- position embeddings -------------------------------------------------------------------------------------


def with_positions(tensors: dict[str, Source], tokens: int, grid: Grid) -> tuple[dict[str, Source], Grid | None]:
    """The tensors with "pos_embed" for `tokens`, of which the last make `grid`, and the old grid where it was another.

    A network may add no position to its class token (timm's DINOv2 with registers); what the file would add to it
    then becomes part of the token itself, which is the same. Positions of no square grid are left as they are.
    """
    source, before = tensors["pos_embed"], tokens - grid[0] * grid[1]
    given = source.tensor.shape[1] if source.tensor.ndim == 3 else 0
    found = (before, grid) if given == tokens else _square(given, before)
    if found is None:
        return tensors, None
    ahead, old = found
    special, cells = source.tensor[:, :ahead].float(), source.tensor[:, ahead:].float()
    changed = dict(tensors)
    if ahead == 1 and before == 0 and "cls_token" in tensors:
        token = tensors["cls_token"]
        changed["cls_token"] = Source(token.tensor.float() + special, token.origins)
        special = special[:, :0]
    special = F.pad(special, (0, 0, 0, before - special.shape[1])) if special.shape[1] < before else special
    changed["pos_embed"] = Source(torch.cat([special, _resized(cells, old, grid)], dim=1), source.origins)
    return changed, None if old == grid else old


def _square(tokens: int, before: int) -> tuple[int, Grid] | None:
    """How many tokens stand before a square grid, and that grid: a class token, none, or as many as in the network."""
    for ahead in (before, 1, 0):
        side = int(max(tokens - ahead, 0) ** 0.5 + 0.5)
        if side and side * side == tokens - ahead:
            return ahead, (side, side)
    return None


def _resized(cells: Tensor, old: Grid, new: Grid) -> Tensor:
    """Position embeddings (1, h w, C) on another grid, as timm converts published ones: bicubic, antialiased."""
    if old == new:
        return cells
    grid = cells.reshape(1, *old, -1).permute(0, 3, 1, 2)
    grid = F.interpolate(grid, size=new, mode="bicubic", antialias=True, align_corners=False)
    return grid.permute(0, 2, 3, 1).reshape(1, new[0] * new[1], -1)
