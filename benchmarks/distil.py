"""How much of a fused extractor's gain does a distilled student keep, and in how much of its time?

    python -m benchmarks.distil ../shared/data ../shared/weights/squeezenet1_1_imagenet_features.safetensors

On each split the baseline and the fused extractor (the baseline's network beside the frozen checkpoint) are trained
under the same f by the same recipe. The fused model then teaches a student on the images that train and choose,
without their masks; the images that report are seen by nobody. Then the student is trained under the same f by the same
recipe on the same split: distilled and with the fused model as its `teacher`, with that teacher alone, and as it began.
Prints a Markdown table; the last lines are the kept share of the fused gain and the ratio of inference times. What an
interrupted run finished is kept in `--out` and not trained again.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from torch import Tensor

from unplateau.data import open_data, read_pictures
from unplateau.data.splits import split
from unplateau.data.unlabelled import Unlabelled
from unplateau.diagnosis.diagnose import RECIPE, fitting
from unplateau.experiments.views import measure_objects
from unplateau.extractors.fused import fused_name
from unplateau.pretraining.course import EXTRACTOR, Schooling
from unplateau.training.recipe import Recipe
from unplateau.training.saved import load_model
from unplateau.training.scoring import answer
from unplateau.training.train import train_model
from unplateau.types import Pictures
from unplateau.upgrades.distil import distil_extractor, kept_lesson, rate_of
from unplateau.upgrades.teachers import open_teacher

KEPT, TIME = 0.9, 0.4
"""The target: at least this share of the gain in at most this share of the time."""

REPEATS, TIMED = 15, 16
"""The least time of so many passes over so many images: other work on the machine only ever adds."""


def trained(
    pictures: Pictures, extractor: str, recipe: Recipe, seed: int, folder: Path, teacher: Path | None = None
) -> float:
    """IoU on the images that chose nothing; the model is left in `folder`."""
    facts = train_model(
        pictures,
        extractor=extractor,
        decoder="linear",
        frozen=False,
        recipe=recipe,
        seed=seed,
        folder=folder,
        teacher=teacher,
    )
    return facts["iou"]


def distilled(
    pictures: Pictures, teacher: Path, student: str, args: argparse.Namespace, seed: int, folder: Path
) -> str:
    """The student's file; images that report are not looked at."""
    fold = split(pictures, seed=seed)[0]
    seen = sorted({*fold.fit, *fold.inner})
    pool = Unlabelled(pictures.images[seen], tuple(pictures.names[index] for index in seen), len(seen))
    schooling = Schooling("distil", args.distil_steps, batch=args.distil_batch, learning_rate=rate_of(student))
    series = distil_extractor(
        pool,
        teachers=(open_teacher(teacher),),
        weights=(1.0,),
        student=student,
        schooling=schooling,
        seed=seed,
        folder=folder,
        told=lambda *_: None,
    )
    explained = kept_lesson(series, (1.0,)).explained[0]
    print(f"split {seed}: {short(student)} explains {explained:.0%} of its teacher on held-out images", flush=True)
    return str(folder / EXTRACTOR)


def short(student: str) -> str:
    """A name for tables and folders."""
    return Path(student).name.partition("_")[0]


def milliseconds(folder: Path, images: Tensor) -> float:
    """Inference of a trained model, a picture: time of one core, which other work on the machine changes little."""
    model = load_model(folder).model
    model.to(memory_format=torch.channels_last)
    taken = []
    for _ in range(REPEATS):
        start = time.process_time()
        answer(model, images)
        taken.append(time.process_time() - start)
    return 1000 * min(taken) / len(images)


def on_split(pictures: Pictures, recipe: Recipe, args: argparse.Namespace, seed: int) -> dict[str, float]:
    """IoU of each model on one split, by name."""
    folder, found = args.out / str(seed), {}
    for name, extractor in (("baseline", args.baseline), ("fused", fused_name(args.baseline, str(args.weights)))):
        found[name] = trained(pictures, extractor, recipe, seed, folder / name)
        print(f"split {seed}: {name} {found[name]:.3f}", flush=True)
    for student in args.students:
        name = short(student)
        file = distilled(pictures, folder / "fused", student, args, seed, folder / f"{name} taught")
        ways = {
            f"{name} distilled": (file, folder / "fused"),
            f"{name} taught alone": (student, folder / "fused"),
            f"{name} as it began": (student, None),
        }
        for label, (extractor, teacher) in ways.items():
            found[label] = trained(pictures, extractor, recipe, seed, folder / label, teacher)
            print(f"split {seed}: {label} {found[label]:.3f}", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="the folder that holds the sets")
    parser.add_argument("weights", type=Path, help="the checkpoint to fuse with")
    parser.add_argument("--set", default="human")
    parser.add_argument("--positive", type=int, default=1)
    parser.add_argument("--baseline", default="unet")
    parser.add_argument("--students", nargs="+", default=[], help="names, or files; the checkpoint by default")
    parser.add_argument("--size", type=int, default=80)
    parser.add_argument("--limit", type=int, default=250)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--distil-steps", type=int, default=300)
    parser.add_argument("--distil-batch", type=int, default=8)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1], help="one split each")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark-distil"))
    args = parser.parse_args()
    args.students = args.students or [str(args.weights)]
    torch.set_num_threads(1)
    pictures = read_pictures(
        open_data(args.data / args.set), positive=[args.positive], size=args.size, limit=args.limit, seed=0
    )
    recipe = fitting(Recipe(**{**vars(RECIPE), "steps": args.steps}), measure_objects(pictures).diameter)
    rows = [on_split(pictures, recipe, args, seed) for seed in args.seeds]
    times = {name: milliseconds(args.out / str(args.seeds[0]) / name, pictures.images[:TIMED]) for name in rows[0]}
    print(f"| model | {' | '.join(f'IoU, split {seed}' for seed in args.seeds)} | mean | ms an image |")
    print(f"|{'---|' * (len(rows) + 3)}")
    mean = {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}
    for name in rows[0]:
        print(f"| {name} | {' | '.join(f'{row[name]:.3f}' for row in rows)} | {mean[name]:.3f} | {times[name]:.2f} |")
    gain = mean["fused"] - mean["baseline"]
    for name in list(rows[0])[2:]:
        share, ratio = (mean[name] - mean["baseline"]) / gain, times[name] / times["fused"]
        met = "met" if share >= KEPT and ratio <= TIME else "MISSED"
        print(f"{name}: {share:.0%} of the fused gain of {gain:+.3f} in {ratio:.0%} of its time: target {met}")


if __name__ == "__main__":
    main()
