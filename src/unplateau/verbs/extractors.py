"""What extractors there are."""

from __future__ import annotations

import time
import warnings
from pathlib import Path
from typing import Any

import torch

from unplateau.data.grid import SMALLEST
from unplateau.errors import DataError, PieceError, UnplateauError, nearest
from unplateau.extractors.base import AbstractExtractor
from unplateau.extractors.cards import CARDS, FILE, HERE, IN_A_FOLDER, KINDS, Card
from unplateau.extractors.catalogue import build_extractor
from unplateau.extractors.clip import CLIP
from unplateau.extractors.hfclip import CONFIG as TRANSFORMERS
from unplateau.extractors.openclip import CONFIG as OPEN_CLIP
from unplateau.extractors.tensors import SUFFIXES
from unplateau.model import pad_to

REPEATS = 3


def extractors(
    *,
    kind: str = "",
    commercial: bool = False,
    folder: str | Path | None = None,
    measure: bool = False,
    size: int = 128,
) -> list[dict[str, Any]]:
    """The extractors that are known, by kind of pretraining and size. Needs no network, and builds only to measure.

    Args:
        kind: one of "none", "classical", "supervised", "self-supervised", "language-aligned", "segmentation-trained"
            and "agglomerated"; "" = all.
        commercial: leave out those whose licence forbids commercial use, has terms of its own, or is not stated.
        folder: list the files of weights, and folders of language-aligned models, that lie here instead.
        measure: build each with random weights and measure its time an image.
        size: side in pixels of the image that is measured on.

    Returns:
        A dict each: `name` as `build_extractor` takes it, `kind`, `parameters`, `strides` and `channels`, finest first,
        `preprocessing` of the images, which the extractor does itself, `licence`, `commercial` (None = its terms must
        be read), `weights` (where they come from), `milliseconds` (None where not measured).

    Raises:
        UnplateauError: no such kind.
        DataError: no such folder.
    """
    if kind and kind not in KINDS:
        raise UnplateauError(f"`kind` must be one of {', '.join(KINDS)}; got {kind!r}: {nearest(kind, KINDS)}")
    if size < SMALLEST:
        raise UnplateauError(f"`size` must be at least {SMALLEST}; got {size}. Give a larger number.")
    if folder is not None:
        return _local(Path(folder), measure=measure, size=size)
    chosen = {
        name: card
        for name, card in CARDS.items()
        if (not kind or card.kind == kind) and (not commercial or card.commercial)
    }
    return [_row(name, card, _measured(name, card, size) if measure else None) for name, card in chosen.items()]


def _measured(name: str, card: Card, size: int) -> float | None:
    """Milliseconds an image; None where the network is described by files that only its folder holds."""
    return None if card.source in IN_A_FOLDER else _milliseconds(build_extractor(name), size)


def _row(name: str, card: Card, milliseconds: float | None) -> dict[str, Any]:
    return {
        "name": name,
        "kind": card.kind,
        "parameters": card.parameters,
        "strides": card.strides,
        "channels": tuple(level.channels for level in card.levels),
        "preprocessing": card.preprocessing,
        "licence": card.licence,
        "commercial": card.commercial,
        "weights": _weights(name, card),
        "milliseconds": milliseconds,
    }


def _weights(name: str, card: Card) -> str:
    """Where the weights come from."""
    if card.source == HERE:
        return "none: trained on your images" if card.parameters else "none: nothing is learnt"
    if card.source == FILE:
        return "your own file"
    if card.source in IN_A_FOLDER:
        return f"place the files of {card.tag} in a folder and name clip/FOLDER"
    bare = name.partition(".")[0]
    return f"to fetch: timm/{bare}.{card.tag}"


def _local(folder: Path, *, measure: bool, size: int) -> list[dict[str, Any]]:
    if not folder.is_dir():
        raise DataError(f"`folder` must be a folder with files of weights; there is none at {str(folder)!r}. Name one.")
    rows = [row for path in sorted(folder.iterdir()) if (row := _found(path, measure=measure, size=size))]
    if not rows:
        raise DataError(
            f"`folder` must hold files that end in {', '.join(SUFFIXES)}, or folders of language-aligned models; "
            f"{str(folder)!r} holds neither. Name another."
        )
    return rows


def _found(path: Path, *, measure: bool, size: int) -> dict[str, Any] | None:
    """A file or folder as a row; None where it is nothing that could be an extractor."""
    aligned = (path / OPEN_CLIP).is_file() or (path / TRANSFORMERS).is_file()
    if not aligned and path.suffix not in SUFFIXES:
        return None
    name = f"{CLIP}{path}" if aligned else str(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            built = build_extractor(name)
    except PieceError as error:
        said = "cannot be read alone: " + str(error)
        return _unknown(name) | {"weights": said}
    return _unknown(name) | {
        "parameters": sum(weight.numel() for weight in built.parameters()),
        "strides": tuple(level.stride for level in built.gives),
        "channels": tuple(level.channels for level in built.gives),
        "preprocessing": "its own",
        "weights": f"here: {built.architecture}",
        "milliseconds": _milliseconds(built, size) if measure else None,
    }


def _unknown(name: str) -> dict[str, Any]:
    """A row of which nothing is known: a file says neither how it was trained nor under which licence it is."""
    return {
        "name": name,
        "kind": "",
        "parameters": 0,
        "strides": (),
        "channels": (),
        "preprocessing": "",
        "licence": "",
        "commercial": None,
        "weights": "",
        "milliseconds": None,
    }


def _milliseconds(extractor: AbstractExtractor, size: int) -> float:
    """The least time of a few passes over one image, on the CPU: other work on the machine only ever adds."""
    images = pad_to(torch.rand(1, 3, size, size), max(level.stride for level in extractor.gives))
    extractor.eval()
    taken = []
    with torch.inference_mode():
        for _ in range(REPEATS):
            start = time.perf_counter()
            extractor(images)
            taken.append(time.perf_counter() - start)
    return 1000 * min(taken)
