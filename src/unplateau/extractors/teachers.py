"""Teachers from elsewhere: self-supervised checkpoints, whatever they call their tensors, in our timm extractors.

A name says all that is needed to build the same network again: "timm/NAME", then ":0,1,2" for chosen levels, then
"~imagenet" and "~heads12" where the weights expect another normalisation or another number of attention heads than
timm's network of that name. "@FILE" at the end takes the weights from a file.
"""

from __future__ import annotations

import re
import warnings
from argparse import Namespace
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from unplateau.errors import Doubt, PieceError
from unplateau.extractors.base import AbstractExtractor
from unplateau.extractors.layouts import Copy, Grid, Source, copies, plain, with_positions
from unplateau.extractors.normalise import NORMALISATIONS, imagenet
from unplateau.extractors.tensors import COUNTER, ENOUGH, TensorFile, read_tensors
from unplateau.extractors.timm import TIMM, TimmExtractor, from_timm

BRANCHES = ("teacher", "student")

PREPROCESSINGS = (*NORMALISATIONS, "timm")
"""Normalisation of the images: one by name, or what timm has under the name of the architecture."""

CLASSIFIER = re.compile(r"(?:^|\.)(?:head|heads\.head|fc|classifier|classifier\.1|pooler\.dense)\.weight$")
"""Names that a supervised network has and a self-supervised backbone alone does not."""

UNSUPERVISED = re.compile(r"mask(?:ed)?_(?:token|embed)|decoder|projection_head|last_layer|predictor|prototypes")
"""Names that self-supervision leaves behind."""

DECISIVE = re.compile(r"(?:cls_token|reg_token|pos_embed|gamma|running_mean|running_var)$|(?:^|\.)patch_embed\.")
"""Tensors of few values that change every feature: a network that lacks one of them is not the teacher."""

MOCO_V3 = re.compile(r"(?:base|momentum)_encoder\.$")
MOCO_V3_HEADS = {384: 12}
"""Attention heads of MoCo v3's transformers by width, where they differ from everyone else's (its issue 7)."""


@dataclass(frozen=True)
class Loaded:
    """How a checkpoint fitted: `matched` and `missing` are names of the network, `unexpected` those of the file.

    `share` (0..1) counts values, not names. `unexpected` are the tensors of the chosen copy without a place; what lies
    elsewhere in the file (another copy, an optimiser, heads) is not listed. `branch` is "" where the file does not
    say. `resized` is the grid of position embeddings in the file when it is not the network's.
    """

    layout: str
    branch: str
    matched: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    share: float
    resized: Grid | None
    preprocessing: str

    def __str__(self) -> str:
        """What a user wants to know of it, in one line."""
        branch = f", {self.branch} branch" if self.branch else ""
        grid = f", position embeddings resized from {self.resized[0]} x {self.resized[1]}" if self.resized else ""
        total = len(self.matched) + len(self.missing)
        return (
            f"layout {self.layout}{branch}: {len(self.matched)} of {total} tensors matched ({self.share:.1%} of the "
            f"values), {_count(self.missing)} missing, {_count(self.unexpected)} unexpected{grid}; images normalised "
            f"as {self.preprocessing} does"
        )


@dataclass(frozen=True)
class Spelling:
    """The parts of a name; `heads` 0 and `preprocessing` "" leave it to timm, or to the file where there is one."""

    network: str
    levels: tuple[int, ...] | None = None
    preprocessing: str = ""
    heads: int = 0
    file: Path | None = None

    @staticmethod
    def of(name: str) -> Spelling:
        """Take a name apart.

        Raises:
            PieceError: it says something that no network can be asked.
        """
        described, _, file = name.removeprefix(TIMM).partition("@")
        bare, *options = described.split("~")
        network, _, levels = bare.partition(":")
        spelling = Spelling(network, _levels(levels, name), file=Path(file) if file else None)
        for option in options:
            heads = re.fullmatch(r"heads([1-9]\d*)", option)
            if heads is None and option not in PREPROCESSINGS:
                known = ", ".join(map(repr, PREPROCESSINGS))
                raise PieceError(f"After '~' must stand {known} or 'heads12'; got {option!r} in {name!r}.")
            spelling = replace(spelling, heads=int(heads[1])) if heads else replace(spelling, preprocessing=option)
        return spelling

    @property
    def architecture(self) -> str:
        """The name without its file: what builds the same network with random weights."""
        levels = ":" + ",".join(map(str, self.levels)) if self.levels else ""
        heads = f"~heads{self.heads}" if self.heads else ""
        preprocessing = f"~{self.preprocessing}" if self.preprocessing in NORMALISATIONS else ""
        return f"{TIMM}{self.network}{levels}{preprocessing}{heads}"


# ---- doors ---------------------------------------------------------------------------------------------------


def load_teacher(
    path: Path,
    architecture: str,
    *,
    branch: str = "teacher",
    levels: tuple[int, ...] | None = None,
    preprocessing: str = "",
    heads: int = 0,
) -> tuple[AbstractExtractor, Loaded]:
    """The extractor of a teacher's weights, and how they fitted.

    `path` is a file of tensors with one of `SUFFIXES`, in a layout of DINO, DINOv2, iBOT, MAE, MoCo v3, lightly, timm,
    torchvision or transformers. `architecture` is the network in timm's words. Where the file holds a
    student and its moving average, `branch` says which; a single copy is taken whatever it is called, unless the
    student was asked for and only the teacher is there. `levels`, `preprocessing` and `heads` may stand in the
    architecture instead. Without `preprocessing`, a name with a tag of timm ("vit_small_patch16_224.dino") gets that
    tag's normalisation, a file with a classifier that of timm's network, and any other ImageNet's, as these methods
    use it.

    Position embeddings are resized (bicubic, class token kept apart) to the network's grid. Numerical details that no
    checkpoint records stay timm's own: the transformers library adds 1e-12 in a norm where timm adds 1e-6.

    Raises:
        PieceError: the file cannot be read, holds less than `ENOUGH` of the network's values, lacks one of the small
            ones that change every feature, or was saved from another network.
    """
    if branch not in BRANCHES:
        raise PieceError(f"`branch` must be 'teacher' or 'student'; got {branch!r}.")
    asked = Spelling.of(architecture)
    asked = replace(
        asked,
        levels=levels or asked.levels,
        heads=heads or asked.heads,
        preprocessing=preprocessing or asked.preprocessing,
    )
    if asked.preprocessing not in ("", *PREPROCESSINGS):
        raise PieceError(f"`preprocessing` must be one of {sorted(PREPROCESSINGS)}; got {preprocessing!r}.")
    file = _read(path)
    extractor = cast(TimmExtractor, from_timm(asked.network, levels=asked.levels))
    chosen = _choose(file, extractor, branch)
    spelling = _settle(asked, chosen, file, extractor)
    loaded = _fill(extractor, chosen, file, deeper=asked.levels is None)
    dressed = _dressed(extractor, spelling, pretrained=True)
    rule = "imagenet" if _sees_imagenet(dressed) else spelling.preprocessing or "timm"
    return dressed, replace(loaded, preprocessing=rule)


def loaded_by(name: str) -> Loaded | None:
    """How the file in a name such as "timm/NAME@FILE" fits, or None where the name has none.

    Raises:
        PieceError: as in `load_teacher`.
    """
    spelling = Spelling.of(name) if name.startswith(TIMM) else None
    if spelling is None or spelling.file is None:
        return None
    return load_teacher(spelling.file, spelling.architecture, preprocessing=spelling.preprocessing)[1]


def from_spelling(name: str, *, pretrained: bool = False, weights: Path | None = None) -> AbstractExtractor:
    """The extractor that a name beginning with "timm/" spells; see the top of this file.

    Raises:
        PieceError: the name or its file does not fit.
    """
    spelling = Spelling.of(name)
    if spelling.file is not None:
        return load_teacher(spelling.file, spelling.architecture, preprocessing=spelling.preprocessing)[0]
    extractor = from_timm(spelling.network, pretrained=pretrained, levels=spelling.levels, weights=weights)
    return _dressed(cast(TimmExtractor, extractor), spelling, pretrained=extractor.pretrained)


def _levels(text: str, name: str) -> tuple[int, ...] | None:
    if text and not re.fullmatch(r"-?\d+(?:,-?\d+)*", text):
        raise PieceError(f"After ':' must stand levels such as '2,5,8,11'; got {text!r} in {name!r}.")
    return tuple(int(level) for level in text.split(",")) if text else None


def _read(path: Path) -> TensorFile:
    # Most methods save their command line beside the tensors. A Namespace holds values and runs nothing.
    with torch.serialization.safe_globals([Namespace]):
        return read_tensors(path)


# ---- choosing ------------------------------------------------------------------------------------------------


def _wanted(extractor: TimmExtractor) -> dict[str, str]:
    """The names of the network that a file must hold, by their plain form."""
    names = [name for name in extractor.net.state_dict() if not name.endswith(COUNTER)]
    return {plain(name.removeprefix("model.")): name for name in names}


def _choose(file: TensorFile, extractor: TimmExtractor, branch: str) -> Copy:
    found = copies(file.tensors, _wanted(extractor).keys())
    if not found:
        raise PieceError(
            f"{str(file.path)!r} must hold the tensors of {extractor.architecture}; none of its {len(file.tensors)}, "
            f"such as {next(iter(file.tensors))!r}, is known under any layout. Name the architecture it was saved from."
        )
    named = {copy.branch for copy in found}
    if branch == "student" and named == {"teacher"}:
        raise PieceError(f"{str(file.path)!r} must hold a student; it holds the teacher alone. Take branch='teacher'.")
    return next((copy for copy in found if copy.branch == branch), found[0])


def _settle(asked: Spelling, chosen: Copy, file: TensorFile, extractor: TimmExtractor) -> Spelling:
    """Fill in what was left to the file: normalisation, and heads where a method is known to have its own."""
    heads = asked.heads
    if MOCO_V3.search(chosen.root) and "cls_token" in chosen.tensors:
        heads = heads or MOCO_V3_HEADS.get(chosen.tensors["cls_token"].tensor.shape[-1], 0)
    preprocessing = asked.preprocessing
    if not preprocessing and "." not in asked.network:
        traces = chosen.branch or any(UNSUPERVISED.search(name) for name in file.tensors)
        classifier = any(CLASSIFIER.search(name) for name in file.tensors)
        preprocessing = "timm" if classifier and not traces else "imagenet"
    return replace(asked, heads=heads, preprocessing=preprocessing, file=None)


def _dressed(extractor: TimmExtractor, spelling: Spelling, *, pretrained: bool) -> TimmExtractor:
    """The extractor with the normalisation and the heads that its name spells, and under that name."""
    if _sees_imagenet(extractor) and spelling.preprocessing == "imagenet":
        spelling = replace(spelling, preprocessing="")
    if spelling.preprocessing in NORMALISATIONS:
        extractor.normalise = NORMALISATIONS[spelling.preprocessing]()
    if spelling.heads:
        _set_heads(extractor, spelling)
    extractor.architecture, extractor.pretrained = spelling.architecture, pretrained
    return extractor


def _sees_imagenet(extractor: TimmExtractor) -> bool:
    ours, theirs = extractor.normalise, imagenet()
    return bool(torch.allclose(ours.mean, theirs.mean) and torch.allclose(ours.std, theirs.std))


def _set_heads(extractor: TimmExtractor, spelling: Spelling) -> None:
    attention: list[Any] = [each for each in extractor.net.modules() if _splits_in_heads(each)]
    widths = {each.num_heads * each.head_dim for each in attention}
    if not widths or any(width % spelling.heads for width in widths):
        raise PieceError(
            f"`heads` must divide the width of the attention of {spelling.network!r} "
            f"({sorted(widths) or 'it has none'}); got {spelling.heads}. Leave it out to take timm's."
        )
    for each in attention:
        each.head_dim = each.num_heads * each.head_dim // spelling.heads
        each.num_heads, each.scale = spelling.heads, each.head_dim**-0.5


def _splits_in_heads(module: nn.Module) -> bool:
    """Attention without anything else that counts its heads, such as a table of relative positions."""
    return {"qkv", "proj"} <= dict(module.named_children()).keys() and all(
        isinstance(getattr(module, name, None), int) for name in ("num_heads", "head_dim")
    )


# ---- filling -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Fit:
    """A copy against the network: what goes where, what has another shape or no place, what the network lacks."""

    chosen: dict[str, Source]
    misshapen: dict[str, Source]
    missing: tuple[str, ...]
    left: dict[str, Source]
    share: float


def _fill(extractor: TimmExtractor, copy: Copy, file: TensorFile, *, deeper: bool) -> Loaded:
    tensors, resized = _with_positions(copy.tensors, extractor.net)
    wanted, state = _wanted(extractor), extractor.net.state_dict()
    fit = _fitted(tensors, wanted, state)
    _refuse(fit, state, f"{str(file.path)!r}", extractor.architecture)
    _refuse_another(fit, frozenset(wanted), f"{str(file.path)!r}", extractor.architecture, deeper=deeper)
    if fit.missing:
        warnings.warn(
            f"{file.path.name} lacks {_some(fit.missing)} of {extractor.architecture}; they stay random.",
            Doubt,
            stacklevel=3,
        )
    extractor.net.load_state_dict(state | {name: source.tensor for name, source in fit.chosen.items()})
    return Loaded(
        layout=copy.layout,
        branch=copy.branch,
        matched=tuple(fit.chosen),
        missing=fit.missing,
        unexpected=tuple(origin for source in fit.left.values() for origin in source.origins),
        share=fit.share,
        resized=resized,
        preprocessing="",
    )


def _fitted(tensors: dict[str, Source], wanted: dict[str, str], state: dict[str, Tensor]) -> _Fit:
    named = {wanted[plain(name)]: source for name, source in tensors.items() if plain(name) in wanted}
    chosen = {name: source for name, source in named.items() if source.tensor.shape == state[name].shape}
    return _Fit(
        chosen=chosen,
        misshapen={name: source for name, source in named.items() if name not in chosen},
        missing=tuple(name for name in wanted.values() if name not in named),
        left={name: source for name, source in tensors.items() if plain(name) not in wanted},
        share=sum(state[name].numel() for name in chosen) / sum(state[name].numel() for name in wanted.values()),
    )


def _refuse(fit: _Fit, state: dict[str, Tensor], said: str, network: str) -> None:
    """Refuse a copy that would leave random what matters."""
    for name, source in fit.misshapen.items():
        got, rule = tuple(source.tensor.shape), tuple(state[name].shape)
        raise PieceError(
            f"{said} must have the shapes of {network}; {len(fit.misshapen)} tensors differ, first "
            f"{source.origins[0]!r}: {got} in the file, {rule} in the network. "
            "Name the architecture that it was saved from."
        )
    if fit.share < ENOUGH:
        raise PieceError(
            f"{said} must hold at least {ENOUGH:.0%} of the values of {network}; it holds {fit.share:.1%} and lacks "
            f"{_some(fit.missing)}. Name the architecture that it was saved from."
        )
    first = next(name for name in state if not name.endswith(COUNTER))
    decisive = tuple(name for name in fit.missing if DECISIVE.search(name) or name == first)
    if decisive:
        raise PieceError(
            f"{said} must hold what changes every feature of {network}; it lacks {_some(decisive)}. "
            "Name the architecture that it was saved from."
        )


def _refuse_another(fit: _Fit, wanted: frozenset[str], said: str, network: str, *, deeper: bool) -> None:
    """Refuse a copy of a network that does more than this one: the same tensors, but other features."""
    known = {".".join(name.split(".")[:cut]) for name in wanted for cut in range(1, name.count(".") + 2)}
    transformer = "pos.embed" in wanted or "cls.token" in wanted
    left = tuple(
        source.origins[0]
        for name, source in fit.left.items()
        if not name.endswith("_index") and _belongs(plain(name), known, whole=deeper and transformer)
    )
    if left:
        raise PieceError(
            f"{said} must be of {network}; it also holds {_some(left)}, for which that network has no place. "
            "Name the architecture that it was saved from."
        )


def _belongs(name: str, known: set[str], *, whole: bool) -> bool:
    """Whether a tensor without a place is part of the backbone: of a block, a block of a stage, or one before them.

    `whole` says that no block at the end was left out of the network on purpose.
    """
    parts = name.split(".")
    numbers = [index for index, part in enumerate(parts) if part.isdigit()]
    for index in numbers:
        row = ".".join(parts[:index])
        if f"{row}.{parts[index]}" not in known:
            return row in known and (whole or any(character.isdigit() for character in row))
    return bool(numbers) or name.startswith(
        ("cls.token", "reg.token", "dist.token", "pos.embed", "norm.pre", "patch.embed")
    )


def _count(names: tuple[str, ...]) -> str:
    return f"{len(names)} ({_some(names)})" if names else "none"


def _some(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(repr(name) for name in names[:3]) + more


def _with_positions(tensors: dict[str, Source], net: nn.Module) -> tuple[dict[str, Source], Grid | None]:
    """The tensors with position embeddings for the network's grid, and the file's grid where it was another."""
    target, grid = net.state_dict().get("model.pos_embed"), _grid(net)
    if target is None or grid is None or "pos_embed" not in tensors:
        return tensors, None
    return with_positions(tensors, target.shape[1], grid)


def _grid(net: nn.Module) -> Grid | None:
    """Rows and columns of patches for which the network keeps position embeddings."""
    sizes = [getattr(module, "grid_size", None) for module in net.modules()]
    return next((tuple(size) for size in sizes if size is not None), None)
