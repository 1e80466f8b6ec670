"""Whether the images that report come from elsewhere."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from made_run import made_run
from unplateau.checks.check import HEADINGS
from unplateau.checks.domain import DomainCheck, DomainMeasured, difference, groups_apart, image_statistics
from unplateau.files import plain
from unplateau.types import Pictures, Task, Verdict

GRID = (48, 64)


def photographs(count: int, rng: np.random.Generator) -> np.ndarray:
    """Images (N, H, W, 3) that differ in brightness, colour and contrast as photographs do."""
    made = []
    for _ in range(count):
        texture = sum(w * gaussian_filter(rng.normal(size=(*GRID, 1)), (w, w, 0)) for w in (1, 3, 8))
        tint = rng.normal(0, 12, 3)
        made.append(rng.normal(120, 25) + tint + texture * rng.uniform(20, 45) + rng.normal(0, 2, (*GRID, 3)))
    return np.stack(made)


CHANGES = {
    "darker": lambda images: images - 60,
    "bluer": lambda images: images + np.array([-40, 0, 40]),
    "blurrier": lambda images: gaussian_filter(images, (0, 1.2, 1.2, 0)),
    "noisier": lambda images: images + np.random.default_rng(9).normal(0, 15, images.shape),
}


def pictures_of(images: np.ndarray, groups: list[str], splits: list[str]) -> Pictures:
    count = len(images)
    return Pictures(
        Task((1,), (0, 1), ("thing",)),
        torch.from_numpy(images.clip(0, 255).astype(np.uint8).transpose(0, 3, 1, 2).copy()),
        torch.zeros((count, *GRID), dtype=torch.uint8),
        tuple(f"p{index}" for index in range(count)),
        tuple(groups),
        tuple(splits),
        GRID,
    )


def measured_on(pictures: Pictures) -> DomainMeasured:
    return DomainCheck().measure(replace(made_run(), pictures=pictures))


def two_parts(change: str | None, groups: int, of_each: int = 2) -> Pictures:
    images = photographs(groups * of_each, np.random.default_rng(5))
    val = groups * of_each * 2 // 3
    if change:
        images[val:] = CHANGES[change](images[val:])
    names = [f"g{index // of_each}" for index in range(len(images))]
    return pictures_of(images, names, ["train"] * val + ["val"] * (len(images) - val))


@pytest.mark.parametrize("change", CHANGES)
def test_a_part_from_elsewhere_is_found_and_named(change):
    measured = measured_on(two_parts(change, 30))
    finding = DomainCheck().judge(measured)
    assert finding.verdict is Verdict.CONCERN
    assert change in finding.claim


def test_parts_from_one_place_are_left_alone():
    finding = DomainCheck().judge(measured_on(two_parts(None, 30)))
    assert finding.verdict is Verdict.SOUND


def test_too_few_groups_cannot_tell():
    finding = DomainCheck().judge(measured_on(two_parts("bluer", 3, of_each=20)))
    assert finding.verdict is Verdict.UNDETERMINED


def test_chance_alarms_are_as_rare_as_the_test_says():
    rng = np.random.default_rng(0)
    small = [
        bool(difference("val", units[:12], units[12:], rng, 0.1).words)
        for units in (rng.normal(size=(18, 8)) for _ in range(120))
    ]
    assert np.mean(small) < 0.2


def test_what_is_detectable_falls_with_more_groups():
    rng = np.random.default_rng(0)
    few, many = (
        difference("val", units[::2], units[1::2], rng) for units in (rng.normal(size=(n, 8)) for n in (10, 60))
    )
    assert few.detectable > 2 > 1.5 > many.detectable


def test_few_groups_are_permuted_in_every_way():
    rng = np.random.default_rng(0)
    units = rng.normal(size=(6, 8))
    found = difference("val", units[:4], units[4:] + 100, rng)
    assert found.p == pytest.approx(1 / 15)
    assert found.words == ()
    assert found.detectable == np.inf


def test_a_group_apart_is_named_where_no_parts_are_given():
    images = photographs(40, np.random.default_rng(2))
    images[:4] = CHANGES["noisier"](images[:4])
    groups = [f"g{index // 4}" for index in range(40)]
    measured = measured_on(pictures_of(images, groups, [""] * 40))
    assert [each.group for each in measured.apart] == ["g0"]
    assert "noisier" in DomainCheck().judge(measured).claim


def test_ordinary_groups_are_not_apart():
    images = photographs(60, np.random.default_rng(2))
    pictures = pictures_of(images, [f"g{index}" for index in range(60)], [""] * 60)
    finding = DomainCheck().judge(measured_on(pictures))
    assert finding.verdict is Verdict.SOUND


def test_three_groups_without_parts_cannot_tell():
    images = photographs(12, np.random.default_rng(2))
    pictures = pictures_of(images, [f"g{index // 4}" for index in range(12)], [""] * 12)
    assert groups_apart(pictures, np.zeros((12, 8))) == ()
    assert DomainCheck().judge(measured_on(pictures)).verdict is Verdict.UNDETERMINED


def test_statistics_of_a_flat_image_are_finite():
    assert np.isfinite(image_statistics(np.zeros((3, *GRID), np.uint8))).all()
    assert np.isfinite(image_statistics(np.full((3, 8, 8), 200, np.uint8))).all()


def test_the_check_explains_itself_and_its_finding_is_plain():
    finding = DomainCheck().judge(measured_on(two_parts("darker", 12)))
    plain(finding)
    assert finding.claim.endswith(".")
    assert all(f"{heading}:" in (DomainCheck.__doc__ or "") for heading in HEADINGS)
