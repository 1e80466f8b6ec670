"""The working grid: its size, what lies on it, what is left out, and what is said about it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from conftest import make_pictures
from unplateau.data import open_data, read_pictures
from unplateau.data.grid import Box, fit_image, fit_mask, place, working_grid
from unplateau.data.pictures import choose
from unplateau.errors import DataError

sides = st.tuples(st.integers(16, 900), st.integers(16, 900))


def sample(mask: np.ndarray, name: str, group: str = "") -> tuple:
    image = np.repeat((mask % 251)[..., None], 3, axis=2).astype(np.uint8)
    return name, image, mask.astype(np.uint8), group or name


def half(height: int = 32, width: int = 48, low: int = 0, high: int = 1) -> np.ndarray:
    mask = np.full((height, width), low)
    mask[:, width // 2 :] = high
    return mask


# ---- the grid ------------------------------------------------------------------------------------------------


@given(st.lists(sides, min_size=1, max_size=9), st.integers(16, 512))
def test_grid_is_divisible_and_never_finer_than_native_nor_asked(natives, size):
    height, width = working_grid(natives, size)
    assert height % 8 == width % 8 == 0
    assert 8 <= max(height, width) <= size + 4
    assert height <= max(8, np.median([h for h, _ in natives]))
    assert width <= max(8, np.median([w for _, w in natives]))


@given(sides, sides)
def test_box_lies_on_the_grid_and_fills_one_side(native, grid):
    box = place(native, grid)
    assert box.top >= 0
    assert box.left >= 0
    assert box.top + box.height <= grid[0]
    assert box.left + box.width <= grid[1]
    assert box.height == grid[0] or box.width == grid[1]


def test_grid_keeps_the_aspect_and_the_native_size():
    assert working_grid([(240, 320)] * 3, 128) == (96, 128)
    assert working_grid([(40, 48)], 128) == (40, 48)
    assert working_grid([(640, 320)], 64) == (64, 32)


def test_quite_another_aspect_is_padded_the_rest_squashed():
    assert place((100, 149), (96, 96)) == Box(0, 0, 96, 96)
    assert place((100, 200), (96, 96)) == Box(24, 0, 48, 96)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 40), st.integers(1, 40))
def test_masks_hold_only_ids_that_were_there(height, width, rows, columns):
    mask = np.random.default_rng(0).integers(0, 256, (height, width), dtype=np.uint8)
    fitted = fit_mask(mask, Box(0, 0, rows, columns))
    assert fitted.shape == (rows, columns)
    assert np.isin(fitted, mask).all()


def test_masks_are_read_at_cell_centres():
    mask = np.arange(36, dtype=np.uint8).reshape(6, 6)
    assert fit_mask(mask, Box(0, 0, 2, 2)).tolist() == [[7, 10], [25, 28]]
    assert fit_mask(mask[:1], Box(0, 0, 1, 4)).tolist() == [[0, 2, 3, 5]]


def test_thin_things_keep_their_share_of_the_area():
    mask = (np.random.default_rng(0).random((1000, 1000)) < 0.1).astype(np.uint8)
    assert fit_mask(mask, Box(0, 0, 128, 128)).mean() == pytest.approx(0.1, abs=0.01)


def test_image_and_mask_stay_aligned_at_an_uneven_factor():
    mask = half(90, 320, 0, 200)
    image = fit_image(np.repeat(mask[..., None], 3, axis=2).astype(np.uint8), Box(0, 0, 36, 128))
    fitted = fit_mask(mask.astype(np.uint8), Box(0, 0, 36, 128))
    assert np.abs(image[0].astype(int) - fitted).mean() < 2


# ---- reading -------------------------------------------------------------------------------------------------


def test_what_comes_out(tiny_folder):
    pictures = read_pictures(open_data(tiny_folder), size=40)
    assert len(pictures) == 12
    assert pictures.size == (32, 40)
    assert pictures.native == (40, 48)
    assert pictures.images.dtype == pictures.masks.dtype == torch.uint8
    assert pictures.images.shape == (12, 3, 32, 40)
    assert set(pictures.masks.unique().tolist()) == {0, 1}
    assert pictures.warnings == ()
    inside = pictures.images.float().mean(1)[pictures.masks == 1].mean()
    assert inside > pictures.images.float().mean(1)[pictures.masks == 0].mean() + 60


def test_padding_is_not_counted_and_said():
    source = open_data([sample(half(), f"a{i}") for i in range(8)] + [sample(half(96, 24), "tall")])
    pictures = read_pictures(source, size=48)
    assert (pictures.masks[-1] == 255).float().mean() > 0.5
    assert not (pictures.masks[:-1] == 255).any()
    assert "1 of 9 images" in pictures.warnings[0]


def test_native_ids_become_indices():
    pictures = read_pictures(open_data([sample(half(low=3, high=9), f"a{i}") for i in range(8)]), size=48)
    assert pictures.task.classes == (3, 9)
    assert set(pictures.masks.unique().tolist()) == {0, 1}


@pytest.mark.parametrize("positive", [None, (1,)])
def test_white_on_black_folder(tiny_folder, positive):
    for path in (tiny_folder / "masks").iterdir():
        with Image.open(path) as picture:
            mask = np.asarray(picture) * np.uint8(255)
        Image.fromarray(mask).save(path)
    pictures = read_pictures(open_data(tiny_folder), positive=positive, size=40)
    assert pictures.task.binary
    assert set(pictures.masks.unique().tolist()) == {0, 1}
    assert "255 is read as the positive class" in pictures.warnings[0]


def test_white_is_judged_on_the_whole_data_set_even_under_a_limit():
    items = [sample(half(high=255), f"a{i}", "g") for i in range(30)] + [sample(half(), "z", "g")]
    source = open_data(items)
    seed = next(s for s in range(50) if 30 not in choose(source, 8, s))
    with pytest.raises(DataError, match="only in masks that `limit` left out"):
        read_pictures(source, limit=8, seed=seed, size=48)


def test_a_positive_id_beyond_the_limit_is_told_from_a_wrong_one():
    source = open_data([sample(half(high=2), f"a{i}", "g") for i in range(30)] + [sample(half(high=5), "z", "g")])
    seed = next(s for s in range(50) if 30 not in choose(source, 8, s))
    with pytest.raises(DataError, match="raise `limit`"):
        read_pictures(source, positive=(5,), limit=8, seed=seed, size=48)
    with pytest.raises(DataError, match="no mask holds 6"):
        read_pictures(source, positive=(6,), limit=8, seed=seed, size=48)


def test_a_positive_class_too_small_for_the_grid():
    mask = np.zeros((320, 320))
    mask[1, 1] = 1
    with pytest.raises(DataError, match=r"too small for `size`=32: raise `size`"):
        read_pictures(open_data([sample(mask, f"a{i}") for i in range(8)]), size=32)


def test_masks_empty_of_the_positive_class():
    with pytest.raises(DataError, match="only the id 0"):
        read_pictures(open_data([sample(half(high=0), f"a{i}") for i in range(8)]), positive=(1,), size=48)


def test_bad_size_and_limit(tiny_folder):
    with pytest.raises(DataError, match="`size` must be at least 16"):
        read_pictures(open_data(tiny_folder), size=8)
    with pytest.raises(DataError, match="`limit` must be at least 8"):
        read_pictures(open_data(tiny_folder), limit=3)


# ---- limit ---------------------------------------------------------------------------------------------------


@settings(max_examples=25)
@given(st.lists(st.integers(1, 9), min_size=3, max_size=8), st.integers(8, 30), st.integers(0, 99))
def test_limit_keeps_every_group_in_proportion_and_is_reproducible(counts, limit, seed):
    groups = [f"g{g}" for g, count in enumerate(counts) for _ in range(count)]
    source = open_data([sample(half(4, 4), str(i), group) for i, group in enumerate(groups)])
    kept = choose(source, limit, seed)
    assert kept == choose(source, limit, seed) == tuple(sorted(set(kept)))
    assert len(kept) == min(limit, len(groups))
    assert {groups[i] for i in kept} == set(groups)


def test_limit_reads_only_what_it_keeps(tiny_folder):
    source = open_data(tiny_folder)
    dropped = set(range(12)) - set(choose(source, 8, 3))
    for index in dropped:
        (tiny_folder / "images" / f"p{index:02d}.png").write_bytes(b"")
    assert len(read_pictures(source, limit=8, seed=3, size=32)) == 8


# ---- real data -----------------------------------------------------------------------------------------------


def test_camvid_is_multi_class_and_its_leaks_are_said(real):
    pictures = read_pictures(open_data(real("camvid")), size=64, limit=60)
    assert pictures.task.outputs == 11
    assert pictures.task.names[8] == "car"
    assert "0001TP (train and test), 0016E5 (train and val)" in pictures.warnings[-1]


def test_camvid_cars(real):
    pictures = read_pictures(open_data(real("camvid")), positive=(8,), size=64, limit=40)
    assert pictures.task.names == ("car",)
    assert set(pictures.masks.unique().tolist()) == {0, 1, 255}


def test_drive_keeps_255_outside_the_eye(real):
    pictures = read_pictures(open_data(real("drive_full")))
    assert pictures.task.positive == (1,)
    assert (pictures.masks[:, 0, 0] == 255).all()
    assert pictures.warnings == ()


def test_human_of_many_sizes(real):
    pictures = read_pictures(open_data(real("human")), size=64, limit=60)
    assert pictures.task.names == ("person",)
    assert "padded" in pictures.warnings[0]


def test_further_mask_folders_are_left_alone(real):
    pictures = read_pictures(open_data(real("bubil_cells")), size=64, limit=30)
    assert pictures.task.names == ("cell",)
    assert set(pictures.groups) == {"d1", "d2", "d3"}


def test_some_pictures_keep_what_is_theirs_in_the_order_asked_for():
    pictures = make_pictures([f"g{place}" for place in range(6)], ["train"] * 3 + ["val"] * 3)
    some = pictures.take((4, 1))
    assert (some.names, some.groups, some.splits) == (
        (pictures.names[4], pictures.names[1]),
        ("g4", "g1"),
        ("val", "train"),
    )
    assert torch.equal(some.images, pictures.images[[4, 1]])
    assert torch.equal(some.masks, pictures.masks[[4, 1]])
    assert (some.task, some.native) == (pictures.task, pictures.native)
