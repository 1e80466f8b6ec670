"""The eye chart: what an extractor supplies of each family, read off planted scenes of graded difficulty.

Each family has scenes that nothing but it decides, in four grades, of which only that counts: objects by their shape or
place, without the ground. What an extractor adds to colour alone, of what there is to add, is the acuity of that grade,
and the mean over the grades that of the family. Twice: at rest, the extractor frozen as it came and read by a light
decoder that adds no reach, beside colour; and taught, after the same short lesson on other such scenes for every
extractor, since what will be trained supplies what it can learn. Beside the families, colour: how much of what a pixel
says alone arrives, which coarse maps lose.

Axes: N scenes, G grades, S seeds, R resamples.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unplateau.data.pictures import read_pictures
from unplateau.data.sources import open_data
from unplateau.extractors.base import AbstractExtractor
from unplateau.measures.intervals import RESAMPLES, Draws, interval
from unplateau.measures.scoring import score_images
from unplateau.measures.thresholds import best_threshold, counts_at, iou
from unplateau.model import pad_to
from unplateau.scenes import ALONE, plant
from unplateau.scenes.base import Difficulty
from unplateau.types import IGNORE, Characteristics, Interval, Size
from unplateau.upgrades.cache import BATCH, Part, features, forward, identity
from unplateau.upgrades.lesson import Pupil, taught
from unplateau.upgrades.probe import Truth, deal, probe

CHART = 3
"""Version of the chart: acuities of different versions do not compare."""

SMALLEST_SIDE = 32
"""Of a scene, below which its objects have no room."""

SCENES = 24
"""Scenes of a grade and seed: half of them teach the decoder, the other half are read, and the reverse."""

SEEDS = 2
"""How often everything is drawn anew."""

LESSON_SEED = 900
"""Added to the seed for scenes that only a lesson shows."""

LESSON_GRADES = 2
"""The easiest grades are taught: what is learnt there is read on all."""

LESSON_SCENES = 4
"""Of each family in a step of the lesson, cut to windows of the smallest side."""

COLOUR = "colour"
"""What is charted beside the families: it is in every image, and an extractor can only keep it."""


@dataclass(frozen=True)
class Grade:
    """One line of the chart: the scenes' `kind`, how hard they are, and their side from 0 (smallest) to 1 (`size`)."""

    kind: str
    difficulty: Difficulty
    side: float = 1.0


CHARTS: dict[str, tuple[Grade, ...]] = {
    COLOUR: (
        Grade("colour", Difficulty(0.02, 1.2, 4)),
        Grade("colour", Difficulty(0.04, 0.9, 5)),
        Grade("colour", Difficulty(0.06, 0.6, 6)),
        Grade("colour", Difficulty(0.08, 0.4, 6)),
    ),
    "textural": (
        Grade("texture", Difficulty(0.02, 1.2, 4)),
        Grade("texture", Difficulty(0.04, 0.9, 5)),
        Grade("texture", Difficulty(0.06, 0.6, 6)),
        Grade("texture", Difficulty(0.08, 0.4, 6)),
    ),
    "geometric": (
        Grade("geometry", Difficulty(0.02, 1.4, 9)),
        Grade("geometry", Difficulty(0.03, 1.1, 9)),
        Grade("geometry", Difficulty(0.05, 0.8, 9)),
        Grade("geometry-arrangement", Difficulty(0.02, 1.4, 9)),
    ),
    # What makes context hard is how far away it is, in pixels: the scenes grow, all else stays.
    "semantic": (
        Grade("context", Difficulty(0.03, 1.0, 6), 0.0),
        Grade("context", Difficulty(0.03, 1.0, 6), 1 / 3),
        Grade("context", Difficulty(0.03, 1.0, 6), 2 / 3),
        Grade("context", Difficulty(0.03, 1.0, 6), 1.0),
    ),
}
"""The grades of each family, easiest first; their kinds are those of `scenes.ALONE`."""


@dataclass(frozen=True)
class Line:
    """What was read of one grade: its IoU, that of no acuity (colour alone) and of all, and the share between them."""

    grade: int
    kind: str
    side: int
    iou: float
    none: float
    whole: float
    acuity: Interval


@dataclass(frozen=True)
class Acuity:
    """Of one family: the mean over its grades, below 0 where colour did better, over scenes and seeds."""

    family: str
    acuity: Interval
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Chart:
    """What one extractor supplies. `identity` is that of its weights; an image of the chart costs `milliseconds`."""

    extractor: str
    identity: str
    pretrained: bool
    reach: float
    parameters: int
    milliseconds: float
    seconds: float
    rest: tuple[Acuity, ...]
    taught: tuple[Acuity, ...]


def chart(
    name: str, extractor: AbstractExtractor, folder: Path, *, size: int, seed: int, at_rest: bool = True
) -> Chart:
    """The chart of one extractor, called `name`, with scenes of up to `size` pixels a side.

    What is read at rest is left out unless `at_rest`: a choice has no use for it. `folder` holds the characteristics
    while they are read, and is removed once they have been.

    Raises:
        OutputError: `folder` cannot be written.
    """
    start, mark = time.perf_counter(), identity(extractor)
    milliseconds = cost(extractor, (size, size))
    asked = tuple(CHARTS) if at_rest else ()
    rest = tuple(_acuity(family, partial(_read, extractor, folder / family), size, seed) for family in asked)
    pupil = taught(extractor, partial(_lesson_scenes, size, seed), tuple(CHARTS), seed)
    after = tuple(_acuity(family, partial(_answered, pupil, family), size, seed) for family in CHARTS)
    shutil.rmtree(folder, ignore_errors=True)
    return Chart(
        extractor=name,
        identity=mark,
        pretrained=extractor.pretrained,
        reach=extractor.reach,
        parameters=sum(weight.numel() for weight in extractor.parameters()),
        milliseconds=milliseconds,
        seconds=time.perf_counter() - start,
        rest=rest,
        taught=after,
    )


def cost(extractor: AbstractExtractor, size: Size, batch: int = BATCH) -> float:
    """Milliseconds an image of `size` pixels costs in a batch; the fastest of several, which others disturb least."""
    images = torch.zeros(batch, 3, *size, dtype=torch.uint8)
    forward(extractor, images)
    return min(_timed(extractor, images) for _ in range(3)) * 1000 / batch


def _timed(extractor: AbstractExtractor, images: Tensor) -> float:
    start = time.perf_counter()
    # Reading a value waits for a device that works on its own.
    float(forward(extractor, images).levels[0].flatten()[0])
    return time.perf_counter() - start


# ---- the scenes ----------------------------------------------------------------------------------------------


def side_of(grade: Grade, size: int) -> int:
    """Side in pixels of the scenes of a grade, on a chart of `size`."""
    return round(SMALLEST_SIDE + grade.side * (size - SMALLEST_SIDE))


@cache
def _scenes(grade: Grade, size: int, seed: int, count: int = SCENES) -> tuple[Tensor, Tensor]:
    """Images uint8 (N, 3, H, W) and masks uint8 (N, H, W); kept, for every extractor reads the same ones."""
    side = side_of(grade, size)
    drawn = plant(ALONE[grade.kind], count, name=grade.kind, size=(side, side), seed=seed, difficulty=grade.difficulty)
    pictures = read_pictures(open_data(drawn), positive=[1], size=side)
    return pictures.images, pictures.masks


def _shown(grade: Grade, size: int, seed: int) -> tuple[Tensor, Tensor]:
    """The scenes of a grade as they are read: in the middle window, the size of the lesson, unless they must be whole.

    Coarse maps see little but borders at these sizes, and other borders at another size.
    """
    images, masks = _scenes(grade, size, seed)
    if grade.kind == "context":
        return images, masks
    first = (int(images.shape[-1]) - SMALLEST_SIDE) // 2
    window = slice(first, first + SMALLEST_SIDE)
    return images[..., window, window], masks[:, window, window]


def _lesson_scenes(size: int, seed: int, step: int) -> dict[str, tuple[Tensor, Tensor]]:
    """What one step of a lesson shows of each family: the easiest grades take turns, each cut to a random window."""
    generator = torch.Generator().manual_seed(seed * 100_003 + step)
    return {family: _window(family, size, seed, step, generator) for family in CHARTS}


def _window(family: str, size: int, seed: int, step: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    # Context must be whole in the window, which it is in its first grade alone.
    grade = CHARTS[family][0 if CHARTS[family][0].kind == "context" else step % LESSON_GRADES]
    images, masks = _scenes(grade, size, seed + LESSON_SEED, 3 * SCENES)
    chosen = torch.randint(0, len(images), (LESSON_SCENES,), generator=generator)
    places = (*_rooms(images), 4)
    top, left, mirrored = (int(torch.randint(0, most, (), generator=generator)) for most in places)
    rows, columns = slice(top, top + SMALLEST_SIDE), slice(left, left + SMALLEST_SIDE)
    axes = [axis for axis, bit in ((-1, 1), (-2, 2)) if mirrored & bit]
    return images[chosen][..., rows, columns].flip(axes), masks[chosen][:, rows, columns].flip(axes)


def _rooms(images: Tensor) -> tuple[int, int]:
    """At how many rows and columns a window of the smallest side may begin."""
    return int(images.shape[-2]) - SMALLEST_SIDE + 1, int(images.shape[-1]) - SMALLEST_SIDE + 1


# ---- reading -------------------------------------------------------------------------------------------------

Reading = Callable[[Grade, int, int], NDArray[np.int64]]
"""Counts (N, 3) of the scenes of a grade, of so many pixels, drawn by a seed."""


def _acuity(family: str, reading: Reading, size: int, seed: int) -> Acuity:
    generator = np.random.default_rng(seed)
    grades = CHARTS[family]
    # The same seeds are drawn for every grade, so that a lucky seed is lucky as a whole.
    drawn = generator.integers(0, SEEDS, (RESAMPLES, SEEDS))
    lines, draws = [], []
    for number, grade in enumerate(grades):
        ours = np.stack([reading(grade, size, seed + place) for place in range(SEEDS)])
        none, whole = (np.stack(each) for each in zip(*_all_bounds(family, grade, size, seed), strict=True))
        draws.append(_resampled((ours, none, whole), drawn, generator))
        reached, lowest, highest = (_pooled(counts) for counts in (ours, none, whole))
        found = interval(float(np.mean(_normalised(reached, lowest, highest))), draws[-1])
        low, high = float(lowest.mean()), float(highest.mean())
        lines.append(Line(number, grade.kind, side_of(grade, size), float(reached.mean()), low, high, found))
    mean = float(np.mean([line.acuity.mean for line in lines]))
    return Acuity(family, interval(mean, np.mean(draws, axis=0)), tuple(lines))


def _all_bounds(family: str, grade: Grade, size: int, seed: int) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    return [_bounds(family, grade, size, seed + place) for place in range(SEEDS)]


def _read(extractor: AbstractExtractor, folder: Path, grade: Grade, size: int, seed: int) -> NDArray[np.int64]:
    """What the light decoder reads beside colour."""
    images, masks = _shown(grade, size, seed)
    own = folder / f"{grade.kind}-{grade.difficulty.noise}-{side_of(grade, size)}-{seed}"
    return probe(partial(beside_colour, extractor, images, own), _truth(masks, seed), seed)[:, 0]


def _answered(pupil: Pupil, family: str, grade: Grade, size: int, seed: int) -> NDArray[np.int64]:
    """What the rules of the lesson say; the threshold of each half of the scenes is the best one of the other."""
    images, masks = _shown(grade, size, seed)
    table = score_images(pupil.answers(family, images).numpy(), masks.numpy())
    halves = np.arange(0, len(masks), 2), np.arange(1, len(masks), 2)
    counts = np.zeros((len(masks), 3), np.int64)
    for own, other in (halves, halves[::-1]):
        counts[own] = counts_at(table.take(own), best_threshold(table.take(other)))[:, 0]
    return counts


def _truth(masks: Tensor, seed: int) -> Truth:
    names = [str(place) for place in range(len(masks))]
    return Truth(masks, 1, deal(names, [float((mask == 1).sum()) for mask in masks], seed))


@cache
def _bounds(family: str, grade: Grade, size: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Counts (N, 3) of what has no acuity and of what has all of it: colour alone, and every pixel right.

    Of colour itself: that everything is positive, and colour alone.
    """
    images, masks = _shown(grade, size, seed)
    alone = probe(partial(colour_parts, images), _truth(masks, seed), seed)[:, 0]
    true = (masks == 1).flatten(1).sum(1).numpy()
    everything = (masks != IGNORE).flatten(1).sum(1).numpy()
    if family == COLOUR:
        return np.stack([true, everything, true], axis=1), alone
    return alone, np.stack([true, true, true], axis=1)


def colour_parts(images: Tensor) -> Iterator[Part]:
    """The trivial answer's characteristics: the colour of a pixel, of its 5 x 5 surroundings, and their products."""
    for first in range(0, len(images), BATCH):
        yield Part(first, Characteristics((_colour(images[first : first + BATCH]),), (1,)), True)


def beside_colour(extractor: AbstractExtractor, images: Tensor, folder: Path) -> Iterator[Part]:
    """What an extractor gives, through the cache in `folder`, and beside it what colour gives.

    Colour is in the image for any decoder to take: what counts is what an extractor adds to it.
    """
    stride = max(level.stride for level in extractor.gives)
    for part in features(extractor, images, folder):
        given = part.characteristics
        colour = _colour(pad_to(images[part.first : part.first + len(part)].float(), stride))
        yield replace(part, characteristics=Characteristics((*given.levels, colour), (*given.strides, 1)))


def _colour(images: Tensor) -> Tensor:
    """Images (B, 3, H, W), 0..255, to (B, 27, H, W)."""
    own = images.float().div(255)
    smooth = torch.nn.functional.avg_pool2d(own, 5, 1, padding=2, count_include_pad=False)
    plain = torch.cat([own, smooth], dim=1)
    rows, columns = torch.triu_indices(plain.shape[1], plain.shape[1])
    return torch.cat([plain, plain[:, rows] * plain[:, columns]], dim=1)


def _pooled(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """IoU (S,) of the pooled pixels of each seed's scenes."""
    return iou(counts.sum(1))


def _normalised(
    reached: NDArray[np.float64], lowest: NDArray[np.float64], highest: NDArray[np.float64]
) -> NDArray[np.float64]:
    return (reached - lowest) / np.maximum(highest - lowest, 1e-9)


def _resampled(
    counted: tuple[NDArray[np.int64], ...], drawn: NDArray[np.int64], generator: np.random.Generator
) -> Draws:
    """Draws (R,) of a grade's acuity: the seeds `drawn` (R, S), and the scenes of each seed anew.

    `counted` are the counts (S, N, 3) of the extractor, and of no and of all acuity.
    """
    seeds, count = counted[0].shape[:2]
    picks = generator.integers(0, count, (RESAMPLES, seeds, count))
    chosen = drawn[..., None]
    return _normalised(*(iou(counts[chosen, picks].sum(2)) for counts in counted)).mean(1)
