"""A model that is already trained is diagnosed as it is: on its own images, at its own threshold, untouched."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import write_pairs
from unplateau import api
from unplateau.diagnosis import diagnose
from unplateau.errors import PieceError, UnplateauError
from unplateau.experiments import trials
from unplateau.experiments.trials import LONGER, larger, make_trials, stronger
from unplateau.extractors.catalogue import build_extractor
from unplateau.training.recipe import Recipe
from unplateau.training.saved import load_model
from unplateau.types import Sample
from unplateau.verbs import diagnose as diagnosing

SHORT = 40
"""Steps of a rung here: nothing below rests on how well a longer training does."""


@pytest.fixture(autouse=True, scope="module")
def brief() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trials, "SHORT", SHORT)
        yield


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, float]]:
    folder = tmp_path_factory.mktemp("given")
    data = write_pairs(folder / "data", count=16)
    facts = api.train(data, positive=[1], extractor="reach-9", out=folder / "model", size=32, steps=12)
    return data, folder / "model", facts


def copied(model: Path, to: Path, **changed: object) -> Path:
    to.mkdir()
    for path in model.iterdir():
        if path.is_file():
            (to / path.name).write_bytes(path.read_bytes())
    facts = json.loads((to / "model.json").read_text())
    (to / "model.json").write_text(json.dumps({**facts, **changed}))
    return to


def test_a_given_model_is_scored_where_it_was_scored_at_its_own_threshold(trained, tmp_path, monkeypatch):
    data, model, facts = trained
    # What else would help is of no account here.
    monkeypatch.setattr(diagnose, "later_stages", lambda *_, **__: [])
    said = api.diagnose(data, model=model, steps=4, out=tmp_path / "out")
    assert said["baseline"]["iou"] == pytest.approx(facts["iou"], abs=1e-6)
    # The masks are of 40 x 48 pixels and the grid is not: each is read at the threshold that suits it.
    assert said["baseline"]["threshold"] == pytest.approx(facts["grid_threshold"])
    assert said["operating_point"]["native"]
    assert said["operating_point"]["chosen"] == pytest.approx(facts["threshold"])
    assert said["baseline"]["extractor"] == "reach-9"
    assert not list((tmp_path / "out" / "fits").glob("baseline-*"))


def test_a_trial_is_read_at_the_threshold_in_force(trained, tmp_path, monkeypatch):
    data, model, _ = trained
    seen = {}
    monkeypatch.setattr(diagnosing, "document", lambda run, *_, **__: seen.update(run=run) or {})
    monkeypatch.setattr(diagnosing, "write_report", lambda *_: None)
    api.diagnose(
        data, model=copied(model, tmp_path / "model", threshold=0.97), steps=2, thorough=True, out=tmp_path / "out"
    )
    run = seen["run"]
    for name in ("trial more-context", "trial rebalance", "trial train-longer", "data-0.5", "baseline"):
        assert [fit.threshold for fit in run.outcomes[name]] == [0.97]
    assert run.outcomes["context"][0].fixed is None


def test_what_comes_first_ends_the_measuring(trained, tmp_path):
    data, model, _ = trained
    stale = copied(model, tmp_path / "model", threshold=0.97)
    said = api.diagnose(data, model=stale, steps=2, out=tmp_path / "out")
    assert [each["name"] for each in said["remedies"]] == ["move-threshold"]
    assert not said["complete"]
    assert said["ladder"] == []
    fits = {path.name.rpartition("-")[0] for path in (tmp_path / "out" / "fits").iterdir()}
    # Its reach is short, so what sees more judges the masks.
    assert fits == {"context-0"}


def test_a_saved_model_says_how_it_was_made(trained):
    saved = load_model(trained[1])
    assert saved.made is not None
    assert saved.made.recipe == Recipe(steps=12)
    assert (saved.made.extractor, saved.made.frozen, saved.made.seed) == ("reach-9", False, 0)
    assert saved.reported == pytest.approx(trained[2]["iou"])


def test_a_model_of_other_classes_is_refused(trained, tmp_path):
    data, model, _ = trained
    with pytest.raises(PieceError, match="same classes"):
        api.diagnose(data, positive=[0], model=model, out=tmp_path / "out")


def test_a_model_that_does_not_say_how_it_was_made_is_refused(trained, tmp_path):
    data, model, _ = trained
    with pytest.raises(PieceError, match="how it was trained"):
        api.diagnose(data, model=copied(model, tmp_path / "model", made=None), out=tmp_path / "out")


def test_a_model_without_its_log_is_refused(trained, tmp_path):
    data, model, _ = trained
    bare = copied(model, tmp_path / "model")
    (bare / "log.csv").unlink()
    with pytest.raises(UnplateauError, match="log"):
        api.diagnose(data, model=bare, out=tmp_path / "out")


# ---- trials --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["unet", "unet-4", "reach-9", "reach-9-8", "resnet18", "timm/resnet18:2"])
def test_the_next_size_is_an_extractor_with_more_parameters_and_the_same_reach(name):
    below, above = (build_extractor(each) for each in (name, larger(name) or ""))
    count = [sum(weight.numel() for weight in each.parameters()) for each in (below, above)]
    assert count[1] > 1.5 * count[0]
    assert above.reach == below.reach


def test_what_comes_in_one_size_has_no_next_one():
    assert larger("colour") is None
    assert larger("runs/my-weights.safetensors") is None


def test_a_single_level_gets_the_finer_ones_and_a_decoder_that_reads_them():
    assert stronger("timm/resnet18:2", "linear") == ("timm/resnet18:0,1,2", "unet")
    assert stronger("unet", "linear") == ("unet", "conv")
    assert stronger("resnet18", "conv") == ("resnet18", "unet")


def test_only_what_changes_something_is_tried():
    weighed = make_trials("unet", "linear", math.inf, Recipe(class_weights="auto"), frozen=False)
    assert {trial.remedy for trial in weighed} == {"stronger-decoder", "larger-extractor", LONGER}
    near = make_trials("reach-9", "linear", 9, Recipe(), frozen=False)
    assert {trial.remedy for trial in near} == {
        "rebalance",
        "stronger-decoder",
        "larger-extractor",
        "more-context",
        LONGER,
    }
    frozen = make_trials("resnet18", "linear", math.inf, Recipe(), frozen=True, whole=False)
    assert {trial.remedy for trial in frozen} == {"rebalance", "stronger-decoder"}


def test_a_run_is_trained_for_twice_as_long_and_a_short_one_for_as_long_as_a_rung():
    rung, steps = trials.SHORT, []
    for given in (rung // 4, rung // 2, rung):
        planned = make_trials("unet", "linear", math.inf, Recipe(steps=given), frozen=False)
        steps += [trial.recipe.steps for trial in planned if trial.remedy == LONGER]
    assert steps == [rung, rung, 2 * rung]


@pytest.fixture(scope="module")
def coarse(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Objects of six pixels, seen on a quarter of the grid, and the diagnosis of what was trained there."""
    folder = tmp_path_factory.mktemp("coarse")
    generator = np.random.default_rng(0)
    samples = []
    for number in range(24):
        mask = np.zeros((128, 128), np.uint8)
        for row, column in generator.integers(0, 122, (12, 2)):
            mask[row : row + 6, column : column + 6] = 1
        image = np.repeat((80 + 90 * mask + generator.normal(0, 8, mask.shape)).clip(0, 255)[..., None], 3, axis=2)
        samples.append(Sample(f"{number:02d}", image.astype(np.uint8), mask, f"{number:02d}"))
    api.train(samples, positive=[1], extractor="reach-9", out=folder / "model", size=32, steps=20)
    return api.diagnose(samples, model=folder / "model", steps=4, thorough=True, out=folder / "out")


def test_where_the_grid_costs_twice_the_grid_is_trained(coarse):
    told = {each["name"]: each for each in coarse["considered"]}
    assert "Trained once on twice the grid" in " ".join(told["finer-resolution"]["evidence"])
    assert f"Trained twice, from two seeds, for {SHORT} steps" in " ".join(told["train-longer"]["evidence"])
    assert told["finer-resolution"]["gain"]["mean"] > 0.05


def test_at_native_size_there_is_no_finer_grid_to_train_on(trained, tmp_path):
    data, _, _ = trained
    api.train(data, positive=[1], extractor="reach-9", out=tmp_path / "model", size=48, steps=4)
    said = api.diagnose(data, model=tmp_path / "model", steps=2, thorough=True, out=tmp_path / "out")
    assert "finer-resolution" not in {each["name"] for each in said["considered"]}
