"""An extractor from a local file, recognised by what the file holds."""

from __future__ import annotations

from pathlib import Path

from unplateau.errors import PieceError
from unplateau.extractors.base import AbstractExtractor
from unplateau.extractors.bounded import rung
from unplateau.extractors.families import NAME as FAMILIES
from unplateau.extractors.families import families
from unplateau.extractors.normalise import under, without_rule
from unplateau.extractors.squeezenet import squeezenet
from unplateau.extractors.teachers import from_spelling
from unplateau.extractors.tensors import TensorFile, load, read_tensors
from unplateau.extractors.timm import TIMM

SQUEEZENET = "squeezenet1_1"

FIRE_MODULE = "features.3.squeeze.weight"
"""A tensor that tells SqueezeNet's layout from any other."""


def from_file(path: Path, *, architecture: str | None = None) -> AbstractExtractor:
    """The extractor whose weights `path` holds.

    `architecture` is "timm/<name>" or a rung such as "unet"; without it, the file's own metadata or the names of its
    tensors decide.
    Wrappers around the names ("module.", "teacher.backbone.", ...) are seen through.

    Raises:
        PieceError: no such file, not a checkpoint, damaged, of an unknown architecture, or one that does not fit.
    """
    file = read_tensors(path)
    named = architecture or file.architecture
    if named.startswith(TIMM):
        return from_spelling(named, weights=path)
    if (bounded := rung(named)) is not None:
        load(bounded, file, named)
        bounded.pretrained = True
        return bounded
    if named == FAMILIES:
        return families(weights=path)
    if architecture:
        raise PieceError(
            f"`architecture` must be 'timm/<name>' or a rung such as 'unet'; got {architecture!r}. Leave it out."
        )
    if any(name.endswith(FIRE_MODULE) for name in file.tensors):
        extractor = squeezenet(path, preprocessing=_squeezenet_preprocessing(file))
        rule = without_rule(file.architecture)[1]
        return under(extractor, rule) if rule else extractor
    raise PieceError(
        f"{str(path)!r} must be of a known architecture; its {len(file.tensors)} tensors, such as "
        f"{next(iter(file.tensors))!r}, fit none. Say which with architecture='timm/<name>'."
    )


def _squeezenet_preprocessing(file: TensorFile) -> str:
    """Only torchvision's own file has the classifier, and its weights expect torchvision's own normalisation.

    A file of ours says it.
    """
    if file.architecture.startswith(SQUEEZENET):
        return "imagenet" if "-imagenet" in file.architecture else "caffe"
    return "imagenet" if any(name.endswith("classifier.1.weight") for name in file.tensors) else "caffe"
