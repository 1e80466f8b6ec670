"""Measure what extractors supply, on planted scenes."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from unplateau.errors import PieceError, UnplateauError
from unplateau.extractors.base import AbstractExtractor
from unplateau.extractors.catalogue import build_extractor
from unplateau.extractors.fused import PRETRAINED
from unplateau.files import plain, writable_folder, write_json
from unplateau.progress import Told
from unplateau.reports import write_eyechart
from unplateau.types import Interval
from unplateau.upgrades.cache import identity
from unplateau.upgrades.eyechart import CHART, CHARTS, SMALLEST_SIDE, chart
from unplateau.verbs.arguments import refuse_numbers, silent

CHARTED, CHART_PAGE, FEATURES = "eyechart.json", "eyechart.html", "features"


@dataclass(frozen=True)
class Named:
    """An extractor with random weights drawn by the seed, or those of its file, and what it was asked for as."""

    name: str
    extractor: AbstractExtractor


def eyechart(
    extractors: Sequence[str | Path],
    *,
    out: str | Path = "runs/eyechart",
    size: int = 64,
    seed: int = 0,
    told: Told | None = None,
) -> dict[str, Any]:
    """What each extractor supplies of each family; `eyechart.json` and `eyechart.html` to `out`.

    Acuity runs from 0, no better than colour alone, to 1, every pixel right: the mean over four grades of planted
    scenes that only this family decides, with a 90 % interval over scenes and seeds. "rest" is the extractor frozen as
    it came, "taught" the same after a short lesson on other such scenes. Beside the families stands "colour", from 0,
    where everything is positive, to 1, what colour alone reads.

    Args:
        extractors: names as in `train`, checkpoint files, or "pretrained:NAME" for a network's published weights.
        out: where the results go. A chart that is in `eyechart.json` there, of the same weights, size, seed and
            version of the chart, is not measured again.
        size: side of the largest scenes in pixels, at least 32.
        seed: draws the scenes, and the weights of what has none.
        told: called after each chart with how many are done, of how many, and which.

    Returns:
        `version`, `size`, `seed` and `charts`, one an extractor in the order asked for: `extractor`, `identity`,
        `pretrained`, `reach` (pixels, None = whole image), `parameters`, `milliseconds` an image, `seconds` that the
        chart took, `rest` and `taught`: for each family `acuity` and `lines`, one a grade.

    Raises:
        UnplateauError: no extractor, two of one name, or a size below 32 pixels.
        PieceError: an unknown extractor, or weights that cannot be had.
        OutputError: `out` cannot be written.
    """
    named = named_extractors(extractors, seed)
    return {**_head(size, seed), "charts": charted(named, Path(out), size=size, seed=seed, told=told or silent)}


def named_extractors(said: Sequence[str | Path], seed: int) -> tuple[Named, ...]:
    """Every extractor, built before anything is measured.

    Raises:
        UnplateauError: none, or two of one name.
        PieceError: an unknown one, or weights that cannot be had.
    """
    names = [str(each) for each in said]
    if not names:
        raise UnplateauError("`extractors` must name at least one; got none. Name one, such as 'unet' or a file.")
    if twice := {name for name in names if names.count(name) > 1}:
        raise UnplateauError(f"`extractors` must differ; got {sorted(twice)[0]!r} twice. Leave one out.")
    return tuple(Named(name, _built(name, seed)) for name in names)


def _built(name: str, seed: int) -> AbstractExtractor:
    bare = name.removeprefix(PRETRAINED)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            return build_extractor(bare, pretrained=bare != name)
        except PieceError as error:
            if bare == name:
                raise
            raise PieceError(f"{error} Here: name it 'timm/{bare}@FILE', with FILE where you put it.") from error


def charted(
    named: Sequence[Named], folder: Path, *, size: int, seed: int, told: Told, at_rest: bool = True
) -> list[dict[str, Any]]:
    """The charts of extractors, from `eyechart.json` in `folder` as far as they are there; it holds all afterwards.

    Without `at_rest` those that are missing are made without what is read at rest, and there is no page of them.
    """
    refuse_numbers({"seed": seed})
    if size < SMALLEST_SIDE:
        raise UnplateauError(f"`size` must be at least {SMALLEST_SIDE} pixels; got {size}. Give a larger number.")
    folder = writable_folder(folder)
    kept = _kept(folder / CHARTED, size, seed)
    found = []
    for done, each in enumerate(named, start=1):
        mark = identity(each.extractor)
        if mark not in kept or (at_rest and not kept[mark]["rest"]):
            own = folder / FEATURES / re.sub(r"[^\w.-]+", "-", f"{each.name[-40:]}-{mark[:8]}")
            kept[mark] = plain(chart(each.name, each.extractor, own, size=size, seed=seed, at_rest=at_rest))
        # The same weights may be asked for under another name, and who reads the file looks for that one.
        kept[mark] = {**kept[mark], "extractor": each.name}
        write_json(folder / CHARTED, {**_head(size, seed), "charts": list(kept.values())})
        found.append(kept[mark])
        told(done, len(named), each.name)
    if at_rest:
        write_eyechart({**_head(size, seed), "charts": found}, folder / CHART_PAGE)
    return found


def supply_of(entry: dict[str, Any]) -> dict[str, Interval]:
    """The supply of each family of an extractor that will be trained, from its chart."""
    return {each["family"]: Interval(**each["acuity"]) for each in entry["taught"]}


def _head(size: int, seed: int) -> dict[str, Any]:
    return {"version": CHART, "size": size, "seed": seed}


def _kept(path: Path, size: int, seed: int) -> dict[str, dict[str, Any]]:
    """Charts by identity; none where the file is absent, damaged, or of another version, size or seed."""
    try:
        content = json.loads(path.read_bytes())
        if {name: content[name] for name in _head(size, seed)} != _head(size, seed):
            return {}
        return {each["identity"]: each for each in content["charts"] if set(supply_of(each)) == set(CHARTS)}
    except (OSError, ValueError, TypeError, KeyError):
        return {}
