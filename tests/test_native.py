"""A threshold decides masks at the size they came in: it is chosen there, reported there, and judged there."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.ndimage import binary_dilation

from unplateau import api
from unplateau.data.kinds import read_task
from unplateau.data.pictures import read_pictures
from unplateau.data.sources import open_data
from unplateau.data.splits import split
from unplateau.diagnosis import diagnose
from unplateau.experiments import fits, trials
from unplateau.experiments.fits import STALE, Fit, Fitted, Scored, run_fits
from unplateau.experiments.given import answered, load_given
from unplateau.measures.scoring import count_best, score_images
from unplateau.measures.thresholds import chosen_threshold, counts_of, iou, mean_iou
from unplateau.reports import scores_said
from unplateau.training import ranks
from unplateau.training.native import count_native, score_maps, score_native
from unplateau.training.predict import predict_images, score_map
from unplateau.training.ranks import Task, finetune_in_ranks
from unplateau.training.recipe import Recipe
from unplateau.training.saved import load_model
from unplateau.training.scoring import answers, score
from unplateau.training.train import build_pieces, train_model
from unplateau.types import Pictures, Sample
from unplateau.verbs.arguments import silent

SIDE, GRID, COUNT = 128, 32, 24
WIDE = 5
"""Of so many images one is of quite another aspect, and padded."""

RECIPE = Recipe(steps=60, evaluations=3, half_size=0.0)
PIECES: dict[str, Any] = {"extractor": "reach-9", "decoder": "linear", "frozen": False, "recipe": RECIPE, "seed": 0}


def squares(number: int, width: int = SIDE) -> Sample:
    """Squares of six pixels, which a grid of a quarter of the side sees as one or two cells, by chance."""
    generator = np.random.default_rng(number)
    mask = np.zeros((SIDE, width), np.uint8)
    for row, column in zip(generator.integers(0, SIDE - 6, 12), generator.integers(0, width - 6, 12), strict=True):
        mask[row : row + 6, column : column + 6] = 1
    image = np.repeat((80 + 90 * mask + generator.normal(0, 8, mask.shape)).clip(0, 255)[..., None], 3, axis=2)
    return Sample(f"{number:02d}", image.astype(np.uint8), mask, f"{number:02d}")


def save(pixels: np.ndarray[Any, Any], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The squares as masks of one class, and in masks of two classes that overlap; every fifth image is wide."""
    root = tmp_path_factory.mktemp("native")
    for number in range(COUNT):
        sample = squares(number, 3 * SIDE if number % WIDE == 0 else SIDE)
        for kind in ("one", "layers"):
            save(sample.image, root / kind / "images" / f"{sample.name}.png")
        save(sample.mask, root / "one" / "masks" / f"{sample.name}.png")
        save(sample.mask, root / "layers" / "masks" / "square" / f"{sample.name}.png")
        around = binary_dilation(sample.mask, iterations=4).astype(np.uint8)
        save(around, root / "layers" / "masks" / "around" / f"{sample.name}.png")
    return root


KINDS = {"binary": ("one", "mask", None), "classes": ("one", "mask", ()), "layers": ("layers", "multi-label", None)}


@pytest.fixture(scope="module")
def pictures(folder) -> dict[str, Pictures]:
    return {
        name: read_task(folder / where, kind, positive=positive, size=GRID)
        for name, (where, kind, positive) in KINDS.items()
    }


@pytest.fixture(scope="module")
def trained(pictures, tmp_path_factory) -> dict[str, tuple[Path, dict[str, float]]]:
    out = tmp_path_factory.mktemp("trained")
    return {name: (out / name, train_model(each, **PIECES, folder=out / name)) for name, each in pictures.items()}


def read(path: Path) -> np.ndarray[Any, Any]:
    with Image.open(path) as picture:
        return np.array(picture)


# ---- what train says is what predict writes --------------------------------------------------------------------


def counted(answer: np.ndarray[Any, Any], truth: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    areas = ((answer & truth).sum(), answer.sum(), truth.sum())
    return counts_of(*(np.array(each, np.int64) for each in areas))


@pytest.mark.parametrize("name", KINDS)
def test_the_native_iou_is_that_of_the_masks_that_predict_writes(name, pictures, trained, folder, tmp_path):
    where, model = folder / KINDS[name][0], trained[name][0]
    report = [pictures[name].names[index] for index in split(pictures[name], seed=0)[0].report]
    list(predict_images(load_model(model), [where / "images" / f"{stem}.png" for stem in report], tmp_path))
    parts = [""] if name != "layers" else ["around", "square"]
    pairs = [
        [(read(tmp_path / "masks" / part / f"{stem}.png"), read(where / "masks" / part / f"{stem}.png"))]
        for part in parts
        for stem in report
    ]
    values = (0, 1) if name == "classes" else (1,)
    counts = np.array([[counted(said == one, true == one) for ((said, true),) in pairs] for one in values])
    by_class = counts.reshape(len(values) * len(parts), len(report), 3).sum(1)
    assert iou(by_class).mean() == pytest.approx(trained[name][1]["native_iou"], abs=1e-6)


@pytest.mark.parametrize("name", ["binary", "layers"])
def test_the_threshold_is_chosen_on_inner_masks_as_they_came(name, pictures, trained):
    """One for all classes that may overlap, as on the grid."""
    model, facts = trained[name]
    saved, inner = load_model(model), split(pictures[name], seed=0)[0].inner
    (native,) = score_native(saved.model, pictures[name], (inner,)) or ()
    assert facts["threshold"] == saved.threshold == chosen_threshold(native)
    assert facts["grid_threshold"] == chosen_threshold(score(saved.model, pictures[name], inner))


def test_the_iou_on_the_grid_stays_what_it_was(pictures, trained):
    model, facts = trained["binary"]
    table = score(load_model(model).model, pictures["binary"], split(pictures["binary"], seed=0)[0].report)
    assert mean_iou(table.at(facts["grid_threshold"])) == pytest.approx(facts["iou"])
    assert load_model(model).reported == pytest.approx(facts["iou"])


def test_classes_that_exclude_each_other_have_no_threshold_to_choose(trained):
    facts = trained["classes"][1]
    assert np.isnan(facts["threshold"])
    assert "grid_threshold" not in facts


# ---- where the grid is the image ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", KINDS)
def test_masks_of_the_size_of_the_grid_change_nothing(name, folder, tmp_path):
    where, kind, positive = KINDS[name]
    shrunk = tmp_path / "data"
    for path in sorted((folder / where).rglob("*.png")):
        save(read(path)[:SIDE:4, :SIDE:4], shrunk / path.relative_to(folder / where))
    same = read_task(shrunk, kind, positive=positive, size=GRID)
    assert same.native == same.size
    facts = train_model(same, **PIECES, folder=tmp_path / "model")
    bare = train_model(replace(same, native_mask=None), **PIECES, folder=tmp_path / "bare")
    assert facts.keys() == bare.keys()
    assert {"native_iou", "grid_threshold"}.isdisjoint(facts)
    assert (tmp_path / "model" / "model.json").read_bytes() == (tmp_path / "bare" / "model.json").read_bytes()


def test_an_image_of_the_size_of_the_grid_among_others_is_scored_as_on_it():
    mixed = [squares(number) for number in range(11)]
    mixed += [Sample(str(n), each.image[::4, ::4], each.mask[::4, ::4], str(n)) for n, each in enumerate(mixed[:4])]
    pictures = read_pictures(open_data(mixed), positive=[1], size=GRID)
    model = build_model()
    places = tuple(range(len(mixed)))
    (native,) = score_native(model, pictures, (places,)) or ()
    on_grid = score(model, pictures, places)
    assert np.array_equal(native.histograms[11:], on_grid.histograms[11:])
    assert not np.array_equal(native.histograms[:11], on_grid.histograms[:11])
    assert np.array_equal(native.groups, on_grid.groups)


def build_model() -> Any:
    return build_pieces("reach-9", "linear", 1, frozen=False, seed=0).eval()


def test_masks_that_are_not_at_hand_leave_the_grid(pictures):
    bare = replace(pictures["binary"], native_mask=None)
    assert score_native(build_model(), bare, ((0, 1), (2,))) is None
    assert count_native(build_model(), bare, (0, 1)) is None


def test_the_scores_are_those_that_predict_cuts(pictures, trained, folder):
    """Also of an image that was padded: only the part of the grid where it lies counts."""
    saved, name = load_model(trained["binary"][0]), pictures["binary"].names[0]
    image, mask = (read(folder / "one" / part / f"{name}.png") for part in ("images", "masks"))
    assert mask.shape == (SIDE, 3 * SIDE)
    (table,) = score_native(saved.model, pictures["binary"], ((0,),)) or ()
    cut = score_images(score_map(saved, image)[None], mask[None])
    assert np.abs(table.histograms - cut.histograms).sum() <= 4  # rounding may move a pixel to the next bin


def test_answers_that_were_kept_score_as_the_model_that_gave_them(pictures, trained):
    """But for their steps: a pixel moves to the next bin at most, so that the IoU moves in the third decimal."""
    model, some = load_model(trained["binary"][0]).model, (0, 3, 5)
    (table,) = score_native(model, pictures["binary"], (some,)) or ()
    kept = score_maps(answers(model, pictures["binary"], some), pictures["binary"], some)
    assert kept is not None
    assert np.array_equal(kept.histograms.sum(-1), table.histograms.sum(-1))
    for threshold in (0.2, 0.5, 0.8):
        assert mean_iou(kept.at(threshold)) == pytest.approx(mean_iou(table.at(threshold)), abs=0.01)
    assert score_maps(np.zeros((0, 1, 8, 8), np.uint8), replace(pictures["binary"], native_mask=None), ()) is None


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 5), st.integers(0, 10**6))
def test_counting_the_best_class_needs_no_histograms(classes, seed):
    generator = np.random.default_rng(seed)
    scores = generator.random((classes, 6, 7)).astype(np.float32)
    mask = generator.choice([*range(classes), 255], (6, 7)).astype(np.uint8)
    assert np.array_equal(count_best(scores, mask), score_images(scores[None], mask[None]).argmax[0])


# ---- the way to the masks ----------------------------------------------------------------------------------------


class Sent:
    """In the place of joblib: keeps what other processes would be sent, and starts none."""

    tasks: list[Any]

    def __init__(self, **_: Any) -> None:
        pass

    def __call__(self, tasks: Any) -> Any:
        Sent.tasks = list(tasks)
        return (each for each in ())


def test_no_other_process_is_sent_the_data_set(pictures, tmp_path, monkeypatch):
    held, parts = pictures["binary"], split(pictures["binary"], seed=0)[0]
    for module in (fits, ranks):
        monkeypatch.setattr(module, "Parallel", Sent)
    monkeypatch.setattr(fits, "workers", lambda: 2)
    both = [Fit("one", "colour", "linear", False, False, "image", 0, parts, RECIPE, seed) for seed in (0, 1)]
    with pytest.raises(KeyError):  # nothing comes back
        run_fits(both, {"image": held}, tmp_path / "fits", silent)
    assert held.native_mask is not None
    assert [arguments[2].native_mask for _, arguments, _ in Sent.tasks] == [None, None]
    with pytest.raises(StopIteration):
        finetune_in_ranks(Task(build_model(), held, parts, RECIPE, 0, None, False), 2)
    assert [arguments[1].pictures.native_mask for _, arguments, _ in Sent.tasks] == [None, None]


# ---- a model in question -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def coarse(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Sample], Path, dict[str, float]]:
    """A model trained on a quarter of the side, whose own threshold is far from the one that suits the grid."""
    out = tmp_path_factory.mktemp("coarse") / "model"
    samples = [squares(number) for number in range(COUNT)]
    facts = api.train(samples, positive=[1], extractor="reach-9", out=out, size=GRID, steps=60)
    assert abs(facts["grid_threshold"] - facts["threshold"]) > 0.1
    return samples, out, facts


def copied(model: Path, to: Path, without: tuple[str, ...] = (), **changed: object) -> Path:
    to.mkdir()
    for path in model.iterdir():
        if path.is_file():
            (to / path.name).write_bytes(path.read_bytes())
    facts = {name: each for name, each in json.loads((model / "model.json").read_text()).items() if name not in without}
    (to / "model.json").write_text(json.dumps({**facts, **changed}))
    return to


@pytest.fixture(scope="module")
def brief() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trials, "SHORT", 4)
        yield


def fitted(model: Path, samples: list[Sample]) -> Fitted:
    given_, pictures = load_given(model), read_pictures(open_data(samples), positive=[1], size=GRID)
    return answered(given_, pictures, split(pictures, seed=0)[0])


def test_a_threshold_that_is_right_where_it_decides_is_not_moved(coarse, brief, tmp_path, monkeypatch):
    samples, model, facts = coarse
    # What else would help is of no account here.
    monkeypatch.setattr(diagnose, "later_stages", lambda *_, **__: [])
    said = api.diagnose(samples, model=model, steps=4, out=tmp_path / "out")
    assert "move-threshold" not in {each["name"] for each in said["remedies"]}
    told = {each["name"]: each["gain"] for each in said["considered"]}["move-threshold"]
    assert abs(told["mean"]) < STALE
    assert said["operating_point"]["native"]
    assert said["operating_point"]["chosen"] == facts["threshold"]
    # The grid is read at its own.
    assert said["baseline"]["threshold"] == facts["grid_threshold"]
    assert said["baseline"]["iou"] == pytest.approx(facts["iou"], abs=1e-6)
    assert next(each for each in said["findings"] if each["check"] == "metric")["verdict"] == "sound"


def test_a_stale_threshold_is_named_first_with_what_it_gains_where_it_decides(coarse, brief, tmp_path):
    samples, model, facts = coarse
    stale = copied(model, tmp_path / "model", threshold=0.98, iou=None)
    said = api.diagnose(samples, model=stale, steps=4, out=tmp_path / "out")
    first = said["remedies"][0]
    assert first["name"] == "move-threshold"
    assert "on the masks as they came" in first["evidence"][0]
    # As a user would find it: the masks of the images that report, at either threshold.
    native = fitted(model, samples).native
    assert native is not None
    gained = mean_iou(native.report.at(facts["threshold"])) - mean_iou(native.report.at(0.98))
    assert first["gain"]["mean"] == pytest.approx(gained, abs=0.02)
    assert said["baseline"]["threshold"] == 0.98


def test_the_threshold_that_suits_the_grid_is_stale_where_the_masks_are_larger(coarse, tmp_path):
    """A model saved before thresholds were chosen at native size."""
    samples, model, facts = coarse
    old = copied(model, tmp_path / "old", ("native_iou", "grid_threshold"), threshold=facts["grid_threshold"])
    assert load_model(old).threshold == facts["grid_threshold"]
    assert fitted(old, samples).imposed == facts["grid_threshold"]
    assert fitted(model, samples).imposed is None


def test_each_reading_has_the_threshold_that_suits_it(coarse):
    samples, model, facts = coarse
    both = fitted(model, samples)
    assert (both.threshold, both.in_force) == (facts["grid_threshold"], facts["threshold"])
    assert both.deciding == both.native
    stale = replace(both, fixed=0.98)
    assert (stale.threshold, stale.in_force, stale.imposed) == (0.98, 0.98, 0.98)
    ours = replace(both, fixed=None, native=None)
    assert (ours.threshold, ours.in_force) == (facts["grid_threshold"], facts["grid_threshold"])
    assert ours.deciding == Scored(both.inner, both.report)


def test_the_command_says_both_sizes_and_which_is_which():
    facts = {"iou": 0.8, "iou_at_half": 0.7, "threshold": 0.3, "grid_threshold": 0.9, "native_iou": 0.6}
    said = scores_said(facts)
    assert said == "IoU 0.600 at threshold 0.30 on masks at their own size, 0.800 at threshold 0.90 on the grid"
    assert scores_said({"iou": 0.8, "iou_at_half": 0.7, "threshold": 0.3}) == "IoU 0.800 at threshold 0.30"
    assert scores_said({"iou": 0.8, "native_iou": 0.6}) == "IoU 0.600 on masks at their own size, 0.800 on the grid"


def test_one_image_at_a_time_is_at_its_own_size(monkeypatch):
    """Scores of a photograph are larger than the grid by far: no second one may be held beside them."""
    held: list[int] = []
    pictures = read_pictures(open_data([squares(number) for number in range(20)]), positive=[1], size=GRID)
    monkeypatch.setattr(torch.nn.functional, "interpolate", counting(torch.nn.functional.interpolate, held))
    score_native(build_model(), pictures, (tuple(range(20)),))
    assert held == [1] * 20


def counting(whole: Any, held: list[int]) -> Any:
    def interpolate(scores: torch.Tensor, **how: Any) -> torch.Tensor:
        if how["size"] == (SIDE, SIDE):
            held.append(len(scores))
        return whole(scores, **how)

    return interpolate
