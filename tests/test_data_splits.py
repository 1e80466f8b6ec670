"""Groups stay whole, every image reports once, and the same seed gives the same folds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import make_pictures
from unplateau.data import class_areas, leaking_groups, nested, open_data, positive_share, read_pictures, split
from unplateau.errors import DataError
from unplateau.types import Fold, Pictures

group_lists = st.lists(st.sampled_from("abcdefgh"), min_size=4, max_size=40).filter(lambda g: len(set(g)) > 1)


def groups_of(pictures: Pictures, part: tuple[int, ...]) -> set[str]:
    return {pictures.groups[index] for index in part}


def parts(fold: Fold) -> tuple[tuple[int, ...], ...]:
    return fold.fit, fold.inner, fold.report


@settings(max_examples=60, deadline=None)
@given(group_lists, st.integers(1, 5), st.integers(0, 9))
def test_every_image_reports_once_and_no_group_is_cut_off_from_itself(groups, folds, seed):
    pictures = make_pictures(groups)
    made = split(pictures, folds=folds, seed=seed)
    assert made == split(pictures, folds=folds, seed=seed)
    everything = list(range(len(groups)))
    for fold in made:
        assert sorted(sum(parts(fold), ())) == everything
        assert fold.fit
        assert fold.report
        assert not groups_of(pictures, fold.report) & groups_of(pictures, fold.fit + fold.inner)
        if len(groups_of(pictures, fold.fit + fold.inner)) > 1:
            assert fold.inner
            assert not groups_of(pictures, fold.fit) & groups_of(pictures, fold.inner)
    if folds > 1:
        assert len(made) == min(folds, len(set(groups)))
        assert sorted(sum((fold.report for fold in made), ())) == everything


def test_folds_balance_images_and_positive_area():
    rng = np.random.default_rng(0)
    groups = [f"g{i}" for i in range(24) for _ in range(int(rng.integers(2, 10)))]
    masks = torch.zeros(len(groups), 8, 8, dtype=torch.uint8)
    for index in range(len(groups)):
        masks[index, : int(rng.integers(0, 8))] = 1
    pictures = make_pictures(groups, masks=masks)
    for seed in range(5):
        made = split(pictures, seed=seed)
        for fold in made:
            assert len(fold.report) == pytest.approx(len(groups) / 3, rel=0.2)
            assert len(fold.inner) == pytest.approx(0.2 * len(fold.inner + fold.fit), rel=0.4)
        areas = [class_areas(pictures)[list(fold.report), 1].sum() for fold in made]
        assert max(areas) < 1.3 * min(areas)


def test_each_part_holds_the_positive_class_when_groups_allow():
    masks = torch.zeros(20, 8, 8, dtype=torch.uint8)
    masks[[2, 9, 15], 0, 0] = 1
    pictures = make_pictures([f"g{i}" for i in range(20)], masks=masks)
    for seed in range(10):
        made = split(pictures, seed=seed)
        assert len(made) == 3
        for fold in made:
            assert all(positive_share(pictures, part) > 0 for part in parts(fold))


def test_the_seed_has_a_say_and_one_fold_is_the_first_of_three():
    pictures = make_pictures([f"g{i}" for i in range(20)])
    assert split(pictures, seed=0) != split(pictures, seed=1)
    assert split(pictures, folds=1) == split(pictures, folds=3)[:1]


def test_multi_class_splits():
    pictures = make_pictures([f"g{i}" for i in range(12)], classes=4)
    assert sorted(sum((fold.report for fold in split(pictures)), ())) == list(range(12))


def test_two_groups_choose_on_the_tail_of_the_training_group():
    pictures = make_pictures(["a"] * 10 + ["b"] * 10)
    first, second = split(pictures)
    assert {groups_of(pictures, first.report).pop(), groups_of(pictures, second.report).pop()} == {"a", "b"}
    assert len(first.fit) == 8
    assert len(first.inner) == 2
    assert max(first.fit) < min(first.inner)


def test_one_group_only():
    with pytest.raises(DataError, match=r"one group only: all 9 images belong to 'a'"):
        split(make_pictures(["a"] * 9))


def test_positive_class_in_one_group_only():
    masks = torch.zeros(8, 8, 8, dtype=torch.uint8)
    masks[3] = 1
    with pytest.raises(DataError, match="at least two of the 8 groups"):
        split(make_pictures([f"g{i}" for i in range(8)], masks=masks))


@pytest.mark.parametrize("how", [{"folds": 0}, {"inner": 0.0}, {"inner": 1.0}])
def test_bad_arguments(how):
    with pytest.raises(DataError, match="`folds` must be at least 1"):
        split(make_pictures(list("abcd")), **how)


# ---- given splits --------------------------------------------------------------------------------------------


def test_given_splits_are_kept():
    pictures = make_pictures(list("abcdef"), ["train", "val", "test"] * 2)
    assert split(pictures, folds=2) == (Fold((0, 3), (1, 4), (2, 5)),) * 2


@pytest.mark.parametrize("report", ["test", "val"])
def test_a_missing_part_is_carved_out_of_train_by_whole_groups(report):
    groups = [f"g{i // 2}" for i in range(20)] + ["z"] * 4
    pictures = make_pictures(groups, ["train"] * 20 + [report] * 4)
    made = split(pictures, folds=3)
    assert all(fold.report == (20, 21, 22, 23) for fold in made)
    assert len({fold.inner for fold in made}) > 1
    for fold in made:
        assert sorted(fold.fit + fold.inner) == list(range(20))
        assert not groups_of(pictures, fold.fit) & groups_of(pictures, fold.inner)


def test_only_train_is_as_no_splits():
    groups = list("abcdefgh")
    assert split(make_pictures(groups, ["train"] * 8)) == split(make_pictures(groups))


def test_splits_without_train():
    with pytest.raises(DataError, match="must include train"):
        split(make_pictures(list("abcd"), ["val", "test"] * 2))


def test_leaking_groups_are_a_finding():
    pictures = make_pictures(list("aabbcc"), ["train", "test", "val", "val", "test", "train"])
    assert [(leak.group, leak.splits) for leak in leaking_groups(pictures)] == [
        ("a", ("train", "test")),
        ("c", ("train", "test")),
    ]


def test_camvid_leaks_and_keeps_its_splits(real):
    pictures = read_pictures(open_data(real("camvid")), size=32)
    assert {leak.group for leak in leaking_groups(pictures)} == {"0001TP", "0016E5"}
    (fold,) = split(pictures, folds=1)
    assert tuple(map(len, parts(fold))) == (367, 101, 233)


def test_fire_is_split_by_video(real):
    pictures = read_pictures(open_data(real("fire_video")), size=32)
    for fold in split(pictures):
        assert not groups_of(pictures, fold.report) & groups_of(pictures, fold.fit + fold.inner)
        assert len(groups_of(pictures, fold.inner)) >= 1


# ---- nested subsets ------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(group_lists, st.integers(0, 9))
def test_smaller_subsets_lie_in_larger_ones(groups, seed):
    pictures = make_pictures(groups)
    fold = split(pictures, seed=seed)[0]
    subsets = nested(pictures, fold, (0.25, 0.5, 1.0), seed)
    assert subsets == nested(pictures, fold, (0.25, 0.5, 1.0), seed)
    assert set(subsets[0]) <= set(subsets[1]) <= set(subsets[2]) == set(fold.fit)
    for subset in subsets:
        chosen = groups_of(pictures, subset)
        assert len(groups_of(pictures, fold.fit)) == 1 or {i for i in fold.fit if groups[i] in chosen} == set(subset)


def test_the_smallest_subset_holds_the_positive_class():
    masks = torch.zeros(30, 8, 8, dtype=torch.uint8)
    masks[[4, 5, 20]] = 1
    pictures = make_pictures([f"g{i}" for i in range(30)], masks=masks)
    for seed in range(10):
        fold = split(pictures, seed=seed)[0]
        assert positive_share(pictures, nested(pictures, fold, (0.02,), seed)[0]) > 0


def test_a_single_group_gives_images():
    pictures = make_pictures(["a"] * 10 + ["b"] * 10)
    assert len(nested(pictures, split(pictures)[0], (0.5,))[0]) == 4


@pytest.mark.parametrize("fraction", [0, 1.5])
def test_bad_fractions(fraction):
    pictures = make_pictures(list("abcd"))
    with pytest.raises(DataError, match="`fractions`"):
        nested(pictures, split(pictures)[0], (fraction,))
