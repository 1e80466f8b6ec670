"""Saved probability maps are diagnosed without a model: what is read, what is refused, and that the numbers agree."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import write_pairs
from unplateau import api, cli
from unplateau.checks.anatomy import AnatomyCheck
from unplateau.checks.operating_point import OperatingPointCheck
from unplateau.data.answers import channel_rule, on_grid, read_answer
from unplateau.data.pictures import read_pictures
from unplateau.data.sources import AbstractSource, open_data
from unplateau.diagnosis.faults import Faults
from unplateau.diagnosis.predictions import Saved, answers_given, scoring_size, taking_part
from unplateau.errors import DataError, UnplateauError
from unplateau.experiments.given import answered, its_fold, load_given
from unplateau.experiments.plan import Plan, RungPlan
from unplateau.experiments.run import Run
from unplateau.experiments.views import measure_objects
from unplateau.measures.curves import CurveType
from unplateau.reports.reading import parse
from unplateau.training.scoring import probabilities
from unplateau.types import Finding, Sample, Task, Verdict

ONE, MANY = Task((1,), (0, 1), ("thing",)), Task((), (0, 1, 2), ("a", "b", "c"))
SIZE = (10, 14)
UNASKED = "Not measured: it takes trainings that were not done."


def mask_of(index: int, height: int = 40, width: int = 48) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    top, left = 12 + 3 * (index % 6), 12 + 4 * (index % 7)
    return ((rows - top) ** 2 + (columns - left) ** 2 < 81).astype(np.uint8)


def samples(count: int = 16, split: Callable[[int], str] = lambda _: "") -> list[Sample]:
    """Bright discs on noise, two images a group."""
    rng = np.random.default_rng(0)
    made = []
    for index in range(count):
        mask = mask_of(index)
        image = (rng.integers(0, 128, (*mask.shape, 3)) + 100 * mask[..., None]).astype(np.uint8)
        made.append(Sample(f"p{index:02d}", image, mask, f"g{index // 2}", split(index)))
    return made


def doubted(mask: np.ndarray, seed: int = 0, low: float = 0.1, high: float = 0.45) -> np.ndarray:
    """A model that is right but shy: nothing reaches 0.5."""
    noise = np.random.default_rng(seed).uniform(-0.05, 0.05, mask.shape)
    return (np.where(mask == 1, high, low) + noise).astype(np.float32)


def write_maps(folder: Path, listed: list[Sample], made: Callable[[np.ndarray, int], np.ndarray] = doubted) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for index, sample in enumerate(listed):
        np.save(folder / f"{sample.name}.npy", made(sample.mask, index))
    return folder


def finding(content: dict, check: str) -> dict:
    return next(each for each in content["findings"] if each["check"] == check)


# ---- one file ------------------------------------------------------------------------------------------------

MAP = np.random.default_rng(1).random(SIZE).astype(np.float32)
BYTES, WORDS = (MAP * 255).round().astype(np.uint8), (MAP * 65535).round().astype(np.uint16)


def write_npz(path: Path, **arrays: np.ndarray) -> None:
    np.savez_compressed(path, **arrays)


def save_png(path: Path, values: np.ndarray) -> None:
    Image.fromarray(values).save(path)


WAYS: dict[str, tuple[str, Callable[[Path], None], float]] = {
    "floats": ("a.npy", lambda path: np.save(path, MAP), 1e-7),
    "half precision": ("a.npy", lambda path: np.save(path, MAP.astype(np.float16)), 1e-3),
    "with a channel in front": ("a.npy", lambda path: np.save(path, MAP[None]), 1e-7),
    "with a channel behind": ("a.npy", lambda path: np.save(path, MAP[..., None]), 1e-7),
    "in a batch of one": ("a.npy", lambda path: np.save(path, MAP[None, None]), 1e-7),
    "background and class": ("a.npy", lambda path: np.save(path, np.stack([1 - MAP, MAP])), 1e-7),
    "background and class behind": ("a.npy", lambda path: np.save(path, np.stack([1 - MAP, MAP], -1)), 1e-7),
    "uint8": ("a.npy", lambda path: np.save(path, BYTES), 1 / 500),
    "npz": ("a.npz", lambda path: write_npz(path, whatever=MAP), 1e-7),
    "npz of several": ("a.npz", lambda path: write_npz(path, label=MAP > 2, probs=MAP), 1e-7),
    "8-bit PNG": ("a.png", lambda path: save_png(path, BYTES), 1 / 500),
    "8-bit PNG in RGB": ("a.png", lambda path: save_png(path, np.stack([BYTES] * 3, -1)), 1 / 500),
    "16-bit PNG": ("a.png", lambda path: save_png(path, WORDS), 1e-4),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_map_is_the_same_however_it_was_saved(way, tmp_path):
    name, write, within = WAYS[way]
    write(tmp_path / name)
    read = read_answer(tmp_path / name, ONE, SIZE)
    assert read.values.shape == (1, *SIZE)
    assert np.abs(read.values[0] - MAP).max() <= within


@pytest.mark.parametrize("axis", [0, -1])
def test_classes_may_come_first_or_last(axis, tmp_path):
    classes = np.random.default_rng(2).dirichlet([1, 1, 1], SIZE).astype(np.float32)
    np.save(tmp_path / "a.npy", np.moveaxis(classes, -1, axis))
    assert np.allclose(read_answer(tmp_path / "a.npy", MANY, SIZE).values, np.moveaxis(classes, -1, 0))


def test_where_both_ends_could_be_classes_the_aspect_of_the_mask_decides(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((3, 40, 3), np.float32))
    assert read_answer(tmp_path / "a.npy", MANY, (40, 3)).values.shape == (3, 40, 3)
    assert read_answer(tmp_path / "a.npy", MANY, (3, 40)).values.shape == (3, 3, 40)


def test_channels_are_classes_in_order_or_ids_and_positive_ones_are_added():
    task = Task((2, 5), (0, 2, 5), ("both",))
    assert channel_rule(1, task) == [[0]]
    assert channel_rule(2, task) == [[1]]
    assert channel_rule(3, task) == [[1, 2]]
    assert channel_rule(6, task) == [[2, 5]]
    assert channel_rule(4, task) is None
    assert channel_rule(3, Task((), (0, 2, 5), ("a", "b", "c"))) == [[0], [1], [2]]
    assert channel_rule(7, Task((), (0, 2, 5), ("a", "b", "c"))) == [[0], [2], [5]]
    assert channel_rule(2, Task((), (0, 2, 5), ("a", "b", "c"))) is None


def test_a_map_of_another_size_is_read_at_the_centre_of_each_cell():
    ramp = np.broadcast_to((np.arange(20, dtype=np.float32) + 0.5) / 20, (1, 10, 20)).copy()
    laid = on_grid(ramp, (40, 80), (20, 40))
    inner = (np.arange(40) + 0.5) / 40
    assert laid.shape == (1, 20, 40)
    assert np.allclose(laid[0, :, 1:-1], inner[1:-1], atol=1e-6)
    assert (on_grid(ramp, (10, 80), (40, 40))[0, :15] == 0).all()  # what is padded


def long_tail(path: Path) -> None:
    path.write_bytes(b"\x93NUMPY\x01\x00")


BAD: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "logits": ("a.npy", lambda path: np.save(path, MAP * 12 - 6), "logits do: apply the sigmoid"),
    "levels as floats": ("a.npy", lambda path: np.save(path, MAP * 255), "divide by that range"),
    "not finite": ("a.npy", lambda path: np.save(path, np.where(MAP > 0.9, np.nan, MAP)), "are not finite"),
    "whole numbers": ("a.npy", lambda path: np.save(path, BYTES.astype(np.int64)), "holds int64"),
    "too many channels": ("a.npy", lambda path: np.save(path, np.zeros((5, 10, 14), np.bool_)[:, None]), "is \\(5, 1"),
    "no such classes": ("a.npy", lambda path: np.save(path, np.zeros((0, 10, 14))), "one map an image"),
    "objects": ("a.npy", lambda path: np.save(path, np.array([None, 1]), allow_pickle=True), "array of numbers"),
    "cut off": ("a.npy", long_tail, "reading it gave"),
    "no zip": ("a.npz", lambda path: path.write_bytes(b"PK\x03\x04nothing"), "reading it gave"),
    "unnamed arrays": ("a.npz", lambda path: write_npz(path, x=MAP, y=MAP), "it holds 'x', 'y'"),
    "colours": ("a.png", lambda path: save_png(path, np.stack([BYTES, BYTES, 255 - BYTES], -1)), "holds colours"),
    "no image": ("a.png", lambda path: path.write_bytes(b"hello"), "not an image"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_file_that_is_no_probability_map_is_named_with_what_is_wrong(what, tmp_path):
    name, write, said = BAD[what]
    write(tmp_path / name)
    with pytest.raises(DataError, match=said) as refused:
        read_answer(tmp_path / name, ONE, SIZE)
    assert name in str(refused.value)


def test_many_classes_need_a_channel_each(tmp_path):
    np.save(tmp_path / "a.npy", MAP)
    with pytest.raises(DataError, match="must have 3 channels"):
        read_answer(tmp_path / "a.npy", MANY, SIZE)


def test_a_turned_map_is_refused(tmp_path):
    np.save(tmp_path / "a.npy", MAP.T[:, :7])
    with pytest.raises(DataError, match="of quite another aspect"):
        read_answer(tmp_path / "a.npy", ONE, SIZE)


# ---- all files -----------------------------------------------------------------------------------------------


def damaged(folder: Path, what: str) -> None:
    if what == "stranger":
        np.save(folder / "q00.npy", doubted(mask_of(0)))
    elif what == "twin":
        save_png(folder / "p00.png", np.zeros((40, 48), np.uint8))
    elif what == "constant":
        for path in folder.iterdir():
            np.save(path, np.full((40, 48), 0.5, np.float32))
    elif what == "ids":
        for index, path in enumerate(sorted(folder.iterdir())):
            path.unlink()
            save_png(path.with_suffix(".png"), mask_of(index))
    elif what == "one group":
        for path in sorted(folder.iterdir())[2:]:
            path.unlink()
    elif what == "none":
        for path in folder.iterdir():
            path.rename(path.with_suffix(".tif"))


SAID = {
    "stranger": "named as its image; 1 of 17 .* as 'q00.npy': did you mean 'p00'",
    "twin": "holds both 'p00.npy' and 'p00.png'",
    "constant": "hold 0.5 everywhere",
    "ids": "hold only 0 and 1, as class ids do",
    "one group": "at least two groups",
    "none": "one .npy, .npz or .png file an image",
}


@pytest.mark.parametrize("what", SAID)
def test_a_folder_of_maps_that_cannot_be_scored_is_refused_in_one_sentence(what, tmp_path):
    listed = samples()
    folder = write_maps(tmp_path / "maps", listed)
    damaged(folder, what)
    with pytest.raises(DataError, match=SAID[what]):
        answers_given(open_data(listed), Saved(folder), positive=[1])


def test_no_folder_is_refused(tmp_path):
    with pytest.raises(DataError, match="is none"):
        answers_given(open_data(samples()), Saved(tmp_path / "nowhere"))


def test_maps_of_images_without_the_class_are_refused(tmp_path):
    listed = [Sample(s.name, s.image, s.mask * (index < 8), s.group) for index, s in enumerate(samples())]
    with pytest.raises(DataError, match="hold the positive class; the 8 that report hold none"):
        answers_given(open_data(listed), Saved(write_maps(tmp_path / "maps", listed[8:])))


def test_maps_of_the_background_are_refused(tmp_path):
    listed = samples()
    maps = write_maps(tmp_path / "maps", listed, lambda mask, seed: 1 - doubted(mask, seed))
    with pytest.raises(DataError, match="Save 1 - p"):
        answers_given(open_data(listed), Saved(maps), positive=[1])


def test_what_is_odd_is_said_and_not_refused(tmp_path):
    listed = samples()
    folder = write_maps(tmp_path / "maps", listed[:12], lambda mask, _: (mask[::2, ::2] == 1).astype(np.float32))
    run, _ = answers_given(open_data(listed), Saved(folder))
    said = " ".join(run.pictures.warnings)
    assert "12 of 12 saved maps have another size than their mask, as 20 x 24 for 40 x 48" in said
    assert "12 of 16 images have a saved map" in said
    assert "hold only 0 and 1" in said
    assert run.answered == (20, 24)


def test_maps_that_were_scaled_twice_are_doubted(tmp_path):
    listed = samples()
    folder = write_maps(tmp_path / "maps", listed, lambda mask, index: doubted(mask, index) / 255)
    run, _ = answers_given(open_data(listed), Saved(folder))
    assert "check their scale" in " ".join(run.pictures.warnings)


# ---- the grid and the parts ----------------------------------------------------------------------------------


def test_maps_are_scored_as_large_as_the_images_are_until_there_are_too_many(monkeypatch):
    source = open_data(samples())
    assert scoring_size(source) == 48
    monkeypatch.setattr("unplateau.diagnosis.predictions.PIXELS", 16 * 40 * 48 // 4)
    assert scoring_size(source) == 24


def test_a_limit_leaves_out_some_of_both_kinds():
    source = open_data(samples(40))
    named = {f"p{index:02d}" for index in range(20)}
    kept = taking_part(source, named, 8, 0)
    assert len(kept) == 16
    assert len({index for index in kept if source.names[index] in named}) == 8
    assert kept == taking_part(source, named, 8, 0)


def test_images_that_trained_do_not_report_but_show_what_was_learnt(tmp_path):
    listed = samples(16, lambda index: "train" if index < 8 else "val")
    folder = write_maps(tmp_path / "maps", listed, lambda mask, i: doubted(mask, i, high=0.9 if i < 8 else 0.45))
    content = api.diagnose(listed, predictions=folder, out=tmp_path / "out")
    assert content["baseline"]["iou"] == 0
    assert finding(content, "capacity")["measured"] == {"seen": pytest.approx(1.0), "report": 0.0}
    assert not finding(content, "leaks")["claim"].startswith("Not asked")
    only = write_maps(tmp_path / "only", listed[:8])
    run, _ = answers_given(open_data(listed), Saved(only))
    assert len(run.folds[0].report) == 8
    assert "what the model remembers" in " ".join(run.pictures.warnings)


# ---- the diagnosis -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shy(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, Path]:
    """A shy model's maps, diagnosed once: nothing reaches 0.5."""
    folder = tmp_path_factory.mktemp("shy")
    listed = samples()
    maps = write_maps(folder / "maps", listed)
    return api.diagnose(listed, predictions=maps, out=folder / "out"), folder


def test_a_threshold_that_holds_the_iou_down_is_named_with_an_honest_gain(shy):
    content, _ = shy
    assert content["baseline"]["iou"] == 0
    assert [each["name"] for each in content["remedies"]] == ["move-threshold"]
    assert content["remedies"][0]["gain"]["mean"] == pytest.approx(1.0, abs=0.01)
    assert finding(content, "operating point")["verdict"] == "concern"


def test_what_a_training_would_have_to_tell_is_null_and_said(shy):
    content, _ = shy
    assert [content[name] for name in ("families", "comparisons")] == [None, None]
    assert [content[name] for name in ("ladder", "waterfall")] == [[], []]
    assert content["learning_curve"] == {"points": [], "predicted": [], "law": None}
    for check in ("ladder", "data scale", "capacity"):
        assert finding(content, check) == {
            "check": check,
            "verdict": Verdict.UNDETERMINED.value,
            "claim": UNASKED,
            "gain": None,
            "measured": {},
            "examples": [],
        }
    assert {each["question"]: each["answer"] for each in content["scale"]}["data"] == "undetermined"
    assert content["verdict"].endswith(UNASKED[0].lower() + UNASKED[1:]) or "not measured" in content["verdict"]


def test_nothing_is_trained_and_the_page_is_drawn(shy):
    content, folder = shy
    assert not (folder / "out" / "fits").exists()
    page = (folder / "out" / "report.html").read_text()
    assert UNASKED in page
    saved = parse(json.loads((folder / "out" / "diagnosis.json").read_text()))
    assert saved.baseline.extractor == "saved predictions"
    assert (saved.families, saved.ladder) == ((), ())
    assert content["operating_point"]["chosen"] == 0.5


def test_random_scores_promise_no_gain_from_the_threshold(tmp_path):
    """The best of 200 thresholds afterwards always gains; one that other groups choose need not."""
    listed = samples(24)
    maps = write_maps(tmp_path / "maps", listed, lambda mask, i: np.random.default_rng(i).random(mask.shape))
    run, _ = answers_given(open_data(listed), Saved(maps, threshold=0.02))
    measured = OperatingPointCheck().measure(run)
    assert measured.regret.mean < 0.005
    assert measured.regret.mean <= max(measured.iou) - measured.iou[4] + 1e-9


def test_a_reported_number_is_held_against_the_maps(tmp_path):
    listed = samples()
    maps = write_maps(tmp_path / "maps", listed, lambda mask, i: doubted(np.roll(mask, 6, 1), i, high=0.9))
    run, faults = answers_given(open_data(listed), Saved(maps, reported=0.9))
    assert judged(faults, "metric").verdict is Verdict.UNDETERMINED
    iou = run.reading("baseline").mean
    dice = 2 * iou / (1 + iou)
    _, faults = answers_given(open_data(listed), Saved(maps, reported=dice))
    assert judged(faults, "metric").verdict is Verdict.CONCERN
    assert [fault.remedy for fault in faults.faults] == ["fix-metric"]
    assert faults.faults[0].gain is not None
    assert faults.faults[0].gain.mean == pytest.approx(iou - dice)


def test_a_reported_number_is_held_against_the_masks_as_they_came(tmp_path):
    """On a grid of half the size the IoU is another one; the number that was reported knows no grid."""
    listed = samples()
    maps = write_maps(tmp_path / "maps", listed, lambda mask, i: doubted(np.roll(mask, 3, 1), i, high=0.9))
    rolled = np.stack([np.roll(sample.mask, 3, 1) for sample in listed]) == 1
    true = np.stack([sample.mask for sample in listed]) == 1
    exact = (rolled & true).sum() / (rolled | true).sum()
    run, faults = answers_given(open_data(listed), Saved(maps, reported=float(exact)), size=24)
    assert run.pictures.size == (16, 24)
    assert abs(run.reading("baseline").mean - exact) > 0.0001
    assert judged(faults, "metric").measured["iou"].mean == pytest.approx(exact)
    assert judged(faults, "metric").claim == f"The reported {exact:.3f} is the IoU of these answers."


def judged(faults: Faults, check: str) -> Finding:
    return next(each for each in faults.findings if each.check == check)


def test_many_classes_are_diagnosed_too(tmp_path):
    listed = [Sample(s.name, s.image, s.mask + (np.indices(s.mask.shape)[0] > 30), s.group) for s in samples()]
    maps = write_maps(
        tmp_path / "maps", listed, lambda mask, i: np.stack([doubted((mask == each) * 1, i) for each in range(3)])
    )
    content = api.diagnose(listed, predictions=maps, out=tmp_path / "out")
    assert content["baseline"]["iou"] == pytest.approx(1.0)
    assert content["baseline"]["threshold"] is None
    assert content["remedies"] == []


def test_a_log_beside_the_maps_types_the_curve(tmp_path):
    listed = samples()
    log = tmp_path / "log.csv"
    rows = [f"{step},{0.6 - 0.02 * max(0, step - 8)},{1 / (step + 1)},{0.3 + 0.05 * step}" for step in range(14)]
    log.write_text("epoch,val_iou,train_loss,val_loss\n" + "\n".join(rows))
    maps = write_maps(tmp_path / "maps", listed)
    content = api.diagnose(listed, predictions=maps, log=log, out=tmp_path / "out")
    assert finding(content, "curve")["verdict"] == "concern"
    assert CurveType.OVERFITTING.value in finding(content, "curve")["claim"]
    assert len(content["baseline"]["epochs"]) == 14
    assert content["baseline"]["best_iou"] is None


def test_pieces_beside_maps_and_shares_that_are_none_are_refused(tmp_path):
    listed = samples()
    with pytest.raises(UnplateauError, match="without training"):
        api.diagnose(listed, predictions=tmp_path, extractor="resnet18", out=tmp_path / "out")
    with pytest.raises(UnplateauError, match="`reported` must lie between 0 and 1; got 37"):
        api.diagnose(listed, predictions=tmp_path, reported=37, out=tmp_path / "out")
    with pytest.raises(UnplateauError, match="`log` goes with `predictions`"):
        api.diagnose(listed, log=tmp_path, out=tmp_path / "out")
    for alone in ({"threshold": 0.7}, {"reported": 0.4}):
        with pytest.raises(UnplateauError, match=f"`{next(iter(alone))}` goes with `predictions`, and none were given"):
            api.diagnose(listed, **alone, out=tmp_path / "out")


def test_the_command_line_says_the_same_words(tmp_path, capsys):
    data = write_pairs(tmp_path / "data", count=8)
    maps = tmp_path / "maps"
    maps.mkdir()
    for path in (data / "masks").iterdir():
        save_png(maps / path.name, np.asarray(Image.open(path)) * 200 + 20)
    assert cli.main(["diagnose", str(data), "--predictions", str(maps), "--out", str(tmp_path / "out")]) == 0
    assert "no training" in " ".join(capsys.readouterr().out.split())
    np.save(maps / "stray.npy", MAP)
    assert cli.main(["diagnose", str(data), "--predictions", str(maps), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "stray.npy" in error


# ---- as the model itself -------------------------------------------------------------------------------------


def of_model(source: AbstractSource, folder: Path, *, positive: list[int] | None = None) -> Run:
    """The run of a model that is given, with nothing trained around it."""
    given = load_given(folder)
    # Its maps are saved and scored on the grid: there the model is read too, without the masks as they came.
    pictures = replace(read_pictures(source, positive=positive, size=max(given.saved.size)), native_mask=None)
    fold = its_fold(given, pictures)
    plan = Plan((RungPlan("baseline", "baseline", "baseline", math.inf, given.made.extractor),), "baseline", ())
    outcomes = {"baseline": (answered(given, pictures, fold[0]),)}
    return Run(source, pictures, fold, measure_objects(pictures), plan, outcomes, 0)


def maps_of(run: Run, model: Path, folder: Path) -> Path:
    """Its maps of the images that report, as anybody would save them, on the grid of the model."""
    folder.mkdir()
    net = load_given(model).saved.model
    for index in run.folds[0].report:
        scores = probabilities(net, run.pictures.images[index : index + 1])[0]
        np.save(folder / f"{run.pictures.names[index]}.npy", scores.numpy())
    return folder


def agree(source: AbstractSource, model: Path, out: Path, *, positive: list[int] | None = None) -> None:
    whole = of_model(source, model, positive=positive)
    saved = load_given(model).saved
    told = Saved(maps_of(whole, model, out), saved.threshold if whole.binary else 0.5)
    run, _ = answers_given(source, told, positive=positive, size=max(saved.size))
    wanted, found = OperatingPointCheck().measure(whole), OperatingPointCheck().measure(run)
    assert run.reading("baseline") == whole.reading("baseline")
    assert found.iou == pytest.approx(wanted.iou, nan_ok=True)
    assert (found.chosen, found.best) == pytest.approx((wanted.chosen, wanted.best), nan_ok=True)
    assert found.from_half == wanted.from_half
    # Chosen on other groups, not on the very images that report.
    assert found.regret.mean <= np.nanmax(wanted.iou) - whole.reading("baseline").mean + 0.005
    theirs, ours = AnatomyCheck().measure(whole), AnatomyCheck().measure(run)
    assert ours.gains == theirs.gains
    assert (ours.iou, ours.remainder, ours.pixels, ours.worst) == (
        theirs.iou,
        theirs.remainder,
        theirs.pixels,
        theirs.worst,
    )


def test_maps_of_a_model_score_as_the_model_itself_does(tmp_path):
    data = write_pairs(tmp_path / "data", count=16)
    api.train(data, positive=[1], extractor="reach-9", out=tmp_path / "model", size=48, steps=12)
    agree(open_data(data), tmp_path / "model", tmp_path / "maps", positive=[1])


def test_maps_of_a_model_of_a_real_set_score_as_the_model_itself_does(real, tmp_path):
    data = real("drive_full")
    api.train(data, extractor="reach-9", out=tmp_path / "model", size=64, steps=6)
    agree(open_data(data), tmp_path / "model", tmp_path / "maps")
