"""Wrong masks that come back on other images are found where pictures are there twice, and only there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from unplateau.checks.check import UNMEASURED
from unplateau.checks.shuffled import (
    BACK,
    SHUFFLED,
    ShuffledCheck,
    ShuffledMeasured,
    exchange,
    same_masks,
    shuffled_fit,
)
from unplateau.data import open_data, read_pictures
from unplateau.experiments.fits import run_fit
from unplateau.experiments.plan import make_fits, make_plan
from unplateau.experiments.run import Run
from unplateau.experiments.views import Objects
from unplateau.training.recipe import Recipe
from unplateau.types import Fold, Interval, Sample, Verdict

COUNT, SIDE = 12, 32


def scenes_of(count: int, seed: int) -> list[Sample]:
    """A bright disc, class 1, on a ground of a colour of its own with large blotches."""
    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    samples = []
    for index in range(count):
        top, left = generator.uniform(7, SIDE - 7, 2)
        mask = ((rows - top) ** 2 + (columns - left) ** 2 < 36).astype(np.uint8)
        blotches = np.kron(generator.integers(0, 90, (4, 4, 3)), np.ones((SIDE // 4, SIDE // 4, 1)))
        image = blotches + generator.integers(0, 70, 3) + 90 * mask[..., None]
        samples.append(Sample(f"s{seed}-{index:02d}", image.astype(np.uint8), mask, f"g{seed}-{index}"))
    return samples


def run_of(others: list[Sample]) -> Run:
    """A run that trains on a dozen images and reports others."""
    source = open_data([*scenes_of(COUNT, 0), *others])
    pictures = read_pictures(source, positive=[1], size=SIDE, seed=0)
    place = {name: index for index, name in enumerate(pictures.names)}
    fit = tuple(index for name, index in place.items() if name.startswith("s0"))
    report = tuple(index for name, index in place.items() if not name.startswith("s0"))
    fold = Fold(fit, fit[:2], report)
    return Run(
        source,
        pictures,
        (fold,),
        Objects.discs(12.0),
        make_plan(Objects.discs(12.0), pictures.size, baseline="unet-8"),
        {},
        0,
    )


def measured(run: Run) -> ShuffledMeasured:
    own = next(
        fit for fit in make_fits(run.plan, run.pictures, run.folds, Recipe(), 0) if fit.name == run.plan.baseline
    )
    made = shuffled_fit(own, run.pictures, run.seed)
    assert made is not None
    found = ShuffledCheck().measure(replace(run, outcomes={SHUFFLED: (run_fit(*made),)}))
    assert found is not None
    return found


def twins() -> list[Sample]:
    """The same pictures under other names, a little brighter."""
    return [
        replace(each, name=f"t{each.name}", group=f"t{each.group}", image=(each.image + 3).astype(np.uint8))
        for each in scenes_of(COUNT, 0)
    ]


def test_pictures_on_both_sides_bring_wrong_masks_back():
    found = measured(run_of(twins()))
    assert found.same == COUNT
    assert found.others.low > BACK
    assert ShuffledCheck().judge(found).verdict is Verdict.CONCERN


def test_other_pictures_bring_none_back():
    found = measured(run_of(scenes_of(COUNT, 1)))
    assert found.same <= 1
    assert ShuffledCheck().judge(found).verdict is Verdict.SOUND


def test_without_its_training_it_is_not_measured():
    check = ShuffledCheck()
    assert check.judge(check.measure(run_of(scenes_of(4, 1)))).claim == UNMEASURED


@pytest.mark.parametrize(
    ("seen", "others", "verdict"),
    [
        (0.5, Interval(0.2, 0.1, 0.3), Verdict.CONCERN),
        (0.5, Interval(-0.1, -0.2, 0.0), Verdict.SOUND),
        (0.5, Interval(0.1, -0.1, 0.3), Verdict.UNDETERMINED),
        (0.05, Interval(-0.1, -0.2, 0.0), Verdict.UNDETERMINED),
    ],
)
def test_what_was_not_learnt_cannot_come_back(seen, others, verdict):
    assert ShuffledCheck().judge(ShuffledMeasured(seen, others, 0)).verdict is verdict


# ---- the exchange --------------------------------------------------------------------------------------------


def test_no_image_keeps_its_mask_and_the_same_mask_is_always_given_the_same_other():
    run = run_of(twins())
    made = exchange(run.pictures, run.folds[0], 0)
    assert made is not None
    pairs = same_masks(run.pictures, made.parts.fit, made.parts.report)
    assert len(pairs) == COUNT
    for first, second in pairs.items():
        assert (made.pictures.masks[first] == made.pictures.masks[second]).all()
        assert not (made.pictures.masks[first] == run.pictures.masks[first]).all()


def test_an_exchange_leaves_images_and_what_takes_no_part_alone():
    run = run_of(scenes_of(40, 1))
    made = exchange(run.pictures, run.folds[0], 0)
    assert made is not None
    assert (made.pictures.images == run.pictures.images).all()
    others = sorted(set(range(len(run.pictures))) - {*made.parts.fit, *made.parts.report})
    assert others
    assert (made.pictures.masks[others] == run.pictures.masks[others]).all()


def test_images_without_the_class_take_no_part():
    run = run_of(scenes_of(4, 1))
    empty = replace(run.pictures, masks=run.pictures.masks * 0)
    assert exchange(empty, run.folds[0], 0) is None
