"""The extractors that are ranked, and the tasks that they are ranked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from unplateau.data import open_data, read_pictures
from unplateau.data.unlabelled import Unlabelled
from unplateau.pretraining.course import EXTRACTOR, Schooling
from unplateau.pretraining.loop import pretrain_extractor
from unplateau.pretraining.methods import RATES
from unplateau.scenes import scenes
from unplateau.types import Pictures

SIDE, IMAGES = 64, 240
"""Pixels of the working grid where no task says less, and images: small, since the truth trains every pair in full."""

TAUGHT = ("dense", "dino", "simmim")
"""Ways of pretraining by which the same network becomes three."""

RANDOM = (
    "orderless-9-17",
    "reach-5",
    "reach-15",
    "reach-33",
    "unet-8",
    "unet",
    "mobilenetv3_small_100",
    "squeezenet1_1",
)
"""Networks without any pretraining: one without order, three of bounded reach, two sizes of one that sees all, two of
other kinds."""

REPORTED_SEED, MADE_ON_SEED = 7_000, 8_000
"""Of planted tasks: those that are reported, and those that the rule was made on."""


@dataclass(frozen=True)
class Problem:
    """A task: planted scenes of a `kind`, or, where there is none, a set with its positive class.

    The rule was made on those not `held`; on planted ones with other scenes.
    """

    name: str
    positive: int = 1
    side: int = SIDE
    kind: str = ""
    seed: int = REPORTED_SEED
    held: bool = False


PROBLEMS = (
    Problem("human"),
    Problem("context", side=48, kind="context"),
    Problem("geometry", side=48, kind="geometry"),
    Problem("texture", side=48, kind="texture"),
    Problem("fire", side=48, kind="fire", held=True),
    Problem("fire_video", held=True),
    Problem("camvid", 8, held=True),
)

MADE_ON = tuple(
    Problem(f"{kind}, made on", side=48, kind=kind, seed=MADE_ON_SEED) for kind in ("context", "geometry", "texture")
)
"""Scenes that the rule was made on, beside people; not in the means."""


def pictures_of(problem: Problem, data: Path) -> Pictures:
    """The images of a task. Planted ones have another seed than the chart, which would else rank by its own scenes."""
    if problem.kind:
        source = open_data(scenes(problem.kind, IMAGES, size=(problem.side, problem.side), seed=problem.seed))
    else:
        source = open_data(data / problem.name)
    return read_pictures(source, positive=[problem.positive], size=problem.side, limit=IMAGES, seed=0)


def extractors(data: Path, weights: Path, folder: Path, *, steps: int = 60) -> dict[str, str]:
    """What `build_extractor` is asked for, by the name in the table. Three are pretrained here, unless they are there.

    They learn from images of every task, without masks: what a person who has the images could do.
    """
    made = {name: name for name in RANDOM}
    for method in TAUGHT:
        out = folder / f"unet-{method}"
        if not (out / EXTRACTOR).is_file():
            _teach(method, _pool(data), out, steps)
        made[f"unet, {method}"] = str(out / EXTRACTOR)
    made["squeezenet, ImageNet"] = str(weights)
    return made


def _pool(data: Path) -> Unlabelled:
    images = torch.cat([_square(pictures_of(problem, data).images[:48]) for problem in PROBLEMS])
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    return Unlabelled(images[order], tuple(f"image {place}" for place in range(len(order))), len(order))


def _square(images: torch.Tensor) -> torch.Tensor:
    resized = torch.nn.functional.interpolate(images.float(), size=(48, 48), mode="bilinear", align_corners=False)
    return resized.round().to(torch.uint8)


def _teach(method: str, pool: Unlabelled, out: Path, steps: int) -> None:
    schooling = Schooling(method, steps, learning_rate=RATES[method])
    pretrain_extractor(pool, extractor="unet", schooling=schooling, seed=0, folder=out, told=lambda *_: None)
