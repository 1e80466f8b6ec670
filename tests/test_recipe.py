"""Every option of a recipe beyond the first ones: off by default to the bit, felt when on, and safe to interrupt."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import OneCycleLR

from test_losses import LossAsItWas
from unplateau.data.pictures import read_pictures
from unplateau.data.sources import open_data
from unplateau.data.splits import split
from unplateau.data.transforms import NONE, Augmentation, augment
from unplateau.errors import UnplateauError
from unplateau.measures.thresholds import best_threshold, mean_iou
from unplateau.model import SegmentationModel
from unplateau.scenes import scenes
from unplateau.training import finetune as finetuning
from unplateau.training.averaging import averaged
from unplateau.training.batches import BatchStream, step_generator
from unplateau.training.devices import native_bf16
from unplateau.training.finetune import FineTuning, halve
from unplateau.training.loop import Trained, finetune
from unplateau.training.optimisers import adamw, blocks, one_cycle, parameter_groups
from unplateau.training.recipe import LATER, Recipe
from unplateau.training.scoring import score
from unplateau.training.train import build_pieces
from unplateau.types import Fold, Pictures

SHORT = Recipe(steps=6, batch=4, evaluations=2)

EVERYTHING = Recipe(
    steps=8,
    batch=3,
    evaluations=4,
    loss="0.5*ce + focal + dice + 0.3*tversky + focal-tversky + 0.2*lovasz + boundary",
    class_weights="effective",
    crop=(16, 16),
    positive_rate=0.4,
    hard_pixels=0.5,
    ema=0.8,
    layer_decay=0.7,
    frozen_steps=3,
    accumulate=2,
    keep="last",
)


@pytest.fixture(scope="module")
def planted() -> Pictures:
    return read_pictures(open_data(scenes("fire", 14, size=(32, 32))), size=32)


@pytest.fixture(scope="module")
def fold(planted) -> Fold:
    return split(planted, seed=0)[0]


def model_of(extractor: str = "reach-5", decoder: str = "linear", *, frozen: bool = False) -> SegmentationModel:
    return build_pieces(extractor, decoder, 1, frozen=frozen, seed=0)


def run(
    pictures: Pictures,
    fold: Fold,
    recipe: Recipe = SHORT,
    model: SegmentationModel | None = None,
    folder: Path | None = None,
) -> Trained:
    return finetune(model or model_of(), pictures, fold, recipe, seed=3, folder=folder)


@pytest.fixture(scope="module")
def reference(planted, fold) -> Trained:
    return run(planted, fold)


def weights_of(model: nn.Module) -> Tensor:
    return torch.cat([value.detach().flatten().float() for value in model.state_dict().values()])


# ---- the defaults are what they were -------------------------------------------------------------------------


def trained_as_before(pictures: Pictures, fold: Fold, recipe: Recipe, seed: int) -> SegmentationModel:
    """The training loop as it was before this file's options, written out: every step of the defaults."""
    model = model_of().to(memory_format=torch.channels_last).train()
    loss = LossAsItWas(1, torch.ones(1))
    optimizer = AdamW(model.parameters(), 2e-3, weight_decay=1e-2, fused=True)
    schedule = OneCycleLR(optimizer, 2e-3, total_steps=recipe.steps, pct_start=0.15)
    for images_u8, masks, step, *_ in BatchStream(pictures, fold.fit, recipe.batch, recipe.steps, seed):
        images = images_u8.float().div(255)
        if step < 0.3 * recipe.steps:
            images, masks = halve(images, masks)
        # Lightning has the whole step under autocast, so that the resampling of the augmentation is in bf16 too.
        with torch.autocast("cpu", torch.bfloat16, enabled=native_bf16("cpu")):
            images, masks = augment(images, masks, Augmentation(), step_generator(seed, step))
            value = loss(model(images.contiguous(memory_format=torch.channels_last)).logits, masks)
        optimizer.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return model


@pytest.mark.skipif(torch.cuda.is_available(), reason="written out for the CPU")
def test_a_run_by_default_has_to_the_bit_the_weights_it_had_before(planted, fold, monkeypatch):
    monkeypatch.setattr(finetuning, "_worth", lambda epoch: float(epoch.step))
    before = trained_as_before(planted, fold, SHORT, seed=3)
    assert torch.equal(weights_of(run(planted, fold).model), weights_of(before))


def test_a_recipe_of_defaults_reads_as_it_did_so_that_kept_outcomes_are_found():
    recipe = Recipe(steps=230, class_weights=(2.0,))
    assert repr(recipe) == (
        "Recipe(steps=230, batch=16, learning_rate=0.002, warmup=0.15, weight_decay=0.01, clip=1.0, dice=1.0, "
        f"class_weights=(2.0,), half_size=0.3, crop=None, augmentation={Augmentation()!r}, evaluations=10, patience=0)"
    )


def test_a_weight_of_dice_as_models_saved_earlier_say_it_is_a_loss():
    texts = [replace(Recipe(), dice=weight).loss for weight in (0.0, 1.0, 3.0)]
    assert texts == ["ce", "ce + dice", "ce + 3.0*dice"]
    assert replace(Recipe(dice=3.0), steps=7).loss == "ce + 3.0*dice"
    assert Recipe(dice=1) == Recipe()


def test_every_option_tells_a_recipe_from_the_default_one():
    texts = {repr(replace(Recipe(), **{name: getattr(EVERYTHING, name)})) for name in (*LATER, "loss")}
    assert len(texts) == len(LATER) + 1
    assert repr(Recipe()) not in texts


def test_options_that_are_off_make_no_state(planted, fold):
    module = FineTuning(model_of(), planted, fold, SHORT, 0)
    assert module.averaged is None
    assert module.judged is module.model
    assert [name for name in module.state_dict() if not name.startswith("model.")] == ["loss.class_weights"]
    assert len(parameter_groups(module.model, SHORT)) == 1


# ---- interrupted with everything on --------------------------------------------------------------------------


@pytest.mark.parametrize("stop", [5, 10, 15])
def test_with_every_option_on_an_interrupted_run_ends_as_an_unbroken_one(stop, planted, fold, tmp_path, monkeypatch):
    model = lambda: model_of("timm/test_resnet", "conv")  # noqa: E731
    unbroken = run(planted, fold, EVERYTHING, model())
    original = FineTuning.training_step

    def breaking(self, batch, index):
        if batch[2] == stop:
            raise RuntimeError("power cut")
        return original(self, batch, index)

    with monkeypatch.context() as patch:
        patch.setattr(FineTuning, "training_step", breaking)
        with pytest.raises(RuntimeError, match="power cut"):
            run(planted, fold, EVERYTHING, model(), tmp_path)
    resumed = run(planted, fold, EVERYTHING, model(), tmp_path)
    assert repr(resumed.epochs) == repr(unbroken.epochs)
    assert [epoch.step for epoch in resumed.epochs] == [2, 4, 6, 8]
    assert torch.equal(weights_of(resumed.model), weights_of(unbroken.model))


# ---- the average of the weights ------------------------------------------------------------------------------


def test_the_average_is_what_is_evaluated_and_returned(planted, fold, reference):
    trained = run(planted, fold, replace(SHORT, ema=0.9))
    assert not torch.equal(weights_of(trained.model), weights_of(reference.model))
    best = max(epoch.best_iou for epoch in trained.epochs)
    table = score(trained.model, planted, fold.inner)
    assert mean_iou(table.at(best_threshold(table))) == pytest.approx(best, abs=1e-3)
    assert trained.epochs[0].train_loss == reference.epochs[0].train_loss
    assert trained.epochs[0].val_loss != reference.epochs[0].val_loss


def test_the_average_follows_at_first_and_lags_by_its_decay_later():
    model = nn.Linear(1, 1, bias=False)
    follower = averaged(model, 0.9)
    model.weight.data.fill_(5.0)
    follower.update_parameters(model)
    assert float(follower.module.weight) == 5.0
    model.weight.data.fill_(6.0)
    follower.update_parameters(model)
    # After one update the share kept is 2 / 11.
    assert float(follower.module.weight) == pytest.approx(5 * 2 / 11 + 6 * 9 / 11)
    for _ in range(200):
        follower.update_parameters(model)
    model.weight.data.fill_(7.0)
    follower.update_parameters(model)
    assert float(follower.module.weight) == pytest.approx(6.1, abs=1e-4)
    assert not follower.module.weight.requires_grad


def test_batch_statistics_are_averaged_too():
    model = nn.BatchNorm2d(2)
    follower = averaged(model, 0.5)
    for _ in range(3):
        model(torch.randn(2, 2, 3, 3))
        follower.update_parameters(model)
    assert not torch.equal(follower.module.running_mean, model.running_mean)
    assert not torch.equal(follower.module.running_mean, torch.zeros(2))


# ---- rates ---------------------------------------------------------------------------------------------------


def rates_by_block(extractor: str, decoder: str, decay: float) -> tuple[SegmentationModel, dict[int, float]]:
    model = model_of(extractor, decoder)
    groups = adamw(model, replace(SHORT, layer_decay=decay)).param_groups
    return model, {id(weight): group["lr"] for group in groups for weight in group["params"]}


@pytest.mark.parametrize(
    ("extractor", "decoder"), [("timm/test_resnet", "unet"), ("timm/test_vit", "conv"), ("reach-15", "linear")]
)
def test_the_decoder_has_the_full_rate_and_each_block_before_it_less(extractor, decoder):
    model, rates = rates_by_block(extractor, decoder, 0.5)
    assert rates.keys() == {id(weight) for weight in model.parameters() if weight.requires_grad}
    assert {rates[id(weight)] for weight in model.decoder.parameters()} == {SHORT.learning_rate}
    depths = [rates[id(block[0])] for block in blocks(model.extractor).values()]
    assert depths == pytest.approx([SHORT.learning_rate * 0.5**depth for depth in range(len(depths), 0, -1)])
    assert len(depths) > 2


def test_the_weights_of_a_block_stay_together():
    names = list(blocks(model_of("timm/test_resnet", "conv").extractor))
    assert len(names) < len(list(model_of("timm/test_resnet", "conv").extractor.parameters())) / 2
    assert len(names) == len(set(names))


def test_early_layers_move_less_under_layer_decay(planted, fold):
    start = model_of("reach-15")
    moved = {}
    for decay in (1.0, 0.1):
        model = run(planted, fold, replace(SHORT, layer_decay=decay), model_of("reach-15")).model
        first = next(iter(blocks(start.extractor)))
        pairs = zip(blocks(start.extractor)[first], blocks(model.extractor)[first], strict=True)
        moved[decay] = sum(float((one - other).detach().abs().sum()) for one, other in pairs)
    assert 0 < moved[0.1] < 0.1 * moved[1.0]


def test_the_rate_that_is_logged_is_the_full_one(planted, fold, reference):
    trained = run(planted, fold, replace(SHORT, layer_decay=0.5))
    assert [epoch.learning_rate for epoch in trained.epochs] == [epoch.learning_rate for epoch in reference.epochs]


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5, 8, 10, 20, 100])
@pytest.mark.parametrize("warmup", [1e-6, 0.01, 0.05, 0.1, 0.125, 0.2, 0.25, 0.5, 0.9])
def test_no_warmup_is_too_short(steps, warmup):
    recipe = Recipe(steps=steps, warmup=warmup)
    optimizer = adamw(model_of("colour"), recipe)
    schedule = one_cycle(optimizer, recipe)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert all(0 <= rate <= recipe.learning_rate * (1 + 1e-6) for rate in rates)
    if warmup * steps <= 1 and steps > 3:
        assert rates[0] > 0.8 * recipe.learning_rate


# ---- frozen first --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("extractor", ["reach-5", "timm/test_resnet"])
def test_the_extractor_is_the_same_to_the_bit_while_it_is_held_and_moves_after(extractor, planted, fold, monkeypatch):
    monkeypatch.setattr(finetuning, "_worth", lambda epoch: float(epoch.step))
    start = model_of(extractor, "conv")
    held = run(planted, fold, replace(SHORT, frozen_steps=6), model_of(extractor, "conv")).model
    assert torch.equal(weights_of(held.extractor), weights_of(start.extractor))
    assert not torch.equal(weights_of(held.decoder), weights_of(start.decoder))
    assert all(weight.requires_grad for weight in held.parameters())
    loose = run(planted, fold, replace(SHORT, frozen_steps=5), model_of(extractor, "conv")).model
    assert not torch.equal(weights_of(loose.extractor), weights_of(start.extractor))


def test_an_extractor_frozen_for_good_stays_so(planted, fold):
    model = model_of(frozen=True)
    before = weights_of(model.extractor)
    after = run(planted, fold, replace(SHORT, frozen_steps=2, ema=0.9, layer_decay=0.5), model).model
    assert torch.equal(weights_of(after.extractor), before)
    assert not any(weight.requires_grad for weight in after.extractor.parameters())


# ---- accumulation --------------------------------------------------------------------------------------------


def test_the_gradients_of_the_batches_of_a_step_are_averaged(planted, fold, monkeypatch):
    """The same batch twice has the gradient of the batch once, to the bit."""
    monkeypatch.setattr(finetuning, "_worth", lambda epoch: float(epoch.step))
    plain = replace(SHORT, augmentation=NONE, steps=3)
    trained = []
    for times in (1, 2):
        monkeypatch.setattr(BatchStream, "_positions", lambda _, number, n=times: torch.arange(4) + number // n)
        trained.append(run(planted, fold, replace(plain, accumulate=times)))
    once, twice = (torch.cat([weight.detach().flatten() for weight in each.model.parameters()]) for each in trained)
    assert torch.equal(once, twice)
    assert [epoch.step for epoch in trained[1].epochs] == [epoch.step for epoch in trained[0].epochs]


def test_accumulation_counts_steps_not_batches(planted, fold):
    seen = []
    recipe = replace(SHORT, accumulate=3)
    original = FineTuning._shown

    def noting(self, batch):
        shown = original(self, batch)
        seen.append((batch[2], shown[0].shape[-1]))
        return shown

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FineTuning, "_shown", noting)
        trained = run(planted, fold, recipe)
    assert [number for number, _ in seen] == list(range(18))
    # A step is at one size: 0.3 of six steps are two, the batches before the sixth.
    assert [side for _, side in seen] == [16] * 6 + [32] * 12
    assert [epoch.step for epoch in trained.epochs] == [3, 6]


# ---- crops of many scales ------------------------------------------------------------------------------------


def test_crops_come_at_many_scales():
    """A ramp of brightness tells by its slope how much of the image a window shows."""
    ramp = torch.linspace(0, 1, 64).expand(200, 3, 64, 64).contiguous()
    still = replace(NONE, scale=(0.5, 1.5))
    windows, _ = augment(
        ramp, torch.zeros(200, 64, 64, dtype=torch.uint8), still, torch.Generator().manual_seed(0), (16, 16)
    )
    slopes = (windows[:, 0, 8, 12] - windows[:, 0, 8, 4]) / 8 * 63
    assert windows.shape == (200, 3, 16, 16)
    assert 0.45 < float(slopes.min()) < 0.55
    assert 1.45 < float(slopes.max()) < 1.55


# ---- refusals ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {"positive_rate": -0.1},
        {"positive_rate": 1.1},
        {"hard_pixels": 0.0},
        {"hard_pixels": 1.5},
        {"ema": -0.1},
        {"ema": 1.0},
        {"ema": math.nan},
        {"layer_decay": 0.0},
        {"layer_decay": 1.1},
        {"frozen_steps": -1},
        {"accumulate": 0},
        {"hard_pixels": 0.5, "loss": "dice"},
        {"class_weights": "auto", "loss": "dice + lovasz"},
        {"class_weights": (2.0,), "loss": "tversky"},
    ],
    ids=str,
)
def test_a_senseless_option_is_refused_in_one_sentence_that_names_it(wrong):
    with pytest.raises(UnplateauError, match=f"^`{next(iter(wrong))}` .*got .*\\.$"):
        Recipe(**wrong)


def test_a_number_without_bound_is_told_the_rule_that_it_breaks():
    with pytest.raises(UnplateauError, match=r"^`learning_rate` must be a finite number; got inf"):
        Recipe(learning_rate=math.inf)
    with pytest.raises(UnplateauError, match=r"^`learning_rate` must be at least "):
        Recipe(learning_rate=-1.0)


def test_a_loss_that_is_none_is_refused_with_the_recipe():
    with pytest.raises(UnplateauError, match="did you mean 'dice'"):
        Recipe(loss="ce + dise")


@pytest.mark.parametrize("name", [*(name for name in LATER if name != "keep"), "loss"])
def test_each_option_changes_the_run(name, planted, fold, reference):
    changed = run(planted, fold, replace(SHORT, **{name: getattr(EVERYTHING, name)}))
    assert repr(changed.epochs) != repr(reference.epochs)
