"""Augmentation changes image and mask alike, keeps ids, obeys its generator; weights make up for rare classes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from conftest import make_pictures
from unplateau.data import (
    NONE,
    STANDARD,
    augment,
    class_areas,
    class_shares,
    class_weights,
    positive_share,
)
from unplateau.errors import DataError


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(count: int = 6, height: int = 32, width: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    """A block of class 3 that is white, on black, one block a picture."""
    masks = torch.zeros(count, height, width, dtype=torch.uint8)
    for index in range(count):
        masks[index, 8 : 14 + index, 10 : 20 + index] = 3
    return (masks[:, None] > 0).float().repeat(1, 3, 1, 1), masks


def test_none_changes_nothing_to_the_bit():
    images, masks = batch()
    same_images, same_masks = augment(images, masks, NONE, seeded())
    assert torch.equal(images, same_images)
    assert torch.equal(masks, same_masks)


@pytest.mark.parametrize("crop", [None, (16, 24)])
def test_standard_is_reproducible_and_keeps_ids_and_range(crop):
    images, masks = batch()
    first = augment(images, masks, STANDARD, seeded(1), crop)
    again = augment(images, masks, STANDARD, seeded(1), crop)
    other = augment(images, masks, STANDARD, seeded(2), crop)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])
    assert first[0].shape == (6, 3, *(crop or (32, 40)))
    assert first[1].shape == (6, *(crop or (32, 40)))
    assert first[1].dtype == torch.uint8
    assert set(first[1].unique().tolist()) <= {0, 3, 255}
    assert first[0].min() >= 0
    assert first[0].max() <= 1


def test_image_and_mask_move_together():
    images, masks = batch()
    moved = replace(NONE, scale=(0.6, 1.15), aspect=0.15, flip=0.5)
    for seed in range(5):
        changed, followed = augment(images, masks, moved, seeded(seed))
        counted = followed != 255
        apart = (changed[:, 0] > 0.5) != (followed == 3)
        assert apart[counted].float().mean() < 0.01


def test_beyond_the_border_is_255():
    images, masks = batch()
    _, followed = augment(images, masks, replace(NONE, scale=(2.0, 2.0)), seeded())
    assert (followed == 255).float().mean() == pytest.approx(0.75, abs=0.05)


def test_flip_mirrors():
    images, masks = batch()
    changed, followed = augment(images, masks, replace(NONE, flip=1.0), seeded())
    assert torch.equal(followed, masks.flip(-1))
    assert torch.allclose(changed, images.flip(-1), atol=1e-4)


def test_crops_are_windows_of_the_whole():
    images = torch.rand(4, 3, 24, 24, generator=seeded())
    masks = torch.randint(0, 9, (4, 24, 24), generator=seeded(), dtype=torch.uint8)
    cut, followed = augment(images, masks, NONE, seeded(3), (8, 10))
    for index in range(4):
        windows = images[index].unfold(1, 8, 1).unfold(2, 10, 1)
        found = (windows == cut[index][:, None, None]).all(-1).all(-1).all(0).nonzero()
        assert len(found) == 1
        top, left = found[0].tolist()
        assert torch.equal(followed[index], masks[index, top : top + 8, left : left + 10])


def test_crop_must_fit():
    with pytest.raises(DataError, match=r"`crop` must fit into the images, 32 x 40, but is 33 x 8"):
        augment(*batch(), STANDARD, seeded(), (33, 8))


@pytest.mark.parametrize("strength", ["contrast", "brightness", "colour"])
def test_each_colour_strength_changes_colours_only(strength):
    images, masks = batch()
    images = images * 0.5 + 0.2
    changed, followed = augment(images, masks, replace(NONE, **{strength: 0.1}), seeded())
    assert torch.equal(masks, followed)
    assert (changed - images).abs().max() > 0.01
    assert (changed.amax(1) - changed.amin(1) > 1e-4).any() == (strength == "colour")


@pytest.mark.parametrize("strength", [{"scale": (0.5, 0.5)}, {"aspect": 0.5}])
def test_each_shape_strength_changes_shapes(strength):
    images, masks = batch()
    assert not torch.equal(masks, augment(images, masks, replace(NONE, **strength), seeded())[1])


# ---- balance -------------------------------------------------------------------------------------------------


def masks_with(counts: dict[int, int]) -> torch.Tensor:
    flat = torch.cat([torch.full((count,), each, dtype=torch.uint8) for each, count in counts.items()])
    return flat.reshape(1, 8, 8)


def test_areas_and_shares_leave_255_out():
    pictures = make_pictures(["a"], masks=masks_with({0: 30, 1: 10, 255: 24}))
    assert class_areas(pictures).tolist() == [[30, 10]]
    assert positive_share(pictures, (0,)) == 0.25
    assert class_shares(pictures, ()).tolist() != class_shares(pictures, (0,)).tolist()


def test_binary_weight_is_the_root_of_the_odds():
    pictures = make_pictures(["a"], masks=masks_with({0: 36, 1: 4, 255: 24}))
    assert class_weights(pictures, (0,), "auto").tolist() == [3.0]
    assert class_weights(pictures, (0,), "none").tolist() == [1.0]
    assert class_weights(pictures, (0,), [7]).tolist() == [7.0]
    assert class_weights(make_pictures(["a"], masks=masks_with({1: 64})), (0,)).tolist() == [1.0]


def test_multi_class_weights_average_one_over_the_pixels():
    pictures = make_pictures(["a"], masks=masks_with({0: 48, 1: 12, 2: 4}), classes=4)
    weights = class_weights(pictures, (0,))
    assert weights[1] / weights[0] == pytest.approx(2.0)
    assert weights[3] == 1
    assert float((weights[:3] * torch.tensor([48, 12, 4])).sum() / 64) == pytest.approx(1.0)


@pytest.mark.parametrize("mode", ["loud", [1.0, 2.0], [0.0], [float("nan")]])
def test_bad_weights(mode):
    with pytest.raises(DataError, match="The class weights must be"):
        class_weights(make_pictures(["a"]), (0,), mode)


def test_nothing_to_weigh():
    with pytest.raises(DataError, match="need positive pixels"):
        class_weights(make_pictures(["a"], masks=masks_with({0: 64})), (0,))
    with pytest.raises(DataError, match="multi-class"):
        positive_share(make_pictures(["a"], classes=3), (0,))
