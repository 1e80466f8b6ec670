"""One battery of properties over every term of the loss, and the sum that is written as text."""

from __future__ import annotations

from typing import final

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from unplateau.errors import UnplateauError
from unplateau.training.loss_terms import TERMS, WEIGHED, Answer, boundary, focal, tversky
from unplateau.training.losses import STANDARD, CompoundLoss, parse_loss

every_term = pytest.mark.parametrize("name", TERMS)
binary_and_not = pytest.mark.parametrize("outputs", [1, 3])
MANY = settings(max_examples=25, deadline=None)


@final
class LossAsItWas(nn.Module):
    """Cross-entropy plus Dice as they were before the loss was written as text: the defaults must not move a bit."""

    def __init__(self, outputs: int, class_weights: Tensor, dice: float = 1.0) -> None:
        super().__init__()
        self.outputs = outputs
        self.dice = dice
        self.register_buffer("class_weights", class_weights)

    def forward(self, logits: Tensor, masks: Tensor) -> Tensor:
        logits = logits.float()
        counted = masks != 255
        entropy = self._cross_entropy(logits, masks, counted)
        return entropy + self.dice * self._dice(logits, masks, counted) if self.dice else entropy

    def _cross_entropy(self, logits: Tensor, masks: Tensor, counted: Tensor) -> Tensor:
        if self.outputs == 1:
            positive = (masks == 1).float()
            loss = F.binary_cross_entropy_with_logits(
                logits[:, 0], positive, pos_weight=self.class_weights, reduction="none"
            )
            return (loss * counted).sum() / counted.sum().clamp(min=1)
        loss = F.cross_entropy(logits, masks.long(), self.class_weights, ignore_index=255, reduction="sum")
        return loss / counted.sum().clamp(min=1)

    def _dice(self, logits: Tensor, masks: Tensor, counted: Tensor) -> Tensor:
        weight = counted[:, None].float()
        if self.outputs == 1:
            scores, true = logits.sigmoid() * weight, (masks == 1)[:, None].float()
        else:
            scores = logits.softmax(1) * weight
            index = torch.where(counted, masks, 0).long()
            true = F.one_hot(index, self.outputs).permute(0, 3, 1, 2) * weight
        overlap = (scores * true).sum((0, 2, 3))
        size = scores.sum((0, 2, 3)) + true.sum((0, 2, 3))
        dice = (2 * overlap + 1) / (size + 1)
        present = true.sum((0, 2, 3)) > 0
        return (1 - dice[present]).mean() if present.any() else (1 - dice).mean()


def made(outputs: int, seed: int = 0, spread: float = 1.0) -> tuple[Tensor, Tensor]:
    """Logits (3, outputs, 9, 8) and masks (3, 9, 8) with blobs of each class, the first rows of 255."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(3, max(outputs, 2), 3, 2, generator=generator)
    masks = F.interpolate(noise, size=(9, 8), mode="bilinear").argmax(1).to(torch.uint8)
    masks[:, :2] = 255
    return torch.randn(3, outputs, 9, 8, generator=generator) * spread, masks


def value(name: str, logits: Tensor, masks: Tensor) -> Tensor:
    return CompoundLoss(logits.shape[1], torch.ones(logits.shape[1]), name)(logits, masks)


def slope(name: str, logits: Tensor, masks: Tensor) -> Tensor:
    logits = logits.clone().requires_grad_()
    value(name, logits, masks).backward()
    return logits.grad


def towards_truth(logits: Tensor, masks: Tensor, by: Tensor) -> Tensor:
    """The logits, each pixel's moved by `by` (B, H, W) towards what is true."""
    if logits.shape[1] == 1:
        return logits + torch.where(masks == 1, by, -by)[:, None]
    index = torch.where(masks == 255, 0, masks).long()
    return logits + F.one_hot(index, logits.shape[1]).permute(0, 3, 1, 2) * by[:, None]


# ---- every term ----------------------------------------------------------------------------------------------


@every_term
@binary_and_not
def test_a_pixel_that_is_not_counted_has_a_gradient_of_exactly_zero(name, outputs):
    gradient = slope(name, *made(outputs))
    assert (gradient[:, :, :2] == 0).all()
    assert gradient[:, :, 2:].abs().sum() > 0


@every_term
@binary_and_not
def test_what_is_said_of_an_uncounted_pixel_changes_nothing(name, outputs):
    logits, masks = made(outputs)
    other = logits.clone()
    other[:, :, :2] = 77
    assert torch.equal(value(name, logits, masks), value(name, other, masks))


@every_term
@binary_and_not
@pytest.mark.parametrize("size", [1e2, 1e4, -1e4])
@pytest.mark.parametrize("masks", ["mixed", "right", "none positive", "all positive", "none counted"])
def test_extreme_logits_in_bf16_give_finite_losses_and_gradients(name, outputs, size, masks):
    logits, truth = made(outputs)
    logits = logits.sign() * size
    if masks == "right":
        logits = towards_truth(torch.zeros_like(logits), truth, torch.full_like(truth, 1.0, dtype=torch.float)) * size
    elif masks != "mixed":
        truth = torch.full_like(truth, {"none positive": 0, "all positive": 1, "none counted": 255}[masks])
    with torch.autocast("cpu", torch.bfloat16):
        logits = logits.bfloat16().requires_grad_()
        loss = value(name, logits, truth)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()
    assert loss.dtype == torch.float32


@every_term
@binary_and_not
def test_autocast_does_not_coarsen_a_loss(name, outputs):
    logits, masks = made(outputs)
    plain = value(name, logits, masks)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(value(name, logits, masks), plain)


@every_term
@binary_and_not
def test_a_batch_without_a_counted_pixel_costs_nothing_or_the_same_whatever_is_said(name, outputs):
    logits, masks = made(outputs)
    nothing = torch.full_like(masks, 255)
    assert (slope(name, logits, nothing) == 0).all()
    assert torch.equal(value(name, logits, nothing), value(name, logits + 1, nothing))


@pytest.mark.parametrize("name", sorted(set(TERMS) - {"boundary"}))
def test_without_positives_false_ones_are_pushed_down(name):
    logits, masks = made(1)
    gradient = slope(name, logits, torch.where(masks == 1, 0, masks))
    assert (gradient >= 0).all()
    assert (gradient > 0).any()


def test_the_boundary_term_says_nothing_without_a_boundary():
    logits, masks = made(1)
    for only in (0, 1):
        assert float(value("boundary", logits, torch.where(masks == 255, masks, only))) == 0


@every_term
@binary_and_not
def test_the_order_of_a_batch_does_not_matter(name, outputs):
    logits, masks = made(outputs)
    order = [2, 0, 1]
    assert torch.allclose(value(name, logits, masks), value(name, logits[order], masks[order]), rtol=1e-5)
    assert torch.allclose(slope(name, logits, masks)[order], slope(name, logits[order], masks[order]), atol=1e-6)


@every_term
@binary_and_not
@given(seed=st.integers(0, 999), share=st.floats(0.05, 1), spread=st.sampled_from([0.1, 1.0, 4.0]))
@MANY
def test_a_better_answer_never_costs_more(name, outputs, seed, share, spread):
    logits, masks = made(outputs, seed, spread)
    generator = torch.Generator().manual_seed(seed + 1)
    moved = torch.rand(masks.shape, generator=generator) * 3 * (torch.rand(masks.shape, generator=generator) < share)
    better = towards_truth(logits, masks, moved)
    assert float(value(name, better, masks)) <= float(value(name, logits, masks)) + 1e-5


@every_term
@binary_and_not
def test_a_right_answer_costs_next_to_nothing_and_each_step_to_it_pays(name, outputs):
    logits, masks = made(outputs)
    ones = torch.ones(masks.shape)
    costs = [float(value(name, towards_truth(logits, masks, ones * by), masks)) for by in (-30, -2, 0, 2, 30)]
    assert costs == sorted(costs, reverse=True)
    assert len(set(costs)) == len(costs)
    assert costs[-1] < 1e-3


@every_term
@binary_and_not
def test_following_the_gradient_lowers_the_loss(name, outputs):
    logits, masks = made(outputs)
    gradient = slope(name, logits, masks)
    step = 1e-2 / gradient.norm()
    assert float(value(name, logits - step * gradient, masks)) < float(value(name, logits, masks))


# ---- single terms --------------------------------------------------------------------------------------------


def answer(outputs: int, weights: Tensor | None = None) -> Answer:
    logits, masks = made(outputs)
    return Answer(logits, masks, torch.ones(outputs) if weights is None else weights)


@binary_and_not
def test_focal_without_focus_is_cross_entropy(outputs):
    weights = torch.arange(2.0, 2.0 + outputs)
    assert torch.allclose(focal(answer(outputs, weights), gamma=0.0), TERMS["ce"](answer(outputs, weights)))


def test_focal_has_the_value_of_the_formula():
    logits, masks = torch.tensor([2.0, -1.0]).view(1, 1, 1, 2), torch.tensor([[[1, 1]]], dtype=torch.uint8)
    p = logits.sigmoid().flatten()
    wanted = (-((1 - p) ** 2) * p.log()).mean()
    assert torch.allclose(value("focal", logits, masks), wanted)


@binary_and_not
def test_tversky_at_half_and_half_is_dice(outputs):
    assert torch.allclose(tversky(answer(outputs), spurious=0.5, missed=0.5), TERMS["dice"](answer(outputs)))


def test_tversky_minds_what_is_missed_more_than_what_is_spurious():
    masks = torch.zeros(1, 4, 10, dtype=torch.uint8)
    masks[:, :, :4] = 1
    found = [torch.full((1, 1, 4, 10), -20.0) for _ in range(2)]
    found[0][..., :3], found[1][..., :5] = 20, 20
    missed, spurious = (float(value("tversky", each, masks)) for each in found)
    assert missed > spurious > 0


@binary_and_not
def test_focal_tversky_is_the_power_of_tversky_class_by_class(outputs):
    logits, masks = made(outputs)
    only_one = torch.where(masks == 255, masks, torch.ones_like(masks))
    plain, focused = (float(value(name, logits, only_one)) for name in ("tversky", "focal-tversky"))
    assert focused == pytest.approx(plain**0.75, rel=1e-5)


@given(seed=st.integers(0, 999))
@MANY
def test_lovasz_at_certain_answers_is_the_jaccard_loss_of_the_classes_present(seed):
    logits, masks = made(3, seed)
    sure = F.one_hot(logits.argmax(1), 3).permute(0, 3, 1, 2) * 200.0
    said, true, counted = logits.argmax(1), masks.long(), masks != 255
    losses = []
    for index in torch.unique(true[counted]):
        one, other = (said == index) & counted, true == index
        losses.append(1 - (one & other).sum() / (one | other).sum())
    assert float(value("lovasz", sure, masks)) == pytest.approx(float(torch.stack(losses).mean()), abs=1e-5)


def test_the_boundary_term_is_one_where_all_is_wrong_and_counts_by_distance():
    masks = torch.zeros(1, 1, 8, dtype=torch.uint8)
    masks[..., 4:] = 1
    wrong = torch.where(masks == 1, -99.0, 99.0)[:, None]
    assert float(boundary(Answer(wrong, masks, torch.ones(1)))) == pytest.approx(1)
    near, far = -wrong.clone(), -wrong.clone()
    near[..., 3], far[..., 0] = 99, 99
    # Distances from the boundary are .5, 1.5, 2.5 and 3.5 on either side.
    assert float(boundary(Answer(near, masks, torch.ones(1)))) == pytest.approx(0.5 / 16)
    assert float(boundary(Answer(far, masks, torch.ones(1)))) == pytest.approx(3.5 / 16)


@pytest.mark.parametrize("name", sorted(TERMS))
@binary_and_not
def test_class_weights_change_the_terms_that_say_so_and_no_others(name, outputs):
    logits, masks = made(outputs)
    heavy = torch.ones(outputs)
    heavy[0] = 5
    changed = CompoundLoss(outputs, heavy, name)(logits, masks) != value(name, logits, masks)
    assert bool(changed) == (name in WEIGHED)


# ---- the sum -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("outputs", [1, 2, 5])
@pytest.mark.parametrize("seed", range(4))
def test_the_standard_loss_is_to_the_bit_what_it_was(outputs, seed):
    logits, masks = made(outputs, seed, spread=3)
    weights = torch.rand(outputs, generator=torch.Generator().manual_seed(seed)) + 0.5
    gradients, losses = [], []
    for loss in (LossAsItWas(outputs, weights), CompoundLoss(outputs, weights)):
        own = logits.clone().requires_grad_()
        losses.append(loss(own, masks))
        losses[-1].backward()
        gradients.append(own.grad)
    assert torch.equal(*losses)
    assert torch.equal(*gradients)


@pytest.mark.parametrize(("text", "dice"), [("ce", 0.0), ("ce + 3*dice", 3.0), ("ce + 0.25*dice", 0.25)])
def test_other_weights_of_dice_are_to_the_bit_what_they_were(text, dice):
    logits, masks = made(1)
    before = LossAsItWas(1, torch.ones(1), dice)(logits, masks)
    assert torch.equal(value(text, logits, masks), before)


def test_a_loss_is_the_weighted_sum_of_its_terms():
    logits, masks = made(3)
    text = "0.5*focal + 2 * lovasz+boundary"
    parts = 0.5 * value("focal", logits, masks) + 2 * value("lovasz", logits, masks) + value("boundary", logits, masks)
    assert torch.allclose(value(text, logits, masks), parts)


def test_the_text_of_a_loss_is_read_as_it_looks():
    assert parse_loss(STANDARD) == {"ce": 1.0, "dice": 1.0}
    assert parse_loss(" 1e-1*focal-tversky+ ce") == {"focal-tversky": 0.1, "ce": 1.0}
    assert list(parse_loss("dice + ce")) == ["dice", "ce"]


@pytest.mark.parametrize(
    ("text", "said"),
    {
        "ce + dise": "'dise', did you mean 'dice'",
        "focal_tversky": "did you mean 'focal-tversky'",
        "": "for '', did you mean",
        "ce +": "for '', did you mean",
        "ce + ce": "name 'ce' once",
        "0*dice": "factor '0' must be a number above 0",
        "-1*dice": "factor '-1'",
        "x*dice": "factor 'x'",
        "*dice": "factor ''",
        "nan*ce": "factor 'nan'",
        "inf*ce": "factor 'inf'",
        "ce*2": "for '2', did you mean",
        "ce - dice": "did you mean",
    }.items(),
    ids=repr,
)
def test_what_is_no_loss_is_refused_in_one_sentence(text, said):
    with pytest.raises(UnplateauError) as caught:
        parse_loss(text)
    sentence = str(caught.value)
    assert sentence.startswith(f"`loss` must add up terms by name, as in 'ce + 0.5*dice'; got {text!r}: ")
    assert said in sentence
    assert "\n" not in sentence
