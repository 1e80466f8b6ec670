"""Recipes in words and files, and which differences between them are real."""

from __future__ import annotations

import json
import math
import re
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from conftest import make_pictures, write_pairs
from unplateau import api
from unplateau.cli import main
from unplateau.data import open_data, read_pictures, split
from unplateau.data.transforms import Augmentation
from unplateau.errors import UnplateauError
from unplateau.experiments import fits
from unplateau.experiments.comparison import BETTER, UNTOLD, WORSE, verdict_of
from unplateau.measures.paired import difference, group_draws, holm, level
from unplateau.training.halving import iou_at_half, suited
from unplateau.training.recipe import Recipe
from unplateau.training.recipes import FIELDS, read_recipe, recipe_name
from unplateau.types import Fold, Interval, Pictures

# ---- recipes in words and files ------------------------------------------------------------------------------

WORDS = {
    "baseline": Recipe(),
    "loss=ce + 0.5*dice": Recipe(loss="ce + 0.5*dice"),
    "class_weights=auto": Recipe(class_weights="auto"),
    "class_weights=1,5, ema=0.99": Recipe(class_weights=(1.0, 5.0), ema=0.99),
    "class_weights=5": Recipe(class_weights=(5.0,)),
    "positive-rate = 0.33; hard-pixels = 0.25": Recipe(positive_rate=0.33, hard_pixels=0.25),
    "layer_decay=0.8,frozen_steps=50,accumulate=2": Recipe(layer_decay=0.8, frozen_steps=50, accumulate=2),
    "learning_rate=1e-3, batch=8": Recipe(learning_rate=1e-3, batch=8),
    "crop=96,128, steps=7": Recipe(crop=(96, 128), steps=7),
    "crop=none": Recipe(),
    "augmentation.flip=0, augmentation.scale=0.8,1.1": Recipe(augmentation=Augmentation(flip=0.0, scale=(0.8, 1.1))),
}


@pytest.mark.parametrize(("words", "recipe"), WORDS.items(), ids=str)
def test_words_make_a_recipe(words, recipe):
    assert read_recipe(words) == recipe


TOML = """
loss = "ce + 0.5*dice"
class_weights = [1, 5]
crop = [32, 48]
ema = 0.9
steps = 12
[augmentation]
flip = 0
scale = [0.9, 1.0]
"""


def test_a_file_of_either_kind_makes_the_same_recipe(tmp_path):
    wanted = Recipe(
        loss="ce + 0.5*dice",
        class_weights=(1.0, 5.0),
        crop=(32, 48),
        ema=0.9,
        steps=12,
        augmentation=Augmentation(flip=0.0, scale=(0.9, 1.0)),
    )
    (tmp_path / "mine.toml").write_text(TOML)
    same = {"loss": "ce + 0.5*dice", "class_weights": [1, 5], "crop": [32, 48], "ema": 0.9, "steps": 12}
    same["augmentation"] = {"flip": 0, "scale": [0.9, 1.0]}
    (tmp_path / "mine.json").write_text(json.dumps(same))
    assert (
        read_recipe(tmp_path / "mine.toml") == read_recipe(str(tmp_path / "mine.json")) == read_recipe(same) == wanted
    )
    assert recipe_name(tmp_path / "mine.toml") == "mine"


def test_what_a_recipe_does_not_say_is_as_it_was():
    base = Recipe(steps=30, augmentation=Augmentation(flip=0.0))
    said = read_recipe("ema=0.5, augmentation.contrast=0", base)
    assert said == replace(base, ema=0.5, augmentation=Augmentation(flip=0.0, contrast=0.0))
    assert read_recipe(None, base) == read_recipe("baseline", base) == base


def test_every_field_can_be_said():
    assert set(FIELDS) == {each.name for each in fields(Recipe)}
    for each in fields(Recipe):
        said = {"augmentation": {"flip": 0.5}}.get(each.name, getattr(Recipe(), each.name))
        assert read_recipe({each.name: said}) == Recipe()


REFUSED = {
    "emma=0.9": "no field `emma`: did you mean 'ema'",
    "augmentation.flop=0": "no field `augmentation.flop`: did you mean 'flip'",
    "loss=ce + dise": "did you mean 'dice'",
    "ema=much": "`ema` must be a number; got 'much'",
    "steps=2.5": "`steps` must be a whole number; got '2.5'",
    "crop=32": "`crop` must be a height and a width",
    "class_weights=1,x": "`class_weights` must be a name, or numbers",
    "class_weights=often": "`class_weights` must be 'none' or 'auto' or 'effective'",
    "ema=0.9, ema=0.8": "`ema` must be said once",
    "bassline": "did you mean 'baseline'",
    "positive_rate=2": "`positive_rate` must be at most 1.0; got 2.0",
}


@pytest.mark.parametrize(("words", "says"), REFUSED.items(), ids=str)
def test_a_recipe_that_makes_no_sense_is_refused_in_one_sentence(words, says):
    with pytest.raises(UnplateauError) as caught:
        read_recipe(words)
    said = str(caught.value)
    assert says in said
    assert words in said
    assert said[-1] in ".?"


@pytest.mark.parametrize(
    ("name", "content"), [("a.toml", "loss = "), ("a.json", "[1]"), ("a.json", "{"), ("a.toml", None)]
)
def test_a_file_that_is_no_recipe_is_named(name, content, tmp_path):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(UnplateauError, match=name):
        read_recipe(tmp_path / name)


# ---- which differences are real ------------------------------------------------------------------------------

GROUPS, SEEDS, FOLDS = 24, 3, 3


def made_sums(
    generator: np.random.Generator, levels: list[float], of_seeds: float = 0.01, own: float = 0.01, seeds: int = SEEDS
) -> list[np.ndarray]:
    """Counts of ways whose true IoU is `levels`, as (S, K, G, 1, 3): groups are hard for all ways alike and, by `own`,
    for each alone; trainings differ by `of_seeds`; each group reports in one fold."""
    hard, size = generator.normal(0, 0.08, GROUPS), generator.uniform(500, 1500, GROUPS)
    made = []
    for true in levels:
        each = true + hard + generator.normal(0, own, GROUPS)
        iou = each + generator.normal(0, of_seeds, (seeds, FOLDS, 1))
        counts = np.stack([np.clip(iou, 0.01, 0.99) * size, np.broadcast_to(size, iou.shape), 0 * iou + size], -1)
        counts[..., 1] = counts[..., 0]  # nothing spurious: IoU is hit / true
        reports = np.arange(GROUPS)[None] % FOLDS == np.arange(FOLDS)[:, None]
        made.append((counts * reports[None, ..., None])[:, :, :, None])
    return made


def draws_of(generator: np.random.Generator) -> np.ndarray:
    return group_draws(np.arange(GROUPS), GROUPS, generator)


@pytest.mark.parametrize(("of_seeds", "own"), [(0.02, 0.002), (0.002, 0.03), (0.01, 0.01)])
def test_nine_of_ten_intervals_hold_the_true_difference(of_seeds, own):
    generator = np.random.default_rng(0)
    inside = 0
    for _ in range(150):
        below, above = made_sums(generator, [0.5, 0.53], of_seeds, own)
        gain = difference(above, below, draws_of(generator), 0.015).gain
        inside += gain.low <= 0.03 <= gain.high
    assert 0.84 <= inside / 150 <= 0.99


def test_of_many_ways_that_are_the_same_hardly_any_is_called_different():
    generator = np.random.default_rng(1)
    alarms = lone = 0
    for _ in range(100):
        first, *others = made_sums(generator, [0.5] * 6)
        found = [difference(each, first, draws_of(generator), 0.015) for each in others]
        ps = holm([each.p for each in found])
        alarms += any(verdict_of(each.gain, p) != UNTOLD for each, p in zip(found, ps, strict=True))
        lone += any(each.p < 0.1 for each in found)
    assert alarms <= 16
    assert lone > alarms


def test_a_large_difference_is_told_in_either_direction():
    generator = np.random.default_rng(2)
    low, high = made_sums(generator, [0.5, 0.6])
    draws = draws_of(generator)
    for above, below, word in ((high, low, BETTER), (low, high, WORSE)):
        found = difference(above, below, draws, 0.015)
        assert verdict_of(found.gain, found.p) == word
    assert level(low, draws, 0.01).low < 0.5 < level(low, draws, 0.01).high


def test_a_way_does_not_differ_from_itself():
    generator = np.random.default_rng(3)
    (only,) = made_sums(generator, [0.5])
    found = difference(only, only, draws_of(generator), 0.015)
    assert (found.gain, found.p) == (Interval(0.0, 0.0, 0.0), 1.0)
    assert verdict_of(found.gain, found.p) == UNTOLD


def test_with_one_seed_the_spread_of_seeds_is_assumed():
    generator = np.random.default_rng(4)
    below, above = made_sums(generator, [0.5, 0.52], of_seeds=0.0, own=0.0, seeds=1)
    widths = [difference(above, below, draws_of(generator), spread).gain for spread in (0.0, 0.03)]
    narrow, wide = (each.high - each.low for each in widths)
    assert wide == pytest.approx(math.hypot(narrow, 2 * 1.645 * 0.03 / math.sqrt(FOLDS)), rel=0.05)


def test_one_group_tells_nothing():
    generator = np.random.default_rng(5)
    below, above = (each[:, :, :1] for each in made_sums(generator, [0.4, 0.6]))
    found = difference(above, below, group_draws(np.array([0]), 1, generator), 0.015)
    assert math.isnan(found.gain.low)
    assert verdict_of(found.gain, found.p) == UNTOLD


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx((0.03, 0.06, 0.06))
    assert holm([0.5, 0.9]) == pytest.approx((1.0, 1.0))
    assert holm([0.2]) == (0.2,)
    ours = holm([math.nan, 0.04])
    assert math.isnan(ours[0])
    assert ours[1] == pytest.approx(0.08)


# ---- the verb ------------------------------------------------------------------------------------------------

QUICK = ("--size", "32", "--steps", "3", "--folds", "2", "--seeds", "2", "--extractor", "reach-5")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("data") / "tiny")


@pytest.fixture(scope="module")
def compared(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("compared")
    (out / "mine.toml").write_text("learning_rate = 1e-12\nloss = 'ce'\n")
    argv = ["compare", str(folder), "--recipes", "baseline", str(out / "mine.toml"), "class_weights=auto"]
    assert main([*argv, *QUICK, "--out", str(out)]) == 0
    return out


def test_a_comparison_leaves_a_number_and_a_verdict_for_every_recipe(compared):
    content = json.loads((compared / "compare.json").read_text())
    first, mine, weighted = content["recipes"]
    assert [each["name"] for each in content["recipes"]] == ["baseline", "mine", "class_weights=auto"]
    assert mine["recipe"]["learning_rate"] == 1e-12
    assert weighted["recipe"]["class_weights"] == "auto"
    assert {each["recipe"]["steps"] for each in content["recipes"]} == {3}
    assert (first["gain"], first["verdict"]) == (None, None)
    for each in (mine, weighted):
        assert each["verdict"] in (BETTER, WORSE, UNTOLD)
        assert each["gain"]["low"] <= each["gain"]["mean"] <= each["gain"]["high"]
        assert np.shape(each["trainings"]) == (2, 2)
    page = (compared / "compare.md").read_text()
    assert "Holm" in page
    assert "| class\\_weights=auto |" in page


def test_a_comparison_is_not_computed_again(compared, folder, monkeypatch):
    before = (compared / "compare.json").read_bytes()
    monkeypatch.setattr(fits, "run_fit", lambda *_: pytest.fail("trained again"))
    recipes = ["baseline", compared / "mine.toml", "class_weights=auto"]
    options = {"size": 32, "steps": 3, "folds": 2, "seeds": 2, "extractor": "reach-5", "out": compared}
    content = api.compare(folder, recipes, **options)
    assert json.loads(before) == content
    named = api.compare(
        folder, {"baseline": Recipe(steps=3), "class_weights=auto": {"class_weights": "auto"}}, **options
    )
    assert named["recipes"][1] == {**content["recipes"][2], "p": named["recipes"][1]["p"]}


def test_one_split_may_leave_the_last_group_to_training(folder, tmp_path):
    pictures = read_pictures(open_data(folder), size=32)
    last = max(pictures.groups)
    away = (s for s in range(20) for fold in split(pictures, folds=1, seed=s) if last not in groups_of(pictures, fold))
    content = api.compare(
        folder,
        ["baseline", "ema=0.9"],
        size=32,
        steps=2,
        folds=1,
        seeds=2,
        seed=next(away),
        extractor="reach-5",
        out=tmp_path,
    )
    assert content["folds"] == 1
    assert math.isfinite(content["recipes"][1]["gain"]["low"])


def groups_of(pictures: Pictures, fold: Fold) -> set[str]:
    return {pictures.groups[index] for index in fold.report}


def test_trainings_of_one_seed_and_fold_start_alike_and_see_the_same_batches(compared):
    """Under a rate of nothing the model stays as it was drawn, and so does its score from recipe to recipe."""
    kept = [fits.load(path) for path in sorted((compared / "fits").glob("mine-0-*.npz"))]
    assert len(kept) == 2
    assert not np.array_equal(kept[0].report.histograms, kept[1].report.histograms)


@pytest.mark.parametrize(
    ("recipes", "says"),
    [
        (["baseline"], "`recipes` must be at least two"),
        (["ema=0.9", "ema=0.9"], "names that differ"),
        (["baseline", "emma=0.9"], "did you mean 'ema'"),
        (["baseline", "nowhere.toml"], "nowhere.toml"),
    ],
)
def test_recipes_that_cannot_be_compared_are_refused(recipes, says, folder, tmp_path, capsys):
    assert main(["compare", str(folder), "--recipes", *recipes, *QUICK, "--out", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert says in said
    assert said.count("\n") == 1


# ---- a start at half size ------------------------------------------------------------------------------------


def lines(width: int) -> Pictures:
    masks = torch.zeros(12, 32, 32, dtype=torch.uint8)
    masks[:, 5 : 5 + width], masks[:, :, 17 : 17 + width] = 1, 1
    return make_pictures([str(each) for each in range(12)], masks=masks)


def test_thin_things_are_never_trained_at_half_size_unless_asked_for():
    assert iou_at_half(lines(1)) < 0.6 < iou_at_half(lines(6))
    assert suited(lines(6)) == Recipe()
    assert suited(lines(1)) == Recipe(half_size=0.0)
    assert read_recipe("half_size=0.2", suited(lines(1))) == Recipe(half_size=0.2)


def test_train_keeps_what_it_trained_with(folder, tmp_path):
    options = {"size": 32, "extractor": "reach-5", "recipe": "steps=9, ema=0.5, batch=4", "loss": "ce", "steps": 3}
    api.train(folder, out=tmp_path, class_weights="5", **options)
    made = json.loads((tmp_path / "model.json").read_text())["made"]["recipe"]
    assert made["steps"] == 3
    assert (made["ema"], made["batch"], made["loss"], made["class_weights"]) == (0.5, 4, "ce", [5.0])


def test_the_help_tells_the_defaults_of_the_recipe(capsys):
    assert main(["train", "--help"]) == 0
    said = re.sub(r"[\s│]+", " ", capsys.readouterr().out)
    assert f"{Recipe().steps} by default" in said
    assert Recipe().loss in said
