"""The extractors by name."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from unplateau.errors import PieceError, nearest
from unplateau.extractors.base import AbstractExtractor
from unplateau.extractors.bounded import RUNGS, rung
from unplateau.extractors.checkpoint import from_file
from unplateau.extractors.clip import clip, clip_files, is_clip
from unplateau.extractors.context import context, is_context, within
from unplateau.extractors.families import NAME as FAMILIES
from unplateau.extractors.families import families
from unplateau.extractors.filters import filters
from unplateau.extractors.fused import PRETRAINED, fused, is_fused, part_said, parts_said
from unplateau.extractors.normalise import under, without_rule
from unplateau.extractors.squeezenet import squeezenet
from unplateau.extractors.teachers import from_spelling
from unplateau.extractors.tensors import SUFFIXES, load, named_by, read_tensors
from unplateau.extractors.timm import TIMM, from_timm, timm_names


class Builder(Protocol):
    """What the catalogue holds: `weights` is a local file, `pretrained` asks for the published weights."""

    def __call__(self, *, pretrained: bool = False, weights: Path | None = None) -> AbstractExtractor:
        """Build it; random weights by default."""
        ...


def resnet18(*, pretrained: bool = False, weights: Path | None = None) -> AbstractExtractor:
    """ResNet-18, supervised: strides 2 to 32, up to 512 channels."""
    return from_timm("resnet18", pretrained=pretrained, weights=weights, levels=(0, 1, 2, 3, 4))


def resnet34(*, pretrained: bool = False, weights: Path | None = None) -> AbstractExtractor:
    """ResNet-34, supervised: strides 2 to 32, up to 512 channels."""
    return from_timm("resnet34", pretrained=pretrained, weights=weights, levels=(0, 1, 2, 3, 4))


def resnet50(*, pretrained: bool = False, weights: Path | None = None) -> AbstractExtractor:
    """ResNet-50, supervised: strides 2 to 32, up to 2048 channels."""
    return from_timm("resnet50", pretrained=pretrained, weights=weights, levels=(0, 1, 2, 3, 4))


def convnext_atto(*, pretrained: bool = False, weights: Path | None = None) -> AbstractExtractor:
    """ConvNeXt of the smallest size, supervised: strides 4 to 32, up to 320 channels."""
    return from_timm("convnext_atto", pretrained=pretrained, weights=weights, levels=(0, 1, 2, 3))


def convnext_tiny(*, pretrained: bool = False, weights: Path | None = None) -> AbstractExtractor:
    """ConvNeXt of the usual size, supervised: strides 4 to 32, up to 768 channels."""
    return from_timm("convnext_tiny", pretrained=pretrained, weights=weights, levels=(0, 1, 2, 3))


def mobilenetv3_small_100(*, pretrained: bool = False, weights: Path | None = None) -> AbstractExtractor:
    """MobileNet v3, supervised, the cheapest here: strides 2 to 32, up to 576 channels."""
    return from_timm("mobilenetv3_small_100", pretrained=pretrained, weights=weights, levels=(0, 1, 2, 3, 4))


def vit_tiny_patch16_224(*, pretrained: bool = False, weights: Path | None = None) -> AbstractExtractor:
    """Vision transformer, supervised: four blocks of twelve, 192 channels at stride 16."""
    return from_timm("vit_tiny_patch16_224", pretrained=pretrained, weights=weights, levels=(2, 5, 8, 11))


def vit_small_patch14_dinov2(*, pretrained: bool = False, weights: Path | None = None) -> AbstractExtractor:
    """Vision transformer, self-supervised (DINOv2): four blocks of twelve, 384 channels at stride 14."""
    return from_timm("vit_small_patch14_dinov2", pretrained=pretrained, weights=weights, levels=(2, 5, 8, 11))


def vit_xsmall_patch16_clip_224(*, pretrained: bool = False, weights: Path | None = None) -> AbstractExtractor:
    """Vision transformer, aligned with language (TinyCLIP): four blocks of ten, 256 channels at stride 16."""
    return from_timm("vit_xsmall_patch16_clip_224", pretrained=pretrained, weights=weights, levels=(2, 4, 7, 9))


def squeezenet1_1(*, pretrained: bool = False, weights: Path | None = None) -> AbstractExtractor:
    """SqueezeNet 1.1: strides 2 to 16, up to 512 channels."""
    if pretrained and weights is None:
        raise PieceError("The weights of 'squeezenet1_1' are not fetched: give a .safetensors file as `weights`.")
    return squeezenet(weights)


def squeezenet1_1_imagenet(*, pretrained: bool = False, weights: Path | None = None) -> AbstractExtractor:
    """SqueezeNet 1.1 behind torchvision's own normalisation."""
    if pretrained and weights is None:
        raise PieceError("The weights of 'squeezenet1_1' are not fetched: give a .safetensors file as `weights`.")
    return squeezenet(weights, preprocessing="imagenet")


def filter_bank(*, pretrained: bool = False, weights: Path | None = None) -> AbstractExtractor:
    """Fixed filters at strides 1, 2 and 4: colour, edges, bars."""
    if pretrained or weights is not None:
        raise PieceError("'filters' has no weights, its filters are fixed: leave `pretrained` and `weights` out.")
    return filters()


EXTRACTORS: dict[str, Builder] = {
    FAMILIES: families,
    "resnet18": resnet18,
    "resnet34": resnet34,
    "resnet50": resnet50,
    "convnext_atto": convnext_atto,
    "convnext_tiny": convnext_tiny,
    "mobilenetv3_small_100": mobilenetv3_small_100,
    "vit_tiny_patch16_224": vit_tiny_patch16_224,
    "vit_small_patch14_dinov2": vit_small_patch14_dinov2,
    "vit_xsmall_patch16_clip_224": vit_xsmall_patch16_clip_224,
    "squeezenet1_1": squeezenet1_1,
    "squeezenet1_1-imagenet": squeezenet1_1_imagenet,
    "filters": filter_bank,
}
"""Builders by name; a name of your own is one more entry."""


def build_extractor(
    name_or_path: str | Path, *, pretrained: bool = False, weights: Path | None = None
) -> AbstractExtractor:
    """A rung ("unet", "reach-33", ...), a name of `EXTRACTORS`, any other name of timm, or a path to a checkpoint.

    "timm/NAME@FILE" is a teacher from elsewhere: the network NAME of timm with the weights in FILE, in any layout that
    `load_teacher` reads. "clip/FOLDER" is a language-aligned one, see clip.py. "fused(unet + FILE)" is several of these
    as one, see fused.py; "context(reach-33)" lets one see the whole image, see context.py. "pretrained:" before a name
    takes its published weights. "~half" after a name or a path feeds the network by that rule of `NORMALISATIONS`
    instead of its own.

    Raises:
        PieceError: neither a name nor a file, its weights cannot be had, or it has no rule that could be another.
    """
    name = str(name_or_path)
    if name.startswith(PRETRAINED):
        return _published(name.removeprefix(PRETRAINED), weights)
    if is_fused(name):
        return _fused(name, pretrained=pretrained, weights=weights)
    if is_context(name):
        part = part_said(within(name))
        inner = build_extractor(part.name, pretrained=pretrained or part.pretrained, weights=weights)
        return context(inner, part.frozen)
    if is_clip(name):
        return clip(name)
    bare, rule = without_rule(name)
    if rule and not name.startswith(TIMM):
        return under(build_extractor(bare, pretrained=pretrained, weights=weights), rule)
    if (known_rung := rung(name)) is not None:
        return known_rung
    if name in EXTRACTORS:
        return EXTRACTORS[name](pretrained=pretrained, weights=weights)
    if name.startswith(TIMM):
        return from_spelling(name, pretrained=pretrained, weights=weights)
    if isinstance(name_or_path, Path) or name.endswith(SUFFIXES) or "/" in name:
        return _from_file(Path(name))
    known = timm_names()
    if name.partition(".")[0] not in known:
        raise PieceError(
            f"An extractor must be a name of the catalogue, a timm network or a path to a checkpoint; got {name!r}: "
            f"{nearest(name, {*EXTRACTORS, *RUNGS, *known})}"
        )
    return from_timm(name, pretrained=pretrained, weights=weights)


def _published(name: str, weights: Path | None) -> AbstractExtractor:
    built = build_extractor(name, pretrained=True, weights=weights)
    if not built.pretrained:
        raise PieceError(
            f"'{PRETRAINED}' must stand before a network of which weights are published; {name!r} has none."
        )
    return built


def _from_file(path: Path) -> AbstractExtractor:
    """The extractor whose weights a file holds; here those made of others, which a checkpoint alone cannot build."""
    named = named_by(path)
    if not (is_fused(named) or is_context(named) or is_clip(named)):
        return from_file(path)
    built = build_extractor(named)
    load(built, read_tensors(path), named)
    built.pretrained = True
    return built


def weight_files(name: str) -> tuple[Path, ...]:
    """The files whose content decides what an extractor of that name is, as far as they are there."""
    return tuple(path for part in parts_said(name) for path in _files(part.name))


def _files(name: str) -> tuple[Path, ...]:
    if is_context(name):
        return weight_files(part_said(within(name)).name)
    if is_clip(name):
        return clip_files(name)
    path = Path(without_rule(name.partition("@")[2] or name)[0])
    return (path,) if path.is_file() else ()


def brings_weights(name: str) -> bool:
    """Whether a name says its weights already: a file, a network with one, or the published ones."""
    if name.startswith(PRETRAINED):
        return True
    return without_rule(name)[0].endswith(SUFFIXES) or "@" in name or is_clip(name)


def _fused(name: str, *, pretrained: bool, weights: Path | None) -> AbstractExtractor:
    if weights is not None:
        raise PieceError(f"`weights` must go to one network; {name!r} has several. Name the file in its place.")
    said = parts_said(name)
    parts = tuple(build_extractor(part.name, pretrained=pretrained or part.pretrained) for part in said)
    return fused(parts, tuple(part.frozen for part in said))
