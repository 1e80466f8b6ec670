"""The cases: a base, a cause at one of two strengths, and the run of the user who is stuck on it."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.other_scenes import KINDS as OTHER_KINDS
from benchmarks.truth import plants
from benchmarks.truth.bases import BASES, SIDE, World, world
from benchmarks.truth.pretrained import of_another, of_the_task
from unplateau.types import Sample

Samples = Sequence[Sample]


@dataclass(frozen=True)
class Setup:
    """What the user trained and how; what is not named here is the default recipe of a diagnosis.

    `threshold` None = the best on validation. `metric` is what the user reports as "IoU".
    """

    extractor: str = "unet"
    decoder: str = "linear"
    size: int = SIDE
    steps: int = 160
    loss: str = "ce + dice"
    class_weights: str = "none"
    frozen: bool = False
    threshold: float | None = None
    metric: str = "iou"


@dataclass(frozen=True)
class Case:
    """`train` and `val` as the user has them, and the user's setup. `plant` "healthy" = nothing was put in."""

    base: str
    plant: str
    strength: int
    train: tuple[Sample, ...]
    val: tuple[Sample, ...]
    setup: Setup

    @property
    def name(self) -> str:
        """A name for files and tables."""
        return case_name(self.base, self.plant, self.strength)


Plant = Callable[[World, Setup, int, np.random.Generator], tuple[Samples, Samples, Setup]]
"""Clean world, healthy setup, strength 0 or 1: what the user has."""


def case_name(base: str, plant: str, strength: int) -> str:
    """What a case is called, without making it."""
    return f"{base}-{plant}-{strength}"


def make_case(base: str, plant: str, strength: int) -> Case:
    """The case of that name; the same name, the same case."""
    clean, healthy = world(base), Setup(steps=BASES[base].steps)
    seed = [sum(map(ord, f"{base} {plant}")), strength]
    train, val, setup = PLANTS[plant](clean, healthy, strength, np.random.default_rng(seed))
    return Case(base, plant, strength, _split(train, "train"), _split(val, "val"), setup)


def planted_train(base: str, plant: str, strength: int, train: Samples) -> tuple[Sample, ...]:
    """Other clean training samples with the same cause put in: what more of the user's data would be."""
    clean, healthy = world(base), Setup(steps=BASES[base].steps)
    seed = [1 + sum(map(ord, f"{base} {plant}")), strength]
    more, _, _ = PLANTS[plant](replace(clean, train=tuple(train)), healthy, strength, np.random.default_rng(seed))
    return _split(more, "train")


def _split(samples: Samples, split: str) -> tuple[Sample, ...]:
    """Under names of their own, each its own group where the base has no larger ones."""
    return tuple(
        replace(each, name=f"{split}-{place:04d}", split=split, group=f"{split}-{each.group}")
        for place, each in enumerate(samples)
    )


# ---- the plants ----------------------------------------------------------------------------------------------


def _healthy(w: World, s: Setup, k: int, rng: np.random.Generator) -> tuple[Samples, Samples, Setup]:
    return w.train, w.val, s


def _shifted(w: World, s: Setup, k: int, rng: np.random.Generator) -> tuple[Samples, Samples, Setup]:
    rows, columns = ((2, -2), (4, 3))[k]
    return plants.shifted(w.train, rows, columns), plants.shifted(w.val, rows, columns), s


def _encoding(w: World, s: Setup, k: int, rng: np.random.Generator) -> tuple[Samples, Samples, Setup]:
    damage = (lambda part: plants.smoothed(part, 0.5), lambda part: plants.compressed(part, 50))[k]
    return damage(w.train), damage(w.val), s


def _misnumbered(w: World, s: Setup, k: int, rng: np.random.Generator) -> tuple[Samples, Samples, Setup]:
    share = (0.3, 0.5)[k]
    return plants.misnumbered(w.train, share, 1, rng), plants.misnumbered(w.val, share, 1, rng), s


def _leak(w: World, s: Setup, k: int, rng: np.random.Generator) -> tuple[Samples, Samples, Setup]:
    return w.train, plants.leaked(w.train, w.val, (0.3, 0.7)[k], rng), s


def _metric(w: World, s: Setup, k: int, rng: np.random.Generator) -> tuple[Samples, Samples, Setup]:
    return w.train, w.val, replace(s, metric=("mean with background", "pixel accuracy")[k])


def _threshold(w: World, s: Setup, k: int, rng: np.random.Generator) -> tuple[Samples, Samples, Setup]:
    return w.train, w.val, replace(s, threshold=(0.98, 0.02)[k])


def _short(w: World, s: Setup, k: int, rng: np.random.Generator) -> tuple[Samples, Samples, Setup]:
    return w.train, w.val, replace(s, steps=round(s.steps * (0.25, 0.15)[k]))


def _imbalance(w: World, s: Setup, k: int, rng: np.random.Generator) -> tuple[Samples, Samples, Setup]:
    """Cross-entropy alone, read at 0.5; the stronger one on half of the steps, where it shows most."""
    return w.train, w.val, replace(s, loss="ce", threshold=0.5, steps=s.steps if k == 0 else s.steps // 2)


def _tenth(w: World, s: Setup, k: int, rng: np.random.Generator) -> tuple[Samples, Samples, Setup]:
    return w.train[: max(6, round(len(w.train) * (0.2, 0.1)[k]))], w.val, s


def _repeated(w: World, s: Setup, k: int, rng: np.random.Generator) -> tuple[Samples, Samples, Setup]:
    return plants.repeated(w.train, max(5, round(len(w.train) * (0.2, 0.1)[k])), rng), w.val, s


def _domain(w: World, s: Setup, k: int, rng: np.random.Generator) -> tuple[Samples, Samples, Setup]:
    return plants.tinted(w.train, (0.7, 1.2)[k], rng), w.val, s


def _omitted(w: World, s: Setup, k: int, rng: np.random.Generator) -> tuple[Samples, Samples, Setup]:
    share = (0.3, 0.5)[k]
    return plants.omitted(w.train, share, 1, rng), plants.omitted(w.val, share, 1, rng), s


def _jittered(w: World, s: Setup, k: int, rng: np.random.Generator) -> tuple[Samples, Samples, Setup]:
    pixels = (2.0, 3.5)[k]
    return plants.jittered(w.train, pixels, 1, rng), plants.jittered(w.val, pixels, 1, rng), s


def _swapped(w: World, s: Setup, k: int, rng: np.random.Generator) -> tuple[Samples, Samples, Setup]:
    share = (0.25, 0.5)[k]
    return plants.swapped(w.train, share, rng), plants.swapped(w.val, share, rng), s


def _coarse(w: World, s: Setup, k: int, rng: np.random.Generator) -> tuple[Samples, Samples, Setup]:
    return w.train, w.val, replace(s, size=(32, 24)[k])


def _decoder(w: World, s: Setup, k: int, rng: np.random.Generator) -> tuple[Samples, Samples, Setup]:
    return w.train, w.val, replace(s, extractor=("timm/resnet18:2", "timm/resnet18:3")[k])


def _small(w: World, s: Setup, k: int, rng: np.random.Generator) -> tuple[Samples, Samples, Setup]:
    return w.train, w.val, replace(s, extractor=("unet-3", "unet-1")[k])


def _short_sighted(w: World, s: Setup, k: int, rng: np.random.Generator) -> tuple[Samples, Samples, Setup]:
    return w.train, w.val, replace(s, extractor=("reach-9", "reach-5")[k])


def _normalisation(w: World, s: Setup, k: int, rng: np.random.Generator) -> tuple[Samples, Samples, Setup]:
    """Weights that learnt the very task, frozen, fed without their normalisation: as 0..1, as 0..255."""
    return (
        w.train,
        w.val,
        replace(s, extractor=f"{of_the_task(w.name)}~{('unit', 'bytes')[k]}", decoder="conv", frozen=True),
    )


def _other_family(w: World, s: Setup, k: int, rng: np.random.Generator) -> tuple[Samples, Samples, Setup]:
    """Weights that learnt another family than the task demands, frozen."""
    return w.train, w.val, replace(s, extractor=of_another(w.name, k), decoder="linear", frozen=True)


PLANTS: dict[str, Plant] = {
    "healthy": _healthy,
    "shifted": _shifted,
    "encoding": _encoding,
    "misnumbered": _misnumbered,
    "leak": _leak,
    "metric": _metric,
    "threshold": _threshold,
    "cut-short": _short,
    "imbalance": _imbalance,
    "tenth": _tenth,
    "near-duplicates": _repeated,
    "domain": _domain,
    "omitted": _omitted,
    "jittered": _jittered,
    "swapped": _swapped,
    "coarse": _coarse,
    "weak-decoder": _decoder,
    "small-extractor": _small,
    "short-reach": _short_sighted,
    "normalisation": _normalisation,
    "other-family": _other_family,
}

QUICK = (
    *((base, "healthy", 0) for base in ("fire", "texture", "geometry", "human")),
    ("geometry", "threshold", 0),
    ("human", "threshold", 1),
    ("texture", "shifted", 1),
    ("geometry", "shifted", 0),
    ("geometry", "misnumbered", 1),
    ("geometry", "omitted", 1),
    ("texture", "swapped", 1),
    ("geometry", "jittered", 1),
    ("texture", "cut-short", 1),
    ("geometry", "tenth", 1),
    ("geometry", "near-duplicates", 1),
    ("texture", "domain", 1),
    ("geometry", "coarse", 1),
    ("geometry", "small-extractor", 1),
    ("geometry", "short-reach", 0),
    ("fire", "encoding", 0),
    ("texture", "encoding", 1),
    ("geometry", "encoding", 1),
    ("texture", "leak", 0),
    ("geometry", "leak", 1),
    ("fire", "metric", 0),
    ("texture", "metric", 1),
)
"""At least 24 cases over at least 12 plants."""

UNSEEN = (
    ("context", "healthy", 0),
    ("context", "threshold", 1),
    ("context", "omitted", 0),
    ("context", "tenth", 0),
    ("fire_video", "healthy", 0),
    ("fire_video", "threshold", 0),
    ("bubil_cells", "healthy", 0),
    ("bubil_cells", "threshold", 1),
    ("context", "short-reach", 1),
    ("bubil_cells", "jittered", 0),
    ("fire_video", "swapped", 0),
    ("bubil_cells", "shifted", 0),
    ("fire_video", "tenth", 1),
    ("bubil_cells", "weak-decoder", 1),
    ("context", "cut-short", 0),
    ("bubil_cells", "coarse", 0),
    ("fire_video", "other-family", 0),
    ("bubil_cells", "leak", 0),
    ("fire_video", "encoding", 0),
    ("fire_video", "metric", 0),
)
"""Bases that nothing had been fitted on and no diagnosis had been mended by when they were first diagnosed, once; the
truth was made before. One video and one donor validate on the two real ones. They were mended by since."""

BLIND = (
    ("drive_full", "healthy", 0),
    ("crackforest_full", "healthy", 0),
    ("texture-or-shape", "healthy", 0),
    ("drive_full", "shifted", 0),
    ("crackforest_full", "cut-short", 0),
    ("texture-or-shape", "short-reach", 1),
    ("drive_full", "jittered", 1),
    ("crackforest_full", "tenth", 1),
    ("texture-or-shape", "omitted", 0),
    ("drive_full", "weak-decoder", 1),
    ("crackforest_full", "small-extractor", 1),
    ("texture-or-shape", "threshold", 0),
    ("drive_full", "near-duplicates", 0),
    ("crackforest_full", "swapped", 0),
    ("drive_full", "metric", 1),
    ("crackforest_full", "leak", 0),
    ("texture-or-shape", "encoding", 1),
)
"""The same on bases where six groups and more validate."""

FRESH = (
    ("cracks-dealt-anew", "jittered", 1),
    ("isbi_membrane", "shifted", 0),
    ("colour-or-shape", "omitted", 1),
    ("cracks-dealt-anew", "misnumbered", 0),
    ("isbi_membrane", "healthy", 0),
    ("colour-or-shape", "small-extractor", 1),
    ("cracks-dealt-anew", "healthy", 0),
    ("isbi_membrane", "cut-short", 1),
    ("colour-or-shape", "short-reach", 1),
    ("isbi_membrane", "tenth", 0),
    ("cracks-dealt-anew", "domain", 1),
    ("colour-or-shape", "near-duplicates", 1),
    ("isbi_membrane", "coarse", 1),
    ("colour-or-shape", "healthy", 0),
    ("isbi_membrane", "leak", 1),
    ("colour-or-shape", "metric", 0),
    ("cracks-dealt-anew", "encoding", 0),
    ("texture-or-shape", "omitted", 0),
    ("texture-or-shape", "threshold", 0),
    ("drive_full", "near-duplicates", 0),
    ("crackforest_full", "swapped", 0),
    ("crackforest_full", "small-extractor", 1),
    ("drive_full", "weak-decoder", 1),
)
"""The six of `BLIND` that were never diagnosed, and three bases more: membranes, other cracks, other scenes."""

HELD = (
    ("colour-or-context", "healthy", 0),
    ("vessels-dealt-anew", "omitted", 1),
    ("colour-or-context", "short-reach", 1),
    ("vessels-dealt-anew", "domain", 0),
    ("colour-or-context", "jittered", 0),
    ("vessels-dealt-anew", "coarse", 1),
    ("colour-or-context", "domain", 0),
    ("vessels-dealt-anew", "swapped", 1),
    ("colour-or-context", "near-duplicates", 0),
    ("vessels-dealt-anew", "tenth", 1),
    ("colour-or-context", "swapped", 1),
    ("vessels-dealt-anew", "imbalance", 1),
    ("colour-or-context", "threshold", 1),
    ("vessels-dealt-anew", "short-reach", 0),
    ("colour-or-context", "small-extractor", 0),
    ("camvid", "threshold", 0),
    ("camvid", "healthy", 0),
    ("camvid", "shifted", 1),
    ("camvid", "leak", 0),
    ("colour-or-context", "leak", 1),
    ("vessels-dealt-anew", "metric", 0),
    ("colour-or-context", "encoding", 0),
)
"""Other vessels, scenes decided by colour or by what lies far away, and cars in streets, where one drive validates and
next to nothing is learnt of another.
"""

ELSEWHERE = (
    ("gratings", "shifted", 0),
    ("grain", "jittered", 1),
    ("hue", "misnumbered", 0),
    ("bars", "coarse", 1),
    ("gaps", "swapped", 0),
    ("crosses", "tenth", 1),
    ("lamp", "cut-short", 1),
    ("river", "shifted", 1),
    ("dots", "near-duplicates", 1),
    ("plaid", "threshold", 0),
    ("speckle", "domain", 1),
    ("stars", "omitted", 1),
    ("ovals", "jittered", 1),
    ("corners", "swapped", 1),
    ("crowd", "misnumbered", 1),
    ("frame", "tenth", 0),
    ("gratings", "leak", 0),
    ("hue", "omitted", 0),
    ("gaps", "metric", 1),
    ("crosses", "domain", 0),
    ("dots", "threshold", 1),
    ("stars", "small-extractor", 1),
    ("corners", "leak", 1),
    ("lamp", "short-reach", 1),
    ("river", "encoding", 0),
    ("grain", "healthy", 0),
    ("speckle", "healthy", 0),
    ("bars", "healthy", 0),
    ("frame", "metric", 0),
    ("ovals", "encoding", 1),
)
"""Scenes by another hand, on which no diagnosis of a given model had been mended when they were first diagnosed."""

ALL = tuple(
    (base, plant, strength)
    for base in BASES
    if base not in OTHER_KINDS
    for plant in PLANTS
    for strength in ((0,) if plant == "healthy" else (0, 1))
)

SETS = {
    "quick": QUICK,
    "unseen": UNSEEN,
    "blind": BLIND,
    "fresh": FRESH,
    "held": HELD,
    "elsewhere": ELSEWHERE,
    "full": ALL,
}
"""Which cases each flag of the commands stands for."""


def add_sets(parser: argparse.ArgumentParser, default: str) -> None:
    """A flag for each of `SETS`; the name of the one chosen is `set`."""
    for name in SETS:
        parser.add_argument(f"--{name}", dest="set", action="store_const", const=name, default=default)
