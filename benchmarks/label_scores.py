"""Do our label scores find planted errors better than cleanlab's softmin, faster, and in less memory?

    python -m benchmarks.label_scores ../shared/data
    python -m benchmarks.label_scores --saved maps/          # answers saved before with --keep maps/

Errors are put into a fifth of the images of four sets; the top rung is trained on the wrong masks, three folds, and
both methods rank the images from the very same unseen answers. Prints the average precision (lowest score first) over
the images whose mask was changed; the microseconds an image of each call, and for cleanlab also with making the
probabilities that it takes; and the kB by which each further image raises the peak of memory. camvid chose nothing of
the scores: it is the set to look at first.
"""

from __future__ import annotations

import argparse
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.truth import plants
from unplateau.data import open_data, read_pictures, split
from unplateau.diagnosis.diagnose import RECIPE
from unplateau.errors import MissingExtra
from unplateau.experiments.fits import Fit, run_fits
from unplateau.measures.label_scores import score_labels
from unplateau.measures.thresholds import BINS
from unplateau.types import IGNORE, Sample

POSITIVE = {"bubil_cells": 1, "camvid": 8, "crackforest_full": 1, "human": 1}
SIDE, SIZE, IMAGES, FOLDS, BAD = 224, 112, 240, 3, 0.2
REPEATS = 5

Scorer = Callable[[], NDArray[np.float64]]


@dataclass(frozen=True)
class Case:
    """A set with one plant: masks as given and as they were (N, H, W), answers (N, 1, H, W), models (N,)."""

    name: str
    masks: NDArray[np.uint8]
    clean: NDArray[np.uint8]
    answers: NDArray[np.uint8]
    models: NDArray[np.int64]

    @property
    def bad(self) -> NDArray[np.bool_]:
        return np.asarray((self.masks != self.clean).any((1, 2)))


# ---- the cases -----------------------------------------------------------------------------------------------


def samples_of(folder: Path, positive: int) -> list[Sample]:
    """At most `IMAGES` of a set, evenly over it, with a long side of `SIDE` and the class in question as 1."""
    source = open_data(folder)
    picked = np.unique(np.linspace(0, len(source) - 1, min(IMAGES, len(source))).round().astype(int))
    return [_small(source.sample(index), positive) for index in picked.tolist()]


def _small(sample: Sample, positive: int) -> Sample:
    mask = np.where(sample.mask == IGNORE, IGNORE, sample.mask == positive).astype(np.uint8)
    scale = SIDE / max(mask.shape)
    size = (round(mask.shape[1] * scale), round(mask.shape[0] * scale))
    image = np.asarray(Image.fromarray(sample.image).resize(size, Image.Resampling.BOX))
    return replace(
        sample, image=image, mask=np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST)), split=""
    )


def planted(samples: list[Sample], seed: int) -> Iterator[tuple[str, list[Sample]]]:
    """The samples with an error of each kind in a share `BAD` of them, always the same ones."""
    rng = np.random.default_rng(seed)
    places = sorted(rng.choice(len(samples), round(BAD * len(samples)), replace=False).tolist())
    chosen = [samples[place] for place in places]
    for kind, made in {
        "omitted": plants.omitted(chosen, 0.6, 1, rng),
        "jittered": plants.jittered(chosen, 6, 1, rng),
        "swapped": plants.swapped(chosen, 1.0, rng),
    }.items():
        wrong = dict(zip(places, made, strict=True))
        yield kind, [wrong.get(place, each) for place, each in enumerate(samples)]


def trained(name: str, samples: list[Sample], base: list[Sample], seed: int) -> Case:
    """Answers of the top rung, trained in folds on the masks as they are given."""
    read = partial(read_pictures, positive=[1], size=SIZE, seed=seed)
    pictures, clean = read(open_data(samples)), read(open_data(base))
    folds = split(pictures, folds=FOLDS, seed=seed)
    fits = [
        Fit("top", "unet", "linear", False, False, "image", number, fold, RECIPE, number, maps=fold.report)
        for number, fold in enumerate(folds)
    ]
    with TemporaryDirectory() as cache:
        fitted = run_fits(fits, {"image": pictures}, Path(cache), lambda *_: None)
    answers = np.zeros((len(pictures), 1, *pictures.size), np.uint8)
    models = np.zeros(len(pictures), np.int64)
    for number, (fold, outcome) in enumerate(zip(folds, fitted, strict=True)):
        answers[list(fold.report)], models[list(fold.report)] = outcome.maps, number
    return Case(name, pictures.masks.numpy(), clean.masks.numpy(), answers, models)


def cases(data: Path, keep: Path | None, seed: int) -> Iterator[Case]:
    for name, positive in POSITIVE.items():
        base = samples_of(data / name, positive)
        for kind, samples in planted(base, seed):
            case = trained(f"{name}-{kind}", samples, base, seed)
            if keep:
                keep.mkdir(parents=True, exist_ok=True)
                np.savez_compressed(
                    keep / f"{case.name}.npz",
                    masks=case.masks,
                    clean=case.clean,
                    answers=case.answers,
                    models=case.models,
                )
            yield case


def saved(folder: Path) -> Iterator[Case]:
    for path in sorted(folder.glob("*.npz")):
        with np.load(path) as kept:
            yield Case(path.stem, *(kept[name] for name in ("masks", "clean", "answers", "models")))


# ---- the two methods -----------------------------------------------------------------------------------------


def softmin(case: Case) -> tuple[Scorer, Scorer]:
    """cleanlab's default on probabilities that are there already, and with making them of the saved answers."""
    try:
        from cleanlab.segmentation.rank import get_label_quality_scores  # type: ignore[import-not-found]
    except ImportError as error:
        raise MissingExtra("cleanlab", needed_for="the comparison") from error
    # It knows no pixel that does not count: such pixels are of the ground.
    labels = (case.masks == 1).astype(np.int64)

    def probabilities() -> NDArray[np.float64]:
        positive = case.answers[:, 0] / BINS
        return np.stack([1 - positive, positive], axis=1)

    made = probabilities()

    def scores(given: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(get_label_quality_scores(labels, given, verbose=False)[0])

    return lambda: scores(made), lambda: scores(probabilities())


def average_precision(bad: NDArray[np.bool_], scores: NDArray[np.float64]) -> float:
    """Mean precision at each bad image when the lowest score is looked at first."""
    ordered = bad[np.argsort(scores, kind="stable")]
    precision = np.cumsum(ordered) / np.arange(1, len(ordered) + 1)
    return float(precision[ordered].mean())


def seconds(scorer: Scorer) -> float:
    """The quickest of a few calls, in processor time: others may use the machine."""
    taken = []
    for _ in range(REPEATS):
        start = time.process_time()
        scorer()
        taken.append(time.process_time() - start)
    return min(taken)


def repeated(case: Case, times: int) -> Case:
    """The same images so many times over."""
    every = np.tile(np.arange(len(case.masks)), times)
    return replace(case, masks=case.masks[every], answers=case.answers[every], models=case.models[every])


def peak(scorer: Scorer) -> float:
    """Memory at its peak beyond what was there before, in kB."""
    tracemalloc.start()
    scorer()
    highest = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return highest / 1000


def growth(scorer: Callable[[int], Scorer], images: int) -> float:
    """kB that each further image adds to the peak: four times as many against once."""
    return (peak(scorer(4)) - peak(scorer(1))) / (3 * images)


def row(case: Case) -> tuple[str, float, float]:
    def ours(times: int = 1) -> Scorer:
        more = repeated(case, times)
        return lambda: score_labels(more.masks, more.answers, more.models)

    def theirs(times: int = 1) -> Scorer:
        return softmin(repeated(case, times))[1]

    peer, peer_whole = softmin(case)
    precise = [average_precision(case.bad, scorer()) for scorer in (ours(), peer)]
    taken = [1e6 * seconds(scorer) / len(case.masks) for scorer in (ours(), peer, peer_whole)]
    held = [growth(of, len(case.masks)) for of in (ours, theirs)]
    name, kind = case.name.rsplit("-", 1)
    said = f"| {name} | {kind} | {case.bad.mean():.2f} | {precise[0]:.3f} | {precise[1]:.3f} "
    said += f"| {precise[0] - precise[1]:+.3f} | {taken[0]:.0f} | {taken[1]:.0f} | {taken[2]:.0f} "
    said += f"| {taken[1] / taken[0]:.1f} | {held[0]:.2f} | {held[1]:.0f} |"
    return said, precise[0] - precise[1], taken[1] / taken[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", type=Path, default=Path("../shared/data"))
    parser.add_argument("--saved", type=Path, help="folder of answers saved before, instead of training")
    parser.add_argument("--keep", type=Path, help="folder to save the answers to")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    print("| set | error | share | AP ours | AP softmin | gain | us ours | us softmin | us whole | times | kB | kB |")
    print("|---|---|---|---|---|---|---|---|---|---|---|---|")
    rows = []
    for case in saved(args.saved) if args.saved else cases(args.data, args.keep, args.seed):
        said, gain, times = row(case)
        rows.append((gain, times))
        print(said, flush=True)
    gains, times = np.array(rows).T
    print(f"\nmean gain {gains.mean():+.3f}, least {gains.min():+.3f}; least times as fast {times.min():.1f}")


if __name__ == "__main__":
    main()
