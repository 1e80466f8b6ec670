"""One picture on both sides of a split: what is found, what is left alone, and what is done about it."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.ndimage import gaussian_filter

from made_run import made_run
from unplateau.checks.check import HEADINGS
from unplateau.checks.leaks import LeaksCheck, LeaksMeasured, find_twins, kept_apart, regrouped
from unplateau.data import open_data, read_pictures
from unplateau.data.grid import Box, fit_image
from unplateau.files import plain
from unplateau.measures.gallery import best_pairs
from unplateau.measures.registration import laid_over, registration, warped
from unplateau.measures.similarity import TWIN, agreement, agreements, bands, matched
from unplateau.types import IGNORE, Finding, Pictures, Task, Verdict

GRID = (64, 80)
NATIVE = (192, 240)


def scene(rng: np.random.Generator) -> np.ndarray:
    """A native picture with structure of all sizes, as photographs have: (H, W, 3)."""
    layers = [4.0 * width * gaussian_filter(rng.normal(size=(*NATIVE, 3)), (width, width, 0)) for width in (2, 5, 12)]
    return (128 + 16 * sum(layers)).clip(0, 255).astype(np.uint8)


def on_grid(image: np.ndarray) -> np.ndarray:
    return fit_image(np.ascontiguousarray(image), Box(0, 0, *GRID))


def saved(image: np.ndarray, quality: int) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


CHANGES = {
    "saved again": lambda image: saved(image, 60),
    "resized": lambda image: np.asarray(Image.fromarray(image).resize((200, 160), Image.Resampling.BILINEAR)),
    "brighter": lambda image: (image * 1.15 + 10).clip(0, 255).astype(np.uint8),
    "cropped": lambda image: image[7:-3, 2:-10],
    "mirrored": lambda image: image[:, ::-1],
}


def pictures_of(natives: list[np.ndarray], groups: list[str], splits: list[str] | None = None) -> Pictures:
    count = len(natives)
    masks = torch.zeros((count, *GRID), dtype=torch.uint8)
    masks[:, 10:30, 10:30] = 1
    images = torch.from_numpy(np.stack([on_grid(native) for native in natives]))
    names = tuple(f"p{index}" for index in range(count))
    task = Task((1,), (0, 1), ("thing",))
    return Pictures(task, images, masks, names, tuple(groups), tuple(splits or [""] * count), NATIVE)


@pytest.fixture(scope="module")
def natives() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [scene(rng) for _ in range(16)]


def of_own_groups(natives: list[np.ndarray], splits: list[str] | None = None) -> Pictures:
    return pictures_of(natives, [f"g{index}" for index in range(len(natives))], splits)


# ---- the check -----------------------------------------------------------------------------------------------


def test_pictures_that_are_merely_alike_are_left_alone(natives):
    measured = find_twins(of_own_groups(natives))
    assert measured.twins == ()
    assert LeaksCheck().judge(measured).verdict is Verdict.SOUND


def cloth(rng: np.random.Generator) -> np.ndarray:
    """Waves of one length under grain, (H, W, 3): those of nearly one turn agree, once laid over each other."""
    rows, columns = np.mgrid[: NATIVE[0], : NATIVE[1]]
    turn = rng.uniform(0, np.pi)
    waves = np.sin(2 * np.pi * (np.cos(turn) * rows + np.sin(turn) * columns) / 18 + rng.uniform(0, 6))
    grain = gaussian_filter(rng.normal(size=NATIVE), 2) * 60
    return np.repeat((128 + 45 * waves + grain).clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)


def test_a_pattern_that_two_pictures_share_makes_them_no_twins():
    rng = np.random.default_rng(1)
    woven = [cloth(rng) for _ in range(40)]
    every = np.argwhere(np.triu(np.ones((40, 40)), 1))
    assert matched(bands(of_own_groups(woven).images.numpy()), every).agreement.max() > TWIN
    assert find_twins(of_own_groups(woven)).twins == ()
    again = find_twins(of_own_groups([*woven, saved(woven[5], 80)])).twins
    assert [(each.first, each.second) for each in again] == [("p5", "p40")]


@pytest.mark.parametrize("change", CHANGES)
def test_the_same_picture_in_another_group_is_found(natives, change):
    leaked = [*natives[:15], CHANGES[change](natives[3])]
    measured = find_twins(of_own_groups(leaked))
    assert [(each.first, each.second, each.across) for each in measured.twins] == [("p3", "p15", "groups")]
    assert measured.twins[0].mirrored == (change == "mirrored")
    finding = LeaksCheck().judge(measured)
    assert finding.verdict is Verdict.CONCERN
    assert "p3" in finding.claim


def test_a_twin_within_its_group_is_no_leak(natives):
    frames = [*natives[:15], saved(natives[3], 90)]
    groups = [f"g{index}" for index in range(15)] + ["g3"]
    assert find_twins(pictures_of(frames, groups)).twins == ()


def test_given_splits_decide_what_is_a_leak(natives):
    leaked = [*natives[:14], saved(natives[3], 90), saved(natives[4], 90)]
    splits = ["train"] * 10 + ["val"] * 4 + ["val", "train"]
    measured = find_twins(of_own_groups(leaked, splits))
    assert measured.counts == {"train / val": 1}
    assert measured.shares == {"train / val": pytest.approx(1 / 5)}


def test_a_cut_group_leaks_though_its_name_is_one(natives):
    frames = [*natives[:15], saved(natives[3], 90)]
    measured = find_twins(pictures_of(frames, ["video"] * 16, ["train"] * 8 + ["test"] * 8))
    assert measured.counts == {"train / test": 1}


def test_masks_of_one_picture_that_differ_are_said(natives):
    pictures = of_own_groups([*natives[:15], saved(natives[3], 90)])
    masks = pictures.masks.clone()
    masks[15] = masks[15].roll(18, 0)
    measured = find_twins(replace(pictures, masks=masks))
    assert measured.twins[0].masks == pytest.approx(2 / 38)
    assert "contradict" in LeaksCheck().judge(measured).claim


def test_masks_are_compared_where_the_crop_lies(natives):
    pictures = of_own_groups([*natives[:15], CHANGES["mirrored"](natives[3])])
    masks = pictures.masks.clone()
    masks[15] = masks[15].flip(-1)
    assert find_twins(replace(pictures, masks=masks)).twins[0].masks == pytest.approx(1)


def test_blank_pictures_cannot_be_told_apart():
    pictures = of_own_groups([np.full((*NATIVE, 3), 120, np.uint8)] * 10)
    finding = LeaksCheck().judge(find_twins(pictures))
    assert finding.verdict is Verdict.UNDETERMINED


def test_a_rim_that_all_pictures_share_makes_no_twins(natives):
    rows, columns = np.mgrid[: NATIVE[0], : NATIVE[1]]
    disc = np.hypot(rows - 96, columns - 120) < 90
    assert find_twins(of_own_groups([(native * disc[..., None]).astype(np.uint8) for native in natives])).twins == ()


def test_one_group_and_no_split_asks_nothing(natives):
    finding = LeaksCheck().judge(find_twins(pictures_of(natives, ["one"] * 16)))
    assert finding.verdict is Verdict.SOUND


def test_the_check_explains_itself_and_its_finding_is_plain(natives):
    run = replace(made_run(), pictures=of_own_groups([*natives[:15], natives[3]]))
    finding = LeaksCheck().judge(LeaksCheck().measure(run))
    assert isinstance(finding, Finding)
    assert finding.claim.endswith(".")
    assert "nan" not in finding.claim
    plain(finding)
    assert all(f"{heading}:" in (LeaksCheck.__doc__ or "") for heading in HEADINGS)


# ---- the repair ----------------------------------------------------------------------------------------------


def test_groups_of_twins_are_joined_and_all_else_is_kept(natives):
    leaked = [*natives[:13], natives[3], natives[3], natives[5]]
    pictures = of_own_groups(leaked)
    honest = regrouped(pictures, find_twins(pictures))
    assert honest.groups[3] == honest.groups[13] == honest.groups[14]
    assert honest.groups[5] == honest.groups[15]
    assert len(set(honest.groups)) == 13
    assert honest.names == pictures.names
    assert find_twins(honest).twins == ()


def test_of_twins_across_given_splits_the_one_that_trains_is_set_aside(natives):
    pictures = of_own_groups([*natives[:15], natives[3]], ["train"] * 12 + ["test"] * 4)
    honest = regrouped(pictures, find_twins(pictures))
    assert honest.splits[3] == ""
    assert honest.splits[15] == "test"
    assert find_twins(honest).twins == ()


def test_nothing_found_changes_nothing(natives):
    pictures = of_own_groups(natives)
    nothing = LeaksMeasured((), (), {}, {}, 0.2, 0, len(pictures))
    assert regrouped(pictures, nothing).groups == pictures.groups


@given(st.lists(st.sampled_from(["train", "val", "test", ""]), min_size=2, max_size=8))
@settings(max_examples=40, deadline=None)
def test_what_is_kept_apart_is_symmetric_and_never_oneself(splits):
    count = len(splits)
    pictures = Pictures(
        Task((1,), (0, 1), ("thing",)),
        torch.zeros((count, 3, 8, 8), dtype=torch.uint8),
        torch.zeros((count, 8, 8), dtype=torch.uint8),
        tuple(map(str, range(count))),
        tuple("ab"[index % 2] for index in range(count)),
        tuple(splits),
        (8, 8),
    )
    apart = kept_apart(pictures)
    assert (apart == apart.T).all()
    assert not apart.diagonal().any()


# ---- the measures --------------------------------------------------------------------------------------------


def test_agreement_is_one_with_oneself_and_none_with_another(natives):
    pictures = bands(np.stack([on_grid(native) for native in natives]))
    alike = agreements(pictures)
    assert np.diag(alike).min() > 0.95
    assert np.abs(alike[~np.eye(len(natives), dtype=bool)]).max() < 0.5
    pairwise = agreement(pictures.detail[:4], pictures.detail[4:8], pictures.own)
    assert pairwise == pytest.approx(alike[np.arange(4), np.arange(4, 8)], abs=1e-5)


@given(st.floats(-0.08, 0.08), st.floats(-0.08, 0.08), st.floats(-0.08, 0.08), st.floats(-0.08, 0.08))
@settings(max_examples=10, deadline=None)
def test_registration_finds_the_scale_and_shift_that_were_applied(down, tall, right, wide):
    rng = np.random.default_rng(3)
    moving = bands(on_grid(scene(rng))[None]).levels
    wanted = np.array([[[tall, down], [wide, right]]])
    fixed = tuple(warped(level, wanted)[0] for level in moving)
    assert registration(fixed, moving) == pytest.approx(wanted, abs=0.02)


def test_a_mask_laid_over_by_nothing_is_itself():
    mask = np.random.default_rng(0).integers(0, 2, (9, 12)).astype(np.uint8)
    assert (laid_over(mask, np.zeros((2, 2)), False) == mask).all()
    assert (laid_over(mask, np.zeros((2, 2)), True) == mask[:, ::-1]).all()
    assert (laid_over(mask, np.array([[0, 1.0], [0, 0]]), False)[-3:] == IGNORE).all()


def test_best_pairs_are_each_once_and_never_what_is_excluded():
    nearness = np.array([[-np.inf, 3, 1], [3, -np.inf, np.nan], [1, np.nan, -np.inf]], np.float32)
    assert best_pairs(nearness, 2).tolist() == [[0, 1], [0, 2]]


# ---- real pictures -------------------------------------------------------------------------------------------


def test_the_photograph_that_human_holds_twice_is_found(real):
    source = open_data(real("human"))
    chosen = [source.sample(source.names.index(f"{number:03d}")) for number in (1, 2, 3, 4, 5, 22, 32, 102, 124, 270)]
    measured = find_twins(read_pictures(open_data(chosen), positive=[1], size=112))
    assert [(each.first, each.second) for each in measured.twins] == [("102", "270")]
