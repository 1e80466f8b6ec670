"""Fine-tuning: the loss by hand, batches by number, the same seed the same bits, and nothing lost on the way."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from conftest import make_pictures
from unplateau.data.grid import place
from unplateau.data.pictures import read_pictures
from unplateau.data.sources import open_data
from unplateau.data.splits import split
from unplateau.data.transforms import NONE
from unplateau.errors import DataError, PieceError, UnplateauError
from unplateau.measures.thresholds import best_threshold, counts_at, mean_iou
from unplateau.model import SegmentationModel
from unplateau.scenes import scenes
from unplateau.training import finetune as finetuning
from unplateau.training.batches import BatchStream, in_order
from unplateau.training.finetune import FineTuning, halve
from unplateau.training.loop import LAST, Trained, finetune, precision
from unplateau.training.losses import CompoundLoss
from unplateau.training.predict import predict_images, score_map, to_ids
from unplateau.training.recipe import Recipe
from unplateau.training.saved import FACTS, WEIGHTS, SavedModel, load_model, save_model
from unplateau.training.scoring import answers, probabilities, score
from unplateau.training.train import build_pieces, train_model
from unplateau.types import Fold, Pictures, Prediction, Task

SHORT = Recipe(steps=6, batch=4, evaluations=2)
"""As little training as still shows what is asked here."""


@pytest.fixture(scope="module")
def planted() -> Pictures:
    return read_pictures(open_data(scenes("fire", 14, size=(32, 32))), size=32)


@pytest.fixture(scope="module")
def fold(planted) -> Fold:
    return split(planted, seed=0)[0]


def model_of(pictures: Pictures, extractor: str = "reach-5", decoder: str = "linear", *, frozen: bool = False):
    return build_pieces(extractor, decoder, pictures.task.outputs, frozen=frozen, seed=0)


def run(pictures: Pictures, fold: Fold, recipe: Recipe = SHORT, seed: int = 0, folder: Path | None = None) -> Trained:
    return finetune(model_of(pictures), pictures, fold, recipe, seed=seed, folder=folder)


@pytest.fixture(scope="module")
def reference(planted, fold) -> Trained:
    """The run that the others are compared with."""
    return run(planted, fold)


def same_weights(first: nn.Module, second: nn.Module) -> bool:
    ours, theirs = first.state_dict(), second.state_dict()
    return all(torch.equal(ours[name], theirs[name]) for name in ours)


def same_epochs(first: Trained, second: Trained) -> bool:
    return repr(first.epochs) == repr(second.epochs)


# ---- the loss ------------------------------------------------------------------------------------------------

ONES = torch.ones(1)


def logits_and_masks(classes: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    masks = torch.randint(0, max(classes, 2), (2, 5, 6), generator=generator)
    masks[:, 0] = 255
    return torch.randn(2, classes, 5, 6, generator=generator), masks.to(torch.uint8)


@pytest.mark.parametrize("classes", [1, 3])
def test_a_pixel_that_is_not_counted_has_no_gradient_at_all(classes):
    logits, masks = logits_and_masks(classes)
    logits.requires_grad_()
    CompoundLoss(classes, torch.ones(classes))(logits, masks).backward()
    assert (logits.grad[:, :, 0] == 0).all()
    assert (logits.grad[:, :, 1:] != 0).all()


@pytest.mark.parametrize("classes", [1, 3])
def test_what_a_model_says_of_an_uncounted_pixel_does_not_change_the_loss(classes):
    logits, masks = logits_and_masks(classes)
    other = logits.clone()
    other[:, :, 0] = 50
    loss = CompoundLoss(classes, torch.ones(classes))
    assert torch.equal(loss(logits, masks), loss(other, masks))


def test_the_binary_loss_equals_the_value_by_hand():
    logits = torch.tensor([2.0, -1.0, 0.5, 3.0]).view(1, 1, 1, 4)
    masks = torch.tensor([1, 0, 1, 255], dtype=torch.uint8).view(1, 1, 4)
    p = [1 / (1 + math.exp(-each)) for each in (2.0, -1.0, 0.5)]
    entropy = -(2 * math.log(p[0]) + math.log(1 - p[1]) + 2 * math.log(p[2])) / 3
    dice = 1 - (2 * (p[0] + p[2]) + 1) / (sum(p) + 2 + 1)
    found = CompoundLoss(1, torch.tensor([2.0]), "ce + 0.5*dice")(logits, masks)
    assert float(found) == pytest.approx(entropy + 0.5 * dice, rel=1e-6)


def test_the_loss_of_many_classes_equals_the_value_by_hand():
    rows = np.array([[1.0, 0.0, -1.0], [0.0, 2.0, 0.0]])
    p = np.exp(rows) / np.exp(rows).sum(1, keepdims=True)
    masks = torch.tensor([0, 1], dtype=torch.uint8).view(1, 1, 2)
    entropy = -(3 * np.log(p[0, 0]) + np.log(p[1, 1])) / 2
    scores, true = p.sum(0), np.array([1, 1, 0])
    dice = [1 - (2 * p[place, place] + 1) / (scores[place] + true[place] + 1) for place in (0, 1)]
    logits = torch.tensor(rows, dtype=torch.float32).T.reshape(1, 3, 1, 2)
    found = CompoundLoss(3, torch.tensor([3.0, 1.0, 1.0]))(logits, masks)
    assert float(found) == pytest.approx(entropy + np.mean(dice), rel=1e-6)


@pytest.mark.parametrize("classes", [1, 3])
def test_dice_left_out_is_off_and_its_weight_counts(classes):
    logits, masks = logits_and_masks(classes)
    texts = ("ce", "ce + dice", "ce + 2*dice")
    off, once, twice = (float(CompoundLoss(classes, torch.ones(classes), text)(logits, masks)) for text in texts)
    assert off < once < twice
    assert twice - once == pytest.approx(once - off, rel=1e-5)


@pytest.mark.parametrize("classes", [1, 3])
def test_class_weights_change_the_loss(classes):
    logits, masks = logits_and_masks(classes)
    heavy = torch.ones(classes)
    heavy[0] = 4
    assert CompoundLoss(classes, heavy)(logits, masks) > CompoundLoss(classes, torch.ones(classes))(logits, masks)


@pytest.mark.parametrize("classes", [1, 3])
def test_a_perfect_answer_costs_next_to_nothing_and_its_opposite_much(classes):
    _, masks = logits_and_masks(classes)
    index = torch.where(masks == 255, 0, masks).long()
    sure = nn.functional.one_hot(index, 3).permute(0, 3, 1, 2).float() * 40 - 20
    logits = sure[:, 1:2] if classes == 1 else sure
    loss = CompoundLoss(classes, torch.ones(classes))
    assert float(loss(logits, masks)) < 1e-4
    assert float(loss(-logits, masks)) > 5


def test_a_batch_without_the_class_or_without_any_counted_pixel_has_a_finite_loss():
    logits, masks = logits_and_masks(1)
    for each in (torch.zeros_like(masks), torch.full_like(masks, 255)):
        assert torch.isfinite(CompoundLoss(1, ONES)(logits, each))


# ---- the recipe ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0},
        {"batch": 0},
        {"learning_rate": 0.0},
        {"learning_rate": float("nan")},
        {"learning_rate": float("inf")},
        {"weight_decay": -1.0},
        {"clip": 0.0},
        {"warmup": 0.0},
        {"warmup": 1.0},
        {"half_size": 1.0},
        {"half_size": -0.1},
        {"evaluations": 0},
        {"patience": -1},
        {"crop": (0, 8)},
        {"class_weights": "inverse"},
    ],
    ids=str,
)
def test_a_senseless_number_is_refused_in_one_sentence_that_names_it(wrong):
    with pytest.raises(UnplateauError, match=f"^`{next(iter(wrong))}` .*got .*\\.$"):
        Recipe(**wrong)


@pytest.mark.parametrize(("steps", "evaluations"), [(12, 4), (14, 4), (15, 10), (7, 7), (5, 20), (1, 1)])
def test_there_are_never_more_evaluations_than_asked_for(steps, evaluations):
    recipe = Recipe(steps=steps, evaluations=evaluations)
    assert math.ceil(steps / recipe.evaluate_every) <= evaluations


CHANGED: dict[str, object] = {
    "steps": 8,
    "batch": 3,
    "learning_rate": 5e-3,
    "warmup": 0.4,
    "weight_decay": 0.5,
    "clip": 0.01,
    "loss": "ce",
    "class_weights": (5.0,),
    "half_size": 0.0,
    "crop": (16, 16),
    "augmentation": NONE,
    "evaluations": 3,
    "patience": 1,
    "positive_rate": 0.5,
    "hard_pixels": 0.2,
    "ema": 0.9,
    "layer_decay": 0.5,
    "frozen_steps": 3,
    "accumulate": 2,
    "keep": "last",
}


def test_every_field_of_a_recipe_is_tried_below():
    assert set(CHANGED) == {field.name for field in fields(Recipe)}


@pytest.mark.parametrize("name", sorted(set(CHANGED) - {"patience", "keep"}))
def test_each_field_of_a_recipe_changes_the_run(name, planted, fold, reference):
    other = run(planted, fold, replace(SHORT, **{name: CHANGED[name]}))
    assert not same_epochs(other, reference)


def test_class_weights_by_frequency_are_those_of_the_training_part(planted, fold):
    module = FineTuning(model_of(planted), planted, fold, replace(SHORT, class_weights="auto"), 0)
    masks = planted.masks[list(fold.fit)]
    odds = (masks == 0).sum() / (masks == 1).sum()
    assert float(module.loss.class_weights) == pytest.approx(math.sqrt(float(odds)), rel=1e-5)


def test_wrong_class_weights_are_refused_before_training(planted, fold):
    with pytest.raises(DataError, match="must be 1 positive numbers"):
        run(planted, fold, replace(SHORT, class_weights=(1.0, 2.0)))


def test_patience_ends_a_run_that_no_longer_gains(planted, fold, monkeypatch):
    monkeypatch.setattr(finetuning, "_worth", lambda epoch: 1.0 - epoch.step)
    recipe = replace(SHORT, evaluations=6)
    assert [epoch.step for epoch in run(planted, fold, recipe).epochs] == [1, 2, 3, 4, 5, 6]
    assert [epoch.step for epoch in run(planted, fold, replace(recipe, patience=2)).epochs] == [1, 2, 3]


# ---- batches -------------------------------------------------------------------------------------------------


def picked(stream: BatchStream) -> dict[int, list[int]]:
    """Which pictures each step shows; a picture's first pixel is its number."""
    return {step: images[:, 0, 0, 0].tolist() for images, _, step, _ in stream}


def numbered(count: int) -> Pictures:
    pictures = make_pictures([str(index) for index in range(count)])
    pictures.images[:, 0, 0, 0] = torch.arange(count, dtype=torch.uint8)
    return pictures


def test_a_batch_depends_on_the_seed_and_its_number_alone():
    pictures, indices = numbered(10), tuple(range(10))
    long, short = (picked(BatchStream(pictures, indices, 4, steps, seed=3)) for steps in (20, 7))
    assert {step: long[step] for step in short} == short
    assert long != picked(BatchStream(pictures, indices, 4, 20, seed=4))


def test_a_resumed_stream_goes_on_with_the_same_batches():
    pictures, indices = numbered(10), tuple(range(10))
    whole = picked(BatchStream(pictures, indices, 4, 12, seed=0))
    later = BatchStream(pictures, indices, 4, 12, seed=0)
    later.first = 5
    assert picked(later) == {step: batch for step, batch in whole.items() if step >= 5}


@pytest.mark.parametrize(("count", "batch"), [(10, 4), (7, 3), (5, 5), (3, 8)])
def test_each_pass_shows_every_picture_once_in_another_order(count, batch):
    pictures, indices = numbered(20), tuple(range(2, 2 + count))
    shown = [each for step in picked(BatchStream(pictures, indices, batch, 60, seed=0)).values() for each in step]
    passes = [tuple(shown[start : start + count]) for start in range(0, len(shown) - count + 1, count)]
    assert all(sorted(each) == list(indices) for each in passes)
    assert len(set(passes)) > 1


def test_pictures_in_order_are_all_there_once():
    pictures = numbered(7)
    parts = [images[:, 0, 0, 0].tolist() for images, _ in in_order(pictures, (6, 2, 4, 0, 5), 2)]
    assert parts == [[6, 2], [4, 0], [5]]


def test_half_the_side_keeps_images_their_mean_and_masks_their_ids():
    images = torch.rand(2, 3, 48, 64)
    masks = torch.zeros(2, 48, 64, dtype=torch.uint8)
    masks[:, :, 32:], masks[:, :8] = 3, 255
    small, few = halve(images, masks)
    assert tuple(small.shape) == (2, 3, 24, 32)
    assert float(small.mean()) == pytest.approx(float(images.mean()), abs=1e-5)
    assert (few[:, 4:, :16] == 0).all()
    assert (few[:, 4:, 16:] == 3).all()
    assert (few[:, :4] == 255).all()
    assert few.dtype == torch.uint8


def test_half_of_a_small_image_is_never_below_sixteen_pixels():
    images, masks = torch.rand(1, 3, 24, 40), torch.zeros(1, 24, 40, dtype=torch.uint8)
    assert tuple(halve(images, masks)[1].shape) == (1, 16, 16)


# ---- fine-tuning ---------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_bits(planted, fold, reference):
    again = run(planted, fold)
    assert same_weights(again.model, reference.model)
    assert same_epochs(again, reference)


def test_another_seed_gives_another_run_from_the_same_start(planted, fold, reference):
    assert not same_weights(run(planted, fold, seed=1).model, reference.model)


def test_every_evaluation_is_a_record_of_numbers_that_exist(planted, fold):
    trained = run(planted, fold, replace(SHORT, steps=7, evaluations=3))
    assert [epoch.step for epoch in trained.epochs] == [3, 6, 7]
    for epoch in trained.epochs:
        numbers = [value for name, value in vars(epoch).items() if name != "class_iou"]
        assert all(map(math.isfinite, [*numbers, *epoch.class_iou]))
        assert epoch.best_iou >= epoch.iou
        assert epoch.class_iou == (epoch.iou,)
        assert 0 <= epoch.best_threshold < 1


def test_a_run_learns(planted, fold):
    trained = run(planted, fold, Recipe(steps=24, batch=6, evaluations=3, learning_rate=1e-2))
    assert trained.epochs[-1].best_iou > 0.4
    assert trained.epochs[-1].train_loss < trained.epochs[0].train_loss


def test_several_classes_are_trained_and_scored():
    pictures = make_pictures([str(index % 6) for index in range(12)], classes=3)
    pictures = replace(pictures, masks=(pictures.images[:, 0] // 86).to(torch.uint8))
    trained = run(pictures, split(pictures)[0], replace(SHORT, half_size=0.0, steps=20, learning_rate=2e-2))
    last = trained.epochs[-1]
    assert len(last.class_iou) == 3
    assert last.best_iou == last.iou == pytest.approx(np.mean(last.class_iou))
    assert math.isnan(last.best_threshold)
    assert last.iou > 0.4


def backwards(monkeypatch) -> None:
    """The first evaluation scores best."""
    monkeypatch.setattr(finetuning, "_worth", lambda epoch: -float(epoch.step))


@pytest.mark.parametrize(
    ("changes", "groups", "step"),
    [({}, 5, 3), ({"keep": "last"}, 5, 6), ({}, 4, 6), ({"patience": 9}, 4, 3)],
    ids=["enough groups", "the last is asked for", "few groups", "patience trusts few groups"],
)
def test_the_best_evaluation_is_kept_where_enough_inner_groups_tell_it(planted, monkeypatch, changes, groups, step):
    backwards(monkeypatch)
    parts = Fold((0, 1, 2, 3), tuple(range(4, 4 + groups)), (10, 11))
    trained = run(planted, parts, replace(SHORT, learning_rate=2e-2, **changes))
    assert not trained.model.training
    kept = next(epoch for epoch in trained.epochs if epoch.step == step)
    table = score(trained.model, planted, parts.inner)
    assert mean_iou(table.at(best_threshold(table))) == pytest.approx(kept.best_iou, abs=1e-3)


def test_a_recipe_keeps_the_best_or_the_last():
    with pytest.raises(UnplateauError, match=r"^`keep` must be 'best' or 'last'; got 'first'\."):
        Recipe(keep="first")


def test_a_frozen_extractor_is_the_same_to_the_bit_after_training(planted, fold):
    model = model_of(planted, frozen=True)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    after = finetune(model, planted, fold, SHORT).model.state_dict()
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert changed
    assert all(name.startswith("decoder.") for name in changed)


def test_a_run_that_diverges_is_said_in_one_sentence(planted, fold):
    with pytest.raises(UnplateauError, match=r"^The loss must stay finite; .*Lower `learning_rate`.*\.$"):
        run(planted, fold, Recipe(steps=40, batch=4, evaluations=4, learning_rate=1e18))


def test_precision_is_one_of_two_words():
    assert precision("cpu") in ("bf16-mixed", "32-true")
    assert precision("cuda" if torch.cuda.is_available() else "cpu") in ("bf16-mixed", "32-true")


def test_training_leaves_the_random_numbers_of_the_caller_alone(planted):
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    model_of(planted)
    assert torch.equal(torch.rand(3), wanted)


# ---- interrupted and resumed ---------------------------------------------------------------------------------

LONGER = replace(SHORT, steps=8, evaluations=4)


def break_at(step: int, error: BaseException, monkeypatch) -> None:
    original = FineTuning.training_step

    def training_step(self, batch, index):
        if batch[2] == step:
            raise error
        return original(self, batch, index)

    monkeypatch.setattr(FineTuning, "training_step", training_step)


@pytest.mark.parametrize("error", [RuntimeError("power cut"), KeyboardInterrupt()], ids=["power cut", "Ctrl-C"])
def test_an_interrupted_run_ends_as_an_unbroken_one(error, planted, fold, tmp_path, monkeypatch):
    unbroken = run(planted, fold, LONGER)
    with monkeypatch.context() as patch:
        break_at(5, error, patch)
        with pytest.raises(type(error)):
            run(planted, fold, LONGER, folder=tmp_path)
    resumed = run(planted, fold, LONGER, folder=tmp_path)
    assert same_epochs(resumed, unbroken)
    assert same_weights(resumed.model, unbroken.model)


def test_patience_is_remembered_over_an_interruption(planted, fold, tmp_path, monkeypatch):
    monkeypatch.setattr(finetuning, "_worth", lambda epoch: 1.0 - epoch.step)
    recipe = replace(LONGER, evaluations=8, patience=2)
    with monkeypatch.context() as patch:
        break_at(2, RuntimeError("power cut"), patch)
        with pytest.raises(RuntimeError):
            run(planted, fold, recipe, folder=tmp_path)
    assert [epoch.step for epoch in run(planted, fold, recipe, folder=tmp_path).epochs] == [1, 2, 3]


def test_a_finished_run_is_not_run_again(planted, fold, tmp_path, monkeypatch):
    finished = run(planted, fold, LONGER, folder=tmp_path)
    for step in range(LONGER.steps):
        break_at(step, RuntimeError("a step was made"), monkeypatch)
    again = run(planted, fold, LONGER, folder=tmp_path)
    assert same_epochs(again, finished)
    assert same_weights(again.model, finished.model)


def test_a_damaged_state_is_said_in_one_sentence_that_names_it(planted, fold, tmp_path):
    (tmp_path / LAST).write_bytes(b"PK\x03\x04 half a file")
    with pytest.raises(UnplateauError, match=rf"{LAST}.* cannot be read.*Delete it"):
        run(planted, fold, LONGER, folder=tmp_path)


# ---- scoring -------------------------------------------------------------------------------------------------


def test_scores_do_not_depend_on_the_mode_a_model_was_left_in(planted, reference):
    model = reference.model.train()
    trained = score(model, planted, (0, 1, 2))
    assert model.training
    model.eval()
    assert (score(model, planted, (0, 1, 2)).histograms == trained.histograms).all()


def test_answers_are_scores_in_two_hundredths(planted, reference):
    kept = answers(reference.model, planted, (0, 3))
    scores = probabilities(reference.model, planted.images[[0, 3]])[:, 0].numpy()
    assert kept.dtype == np.uint8
    assert kept.shape == (2, 1, *planted.size)
    assert np.abs(kept[:, 0] / 200 - scores).max() <= 1 / 200
    assert answers(reference.model, planted, ()).shape == (0, 1, *planted.size)


def test_probabilities_of_several_classes_add_up_to_one():
    model = build_pieces("colour", "linear", 4, frozen=False, seed=0).eval()
    scores = probabilities(model, torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8))
    assert scores.sum(1).numpy() == pytest.approx(1, abs=1e-5)


# ---- saved models --------------------------------------------------------------------------------------------

ARCHITECTURES = [
    ("unet", "linear", 1, False),
    ("reach-15", "linear", 1, False),
    ("colour", "conv", 3, False),
    ("orderless-9", "linear", 1, True),
    ("timm/test_resnet", "unet", 1, False),
    ("timm/test_resnet:1,2,3", "conv", 2, True),
    ("squeezenet1_1", "conv", 1, True),
]


@pytest.mark.parametrize(("extractor", "decoder", "outputs", "frozen"), ARCHITECTURES)
def test_a_saved_model_answers_as_before(extractor, decoder, outputs, frozen, tmp_path):
    model = build_pieces(extractor, decoder, outputs, frozen=frozen, seed=3).eval()
    task = (
        Task((1,), (0, 1), ("thing",)) if outputs == 1 else Task((), tuple(range(outputs)), ("a", "b", "c")[:outputs])
    )
    saved = SavedModel(model, task, decoder, (40, 48), 0.35 if outputs == 1 else math.nan)
    save_model(saved, tmp_path, {"iou": 0.5})
    again = load_model(tmp_path)
    images = torch.randint(0, 256, (2, 3, 40, 48), dtype=torch.uint8)
    assert torch.equal(probabilities(again.model, images), probabilities(model, images))
    assert repr((again.task, again.decoder, again.size, again.threshold)) == repr(
        (saved.task, saved.decoder, saved.size, saved.threshold)
    )


def saved_colour(folder: Path) -> Path:
    model = build_pieces("colour", "linear", 1, frozen=False, seed=0)
    save_model(SavedModel(model, Task((1,), (0, 1), ("thing",)), "linear", (16, 16), 0.5), folder, {})
    return folder


@pytest.mark.parametrize("name", [WEIGHTS, FACTS])
@pytest.mark.parametrize("damage", ["cut", "gone", "other"])
def test_a_damaged_model_is_said_in_one_sentence_that_names_the_file(name, damage, tmp_path):
    path = saved_colour(tmp_path) / name
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:40] if damage == "cut" else b"{}")
    with pytest.raises(PieceError, match=name):
        load_model(tmp_path)


def test_train_leaves_a_model_a_log_and_its_score(planted, tmp_path):
    arguments = {"extractor": "reach-5", "decoder": "linear", "frozen": False, "recipe": SHORT, "seed": 0}
    facts = train_model(planted, **arguments, folder=tmp_path)
    saved, fold = load_model(tmp_path), split(planted, seed=0)[0]
    table = score(saved.model, planted, fold.report)
    assert mean_iou(counts_at(table, saved.threshold)) == pytest.approx(facts["iou"], abs=1e-6)
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 1 + SHORT.evaluations
    assert train_model(planted, **arguments, folder=tmp_path) == facts


# ---- predict -------------------------------------------------------------------------------------------------


class Red(nn.Module):
    """A model that knows the answer: positive where red is bright."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.outputs = outputs
        self.scale = nn.Parameter(torch.tensor(40.0))

    def forward(self, images: Tensor) -> Prediction:
        logits = (images[:, :1] - 0.5) * self.scale
        return Prediction(logits if self.outputs == 1 else torch.cat([-logits, logits, images[:, 1:2] * 100 - 50], 1))


def saved_red(task: Task, size: tuple[int, int]) -> SavedModel:
    model: SegmentationModel = Red(task.outputs).eval()  # type: ignore[assignment]
    return SavedModel(model, task, "linear", size, 0.5 if task.binary else math.nan)


NATIVE = {"same": (48, 48), "larger": (96, 90), "wide": (30, 150), "tall": (131, 40), "tiny": (9, 11)}


@pytest.mark.parametrize("native", NATIVE.values(), ids=NATIVE)
def test_a_mask_has_the_size_of_its_image_and_the_ids_of_training(native, tmp_path):
    height, width = native
    image = np.zeros((height, width, 3), np.uint8)
    image[:, width // 2 :, 0] = 255
    Image.fromarray(image).save(tmp_path / "one.png")
    saved = saved_red(Task((7, 9), (0, 3, 7, 9), ("thing",)), (48, 48))
    (path,) = predict_images(saved, [tmp_path / "one.png"], tmp_path / "out")
    mask = np.asarray(Image.open(path))
    cell = math.ceil(max(native) / 48)
    assert mask.shape == (height, width)
    assert (mask[:, : width // 2 - cell] == 0).all()
    assert (mask[:, width // 2 + cell :] == 7).all()
    scores = np.asarray(Image.open(tmp_path / "out" / "scores" / "one.png"))
    assert scores.shape == (height, width)
    assert ((scores >= 127) == (mask == 7)).mean() > 0.99


def test_a_letterboxed_image_really_was_padded():
    box = place(NATIVE["wide"], (48, 48))
    assert box.height < 48


def test_several_classes_keep_the_ids_of_the_source():
    saved = saved_red(Task((), (2, 5, 11), ("a", "b", "c")), (16, 16))
    image = np.zeros((20, 30, 3), np.uint8)
    image[:, 10:20, 0], image[:, 20:, 1] = 255, 255
    ids = to_ids(saved, score_map(saved, image))
    assert set(np.unique(ids)) == {2, 5, 11}
    assert (ids[:, :8] == 2).all()
    assert (ids[:, 12:18] == 5).all()
    assert (ids[:, 23:] == 11).all()


def test_the_threshold_of_a_saved_model_decides():
    task = Task((1,), (0, 1), ("thing",))
    scores = np.full((1, 2, 2), 0.4, np.float32)
    low, high = (replace(saved_red(task, (16, 16)), threshold=each) for each in (0.3, 0.5))
    assert (to_ids(low, scores) == 1).all()
    assert (to_ids(high, scores) == 0).all()
