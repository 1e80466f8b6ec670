"""Rare classes: weights by effective number, batches that hold them at a chosen rate, pixels that are hard."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import make_pictures
from unplateau.data.balance import class_holders, class_weights
from unplateau.data.transforms import NONE, STANDARD
from unplateau.errors import DataError
from unplateau.training.batches import BatchStream, crops, step_generator
from unplateau.training.loss_terms import TERMS, Answer
from unplateau.training.losses import CompoundLoss
from unplateau.types import Pictures


def rare(count: int = 20, side: int = 64, holding: tuple[int, ...] = (3, 11)) -> Pictures:
    """Empty images, but for a dot of 3 x 3 positive pixels in some; the first pixel is the image's number."""
    masks = torch.zeros(count, side, side, dtype=torch.uint8)
    for place in holding:
        row, column = (7 * place) % (side - 3), (13 * place) % (side - 3)
        masks[place, row : row + 3, column : column + 3] = 1
    pictures = make_pictures([str(each) for each in range(count)], masks=masks)
    pictures.images[:, 0, 0, 0] = torch.arange(count, dtype=torch.uint8)
    return pictures


def stream(pictures: Pictures, rate: float, batch: int = 8, steps: int = 50, seed: int = 0) -> BatchStream:
    return BatchStream(pictures, tuple(range(len(pictures))), batch, steps, seed, rate)


# ---- weights by effective number -----------------------------------------------------------------------------


def shares_as_masks(*counts: int) -> Pictures:
    ids = torch.cat([torch.full((count,), index) for index, count in enumerate(counts)]).to(torch.uint8)
    return make_pictures(["a"], masks=ids.view(1, 1, -1), classes=len(counts))


def test_effective_weights_are_the_inverse_of_the_effective_number():
    counts = np.array([9_000, 900, 100])
    weights = class_weights(shares_as_masks(*counts), (0,), "effective").numpy()
    beta = 1 - len(counts) / counts.sum()
    wanted = (1 - beta) / (1 - beta**counts)
    assert weights / weights[0] == pytest.approx(wanted / wanted[0], rel=1e-3)
    assert (weights * counts).sum() / counts.sum() == pytest.approx(1, rel=1e-5)


def test_effective_weights_of_two_classes_are_their_odds():
    masks = torch.zeros(1, 10, 100, dtype=torch.uint8)
    masks[:, 0, :50] = 1
    weight = float(class_weights(make_pictures(["a"], masks=masks), (0,), "effective"))
    assert weight == pytest.approx((1 - math.exp(-1.9)) / (1 - math.exp(-0.1)), rel=1e-6)


@given(st.lists(st.integers(1, 5_000), min_size=2, max_size=8))
@settings(max_examples=50, deadline=None)
def test_effective_weights_lie_between_tempering_and_the_full_inverse(counts):
    pictures = shares_as_masks(*counts)
    tempered, effective = (class_weights(pictures, (0,), mode).double() for mode in ("auto", "effective"))
    least, most = int(np.argmin(counts)), int(np.argmax(counts))
    ratio = float(effective[least] / effective[most])
    assert ratio <= counts[most] / counts[least] * (1 + 1e-4)
    assert ratio >= 1 - 1e-4
    assert float(tempered[least] / tempered[most]) == pytest.approx(math.sqrt(counts[most] / counts[least]), rel=1e-4)


def test_a_class_that_is_absent_weighs_one():
    assert class_weights(shares_as_masks(30, 0, 10), (0,), "effective")[1] == 1


def test_effective_weights_need_positives():
    with pytest.raises(DataError, match="need positive pixels"):
        class_weights(rare(holding=()), (0, 1), "effective")


# ---- batches that hold a class -------------------------------------------------------------------------------


def test_without_a_rate_the_batches_are_the_same_and_want_nothing():
    pictures = rare()
    plain = BatchStream(pictures, tuple(range(20)), 8, 50, 0)
    for (images, masks, step, wanted), (others, *_) in zip(stream(pictures, 0.0), plain, strict=True):
        assert torch.equal(images, others)
        assert (wanted == 255).all()
        assert (len(masks), step < 50) == (8, True)


@pytest.mark.parametrize("rate", [0.05, 0.33, 0.5, 1.0])
def test_that_share_of_a_batch_holds_a_positive_pixel(rate):
    drawn = 0
    for _, masks, _, wanted in stream(rare(), rate):
        chosen = wanted != 255
        assert (masks[chosen] == 1).flatten(1).any(1).all()
        assert abs(int(chosen.sum()) - rate * 8) < 1
        drawn += int(chosen.sum())
    assert drawn == math.floor(rate * 8 * 50)


def test_the_other_images_of_a_batch_are_those_they_were():
    plain, mixed = ([images[:4, 0, 0, 0].tolist() for images, *_ in stream(rare(), rate)] for rate in (0.0, 0.5))
    assert plain == mixed


def test_every_class_is_drawn_as_often_and_every_image_that_holds_it():
    masks = torch.zeros(30, 8, 8, dtype=torch.uint8)
    masks[:, 0, 0], masks[5, 4, 4], masks[[7, 8], 2, 2] = 1, 2, 4
    pictures = make_pictures([str(each) for each in range(30)], masks=masks, classes=5)
    wanted = torch.cat([each for *_, each in stream(pictures, 1.0, steps=500)])
    shares = torch.bincount(wanted.long(), minlength=5) / len(wanted)
    # The class 3 is nowhere; the other four share alike, although the class 0 is nearly everything.
    assert shares[3] == 0
    assert shares[[0, 1, 2, 4]].tolist() == pytest.approx([0.25] * 4, abs=0.03)
    shown = [seen for _, seen, _, asked in stream(pictures, 1.0) for seen in seen[asked == 4]]
    both = {bool(torch.equal(each, masks[7])) for each in shown}
    assert len(both) == 1 or both == {True, False}


def test_holders_are_the_places_of_the_images_that_hold_a_class():
    pictures = rare()
    found = class_holders(pictures, (11, 4, 3))
    assert {index: places.tolist() for index, places in found.items()} == {1: [0, 2]}
    assert class_holders(pictures, (4, 5)) == {}


def test_a_batch_with_a_rate_depends_on_the_seed_and_its_number_alone():
    whole = {step: images for images, _, step, _ in stream(rare(), 0.5, seed=2)}
    later = stream(rare(), 0.5, seed=2)
    later.first = 30
    assert all(torch.equal(images, whole[step]) for images, _, step, _ in later)
    assert any(not torch.equal(images, whole[step]) for images, _, step, _ in stream(rare(), 0.5, seed=3))


def test_a_rate_without_any_positive_pixel_is_refused():
    with pytest.raises(DataError, match=r"^`positive_rate` needs a positive pixel"):
        stream(rare(holding=()), 0.5)


# ---- crops around a class ------------------------------------------------------------------------------------


def cut(rate: float, augmentation=STANDARD, steps: int = 40) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """For each step, which windows of 16 x 16 show a positive pixel, and which were to."""
    found = []
    for images, masks, step, wanted in stream(rare(), rate, steps=steps):
        window, seen = crops(images / 255, masks, wanted, augmentation, step_generator(0, step), (16, 16))
        assert window.shape == (8, 3, 16, 16)
        found.append(((seen == 1).flatten(1).any(1), wanted != 255))
    return found


@pytest.mark.parametrize(
    "augmentation", [NONE, STANDARD, replace(STANDARD, scale=(0.2, 2.0))], ids=["none", "standard", "wild"]
)
def test_every_crop_that_was_to_show_a_positive_pixel_does(augmentation):
    for shows, asked in cut(0.5, augmentation):
        assert shows[asked].all()
        assert asked.sum() == 4


def test_crops_at_random_hardly_ever_show_a_rare_class():
    shares = {rate: float(torch.stack([shows.float() for shows, _ in cut(rate)]).mean()) for rate in (0.0, 0.5)}
    assert shares[0.0] < 0.05
    assert 0.5 <= shares[0.5] < 0.55


def test_an_unaugmented_crop_has_its_pixel_in_the_middle_and_shows_the_image_as_it_is():
    pictures = rare(holding=(3,))
    images, masks = pictures.images[[3]] / 255, pictures.masks[[3]]
    window, seen = crops(images, masks, torch.tensor([1], dtype=torch.uint8), NONE, step_generator(0, 0), (9, 9))
    assert seen[0, 4, 4] == 1
    rows, columns = torch.nonzero(masks[0] == 1).float().mean(0).round().int().tolist()
    top, left = (int(each) - 6 for each in (rows, columns))
    around = images[0, :, max(0, top) : top + 13, max(0, left) : left + 13].unfold(1, 9, 1).unfold(2, 9, 1)
    assert (around.permute(1, 2, 0, 3, 4) == window[0]).flatten(2).all(2).any()


def test_every_pixel_of_a_class_may_be_the_middle():
    masks = torch.zeros(400, 20, 20, dtype=torch.uint8)
    masks[:, 8, 8], masks[:, 8, 11] = 1, 1
    wanted = torch.ones(400, dtype=torch.uint8)
    _, seen = crops(torch.zeros(400, 3, 20, 20), masks, wanted, NONE, step_generator(0, 0), (3, 3))
    assert (seen[:, 1, 1] == 1).all()
    ramp = torch.arange(20.0).expand(400, 3, 20, 20).contiguous()
    columns = crops(ramp, masks, wanted, NONE, step_generator(0, 0), (3, 3))[0][:, 0, 1, 1]
    assert set(columns.tolist()) == {8, 11}
    assert float((columns == 8).float().mean()) == pytest.approx(0.5, abs=0.1)


def test_a_class_that_is_no_longer_there_is_cut_at_random_as_without_a_wish():
    pictures = rare()
    images, masks = pictures.images[:8] / 255, torch.zeros(8, 64, 64, dtype=torch.uint8)
    asked, free = (
        crops(images, masks, torch.full((8,), index, dtype=torch.uint8), STANDARD, step_generator(0, 0), (16, 16))
        for index in (1, 255)
    )
    assert torch.equal(asked[0], free[0])


def test_a_crop_as_large_as_the_image_is_the_image():
    pictures = rare(holding=(0,))
    images, masks = pictures.images[:1] / 255, pictures.masks[:1]
    window, seen = crops(images, masks, torch.tensor([1]), NONE, step_generator(0, 0), (64, 64))
    assert torch.equal(window, images)
    assert torch.equal(seen, masks)


# ---- hard pixels ---------------------------------------------------------------------------------------------


def test_the_hard_pixels_are_those_of_the_largest_loss():
    masks = torch.tensor([[[1, 1, 0, 0, 255]]], dtype=torch.uint8)
    logits = torch.tensor([3.0, -2.0, 1.0, -4.0, 50.0]).view(1, 1, 1, 5)
    losses = sorted(
        [math.log1p(math.exp(-3)), math.log1p(math.exp(2)), math.log1p(math.exp(1)), math.log1p(math.exp(-4))]
    )
    for share, count in ((0.01, 1), (0.25, 1), (0.5, 2), (0.51, 3), (0.75, 3)):
        found = float(TERMS["ce"](Answer(logits, masks, torch.ones(1), share)))
        assert found == pytest.approx(np.mean(losses[-count:]), rel=1e-5)
    assert float(TERMS["ce"](Answer(logits, masks, torch.ones(1), 1.0))) == pytest.approx(np.mean(losses), rel=1e-5)


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("masks", ["mixed", "none counted"])
def test_only_hard_pixels_that_count_have_a_gradient(outputs, masks):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, outputs, 10, 10, generator=generator).requires_grad_()
    truth = torch.randint(0, max(2, outputs), (2, 10, 10), generator=generator).to(torch.uint8)
    truth[:, :5] = 255
    truth = torch.full_like(truth, 255) if masks == "none counted" else truth
    CompoundLoss(outputs, torch.ones(outputs), "ce", hard_pixels=0.2)(logits, truth).backward()
    moved = (logits.grad != 0).any(1)
    assert int(moved.sum()) == (0 if masks == "none counted" else 20)
    assert not moved[:, :5].any()


@pytest.mark.parametrize("outputs", [1, 3])
def test_all_pixels_are_hard_by_default(outputs):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, outputs, 10, 10, generator=generator)
    truth = torch.randint(0, max(2, outputs), (2, 10, 10), generator=generator).to(torch.uint8)
    weights = torch.ones(outputs)
    assert torch.equal(
        CompoundLoss(outputs, weights)(logits, truth), CompoundLoss(outputs, weights, hard_pixels=1.0)(logits, truth)
    )
    nearly, whole = (CompoundLoss(outputs, weights, "ce", hard_pixels=share)(logits, truth) for share in (0.9999, 1.0))
    assert torch.allclose(nearly, whole)
