"""The ranking: supply where the task demands it, a probe of what is there, intervals, and cost."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from benchmarks.ranking.logme import evidence
from benchmarks.ranking.score import tau, tau_decided

from conftest import make_pictures, write_pairs
from unplateau import api
from unplateau.cli import main
from unplateau.data import open_data, read_pictures
from unplateau.scenes import ALONE, plant, scenes
from unplateau.scenes.base import Difficulty
from unplateau.types import Interval
from unplateau.upgrades import demand as demands
from unplateau.upgrades import rehearsal
from unplateau.upgrades.choice import Candidate, ranked
from unplateau.upgrades.demand import FAMILIES, demand_of_shares, iou_draws, measured_demand, shrunk
from unplateau.upgrades.eyechart import CHART, CHARTS, COLOUR
from unplateau.verbs import eyechart as charts
from unplateau.verbs import rank as verb


def known(mean: float, half: float = 0.02) -> Interval:
    return Interval(mean, mean - half, mean + half)


def supply(textural: float, geometric: float, semantic: float, colour: float = 1.0) -> dict[str, Interval]:
    return {**dict(zip(FAMILIES, map(known, (textural, geometric, semantic)), strict=True)), COLOUR: known(colour)}


def candidate(name: str, own: dict[str, Interval], reached: float = 0.3, milliseconds: float = 1.0) -> Candidate:
    return Candidate(name, own, reached, np.full(1000, reached), milliseconds)


def wanting(textural: float, geometric: float, semantic: float):
    return demand_of_shares(supply(textural, geometric, semantic), 0.3, "said", 0)


# ---- the rule ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_what_supplies_the_family_that_is_demanded_comes_first(family):
    candidates = [candidate(each, supply(*(0.9 if other == each else 0.2 for other in FAMILIES))) for each in FAMILIES]
    demanded = demand_of_shares({each: known(float(each == family)) for each in FAMILIES}, 0.3, "said", 0)
    rows = ranked(candidates, demanded, seed=0)
    assert rows[0].extractor == family
    assert (rows[0].best, rows[0].worst) == (1, 1)


def test_of_two_with_the_same_supply_the_one_that_takes_to_the_task_comes_first():
    rows = ranked(
        [candidate("slow", supply(0.5, 0.5, 0.5)), candidate("quick", supply(0.5, 0.5, 0.5), 0.6)],
        wanting(1, 1, 1),
        seed=0,
    )
    assert [row.extractor for row in rows] == ["quick", "slow"]


def test_of_two_that_rehearsed_alike_the_one_that_can_learn_what_is_demanded_comes_first():
    rows = ranked(
        [candidate("near", supply(0.3, 0.3, 0.0)), candidate("whole", supply(0.0, 0.0, 0.5))],
        wanting(0, 0, 1),
        seed=0,
    )
    assert [row.extractor for row in rows] == ["whole", "near"]


def test_the_gain_is_what_was_rehearsed_and_what_is_learnt_of_the_rest():
    row = ranked([candidate("one", supply(0.5, 0.5, 0.5), 0.65)], wanting(1, 1, 1), seed=0)[0]
    # Half of the missing 0.35 is learnt, and colour alone has 0.3.
    assert row.gain.mean == pytest.approx(0.65 + 0.35 * 0.5 - 0.3, abs=1e-6)
    assert row.gain.low < row.gain.mean < row.gain.high
    assert row.learnable.mean == pytest.approx(0.5, abs=1e-6)
    assert row.rehearsed.mean == pytest.approx(0.65)


def test_a_cheap_extractor_can_win_by_the_millisecond():
    rows = ranked(
        [candidate("dear", supply(0.9, 0.9, 0.9), milliseconds=10), candidate("cheap", supply(0.6, 0.6, 0.6))],
        wanting(1, 1, 1),
        seed=0,
    )
    assert [row.extractor for row in rows] == ["dear", "cheap"]
    assert rows[1].per_millisecond.mean > rows[0].per_millisecond.mean
    assert rows[0].per_millisecond.mean == pytest.approx(rows[0].gain.mean / 10)


def test_those_that_cannot_be_told_apart_share_their_places():
    wide = {family: known(0.5, 0.3) for family in (*FAMILIES, COLOUR)}
    rows = ranked([candidate("one", wide), candidate("two", wide)], wanting(1, 1, 1), seed=0)
    assert all((row.best, row.worst) == (1, 2) for row in rows)


def test_the_same_seed_ranks_alike_and_no_family_of_worth_means_equal_demand():
    candidates = [candidate("one", supply(0.1, 0.5, 0.9)), candidate("two", supply(0.4, 0.4, 0.4))]
    assert ranked(candidates, wanting(1, 2, 3), seed=1) == ranked(candidates, wanting(1, 2, 3), seed=1)
    equal = wanting(-1, -1, -1)
    assert [each.mean for each in equal.families.values()] == pytest.approx([0.7 / 3] * 3)


def test_demand_adds_up_to_what_colour_leaves():
    found = wanting(0.2, 0.5, 0.1)
    assert sum(each.mean for each in found.families.values()) == pytest.approx(0.7)
    assert np.allclose(sum(found.draws.values()), 0.7)
    assert found.families["geometric"].low < found.families["geometric"].mean < found.families["geometric"].high


# ---- demand, measured ----------------------------------------------------------------------------------------


NETWORKS = {
    "orderless": supply(0.6, 0.0, 0.0),
    "near": supply(0.3, 0.5, 0.0),
    "whole": supply(0.3, 0.4, 0.8),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_what_explains_the_networks_is_what_is_demanded(family):
    own = np.array([[each[other].mean for other in FAMILIES] for each in NETWORKS.values()])
    wanted = np.array([0.7 * (other == family) for other in FAMILIES])
    assert demands._explained(own, own @ wanted, 0.3) == pytest.approx(wanted, abs=1e-6)


def test_what_no_network_reached_may_be_of_any_family():
    own = np.array([[each[other].mean for other in FAMILIES] for each in NETWORKS.values()])
    assert demands._explained(own, np.zeros(3), 0.4) == pytest.approx([0.2, 0.2, 0.2])
    assert demands._explained(own, own @ np.array([0.0, 0.3, 0.0]), 0.4) == pytest.approx([0.1, 0.4, 0.1], abs=1e-6)


def test_a_network_of_little_capacity_is_no_demand_for_reach():
    # Both gain on shapes as far as they know shapes; the wider one just knows them better.
    own = np.array([[0.3, 0.0, 0.0], [0.3, 0.25, 0.0], [0.3, 0.75, 0.5]])
    found = demands._explained(own, np.array([0.0, 0.1, 0.3]), 0.4)
    assert found == pytest.approx([0.2 / 3, 0.4 + 0.2 / 3, 0.2 / 3], abs=1e-6)


def test_no_more_is_demanded_than_lies_above_colour_and_nothing_less_than_nothing():
    own = np.eye(3) * 0.1
    found = demands._explained(own, np.array([0.2, -0.1, 0.1]), 0.3)
    assert found.sum() == pytest.approx(0.7)
    assert found[1] == pytest.approx(0, abs=1e-9)


def test_a_demand_is_measured_by_what_networks_of_known_supply_reached():
    own = list(NETWORKS.values())
    reached = [(0.3 + 0.7 * each["semantic"].mean, np.full(1000, 0.3 + 0.7 * each["semantic"].mean)) for each in own]
    found = measured_demand(0.3, own, reached, 0)
    assert found.source == "measured by rehearsals of 3 networks"
    assert found.families["semantic"].mean == pytest.approx(0.7, abs=1e-6)
    assert sum(each.mean for each in found.families.values()) == pytest.approx(0.7)
    assert np.allclose(sum(found.draws.values()), 0.7)
    assert measured_demand(0.3, own, reached, 0).families == found.families


# ---- the rehearsal -------------------------------------------------------------------------------------------


def test_a_rehearsal_leaves_the_extractor_as_it_was_and_says_the_same_again(monkeypatch):
    monkeypatch.setattr(rehearsal, "STEPS", 2)
    monkeypatch.setattr(rehearsal, "BATCH", 4)
    pictures = read_pictures(open_data(scenes("geometry", 16, size=(48, 48), seed=0)), positive=[1], size=48)
    extractor = charts.named_extractors(["unet-8"], 0)[0].extractor
    before = {name: value.clone() for name, value in extractor.state_dict().items()}
    iou, draws = rehearsal.rehearsed(extractor, pictures, 0)
    assert all(torch.equal(value, before[name]) for name, value in extractor.state_dict().items())
    assert 0 <= iou <= 1
    assert draws.min() <= iou <= draws.max()
    again, same = rehearsal.rehearsed(extractor, pictures, 0)
    assert again == iou
    assert np.array_equal(same, draws)


def test_what_the_images_do_not_say_is_not_rehearsed(monkeypatch):
    monkeypatch.setattr(rehearsal, "STEPS", 40)
    drawn = plant(ALONE["colour"], 32, name="colour", size=(32, 32), seed=0, difficulty=Difficulty(0.02, 1.2, 4))
    pictures = read_pictures(open_data(drawn), positive=[1], size=32)
    # The mask of the image before.
    unsaid = replace(pictures, masks=pictures.masks.roll(1, 0))
    extractor = charts.named_extractors(["reach-3-4"], 0)[0].extractor
    assert rehearsal.rehearsed(extractor, pictures, 0)[0] > rehearsal.rehearsed(extractor, unsaid, 0)[0] + 0.1


def test_several_classes_are_rehearsed(monkeypatch):
    monkeypatch.setattr(rehearsal, "STEPS", 2)
    pictures = make_pictures([f"g{place}" for place in range(16)], classes=3)
    iou, _ = rehearsal.rehearsed(charts.named_extractors(["reach-3-4"], 0)[0].extractor, pictures, 0)
    assert 0 <= iou <= 1


def test_the_averages_that_a_rehearsal_reads_with_are_those_of_its_last_steps():
    model = torch.nn.Sequential(torch.nn.BatchNorm2d(1), torch.nn.BatchNorm2d(1).eval())
    for layer in model:
        layer.running_mean.fill_(9.0)
    rehearsal._forget_averages(model)
    for level in (1.0, 3.0):
        model[0](torch.full((2, 1, 2, 2), level))
    assert float(model[0].running_mean) == pytest.approx(2.0)
    # What is frozen keeps its own.
    assert float(model[1].running_mean) == 9.0


def test_a_large_task_is_measured_on_a_small_grid_with_its_classes_kept():
    pictures = read_pictures(open_data(scenes("geometry", 8, size=(96, 64), seed=0)), positive=[1], size=96)
    small = shrunk(pictures, 48)
    assert small.size == (48, 32)
    assert set(small.masks.unique().tolist()) <= {0, 1}
    assert abs(float((small.masks == 1).float().mean()) - float((pictures.masks == 1).float().mean())) < 0.02
    assert shrunk(pictures, 96) is pictures


def test_few_pictures_are_spread_over_all_and_keep_their_names():
    pictures = read_pictures(open_data(scenes("geometry", 20, size=(48, 48), seed=0, groups=2)), positive=[1], size=48)
    few = demands.spread_over(pictures, 5)
    assert few.names == tuple(pictures.names[place] for place in (0, 5, 10, 14, 19))
    assert few.groups == tuple(pictures.groups[place] for place in (0, 5, 10, 14, 19))
    assert torch.equal(few.images[1], pictures.images[5])
    assert torch.equal(few.masks[4], pictures.masks[19])
    assert demands.spread_over(pictures, 20) is pictures
    assert demands.spread_over(replace(pictures, groups=("a",) * 19 + ("b",)), 1).groups[-1] == "b"


def test_a_resample_without_the_class_says_no_more_than_all_images():
    lone = np.array([[[5, 10, 10]], [[0, 0, 0]]], dtype=np.int64)
    mean, draws = iou_draws(lone, ["with", "without"], np.random.default_rng(0))
    assert mean == pytest.approx(1 / 3)
    assert np.allclose(draws, mean)


def test_groups_are_resampled_whole():
    alike = np.array([[[10, 10, 10]], [[0, 10, 10]]] * 4, dtype=np.int64)
    mean, within = iou_draws(alike, ["a", "a", "b", "b", "c", "c", "d", "d"], np.random.default_rng(0))
    _, across = iou_draws(alike, list("abcdefgh"), np.random.default_rng(0))
    assert mean == pytest.approx(1 / 3)
    assert np.allclose(within, mean)
    assert across.std() > 0.05


# ---- the verb ------------------------------------------------------------------------------------------------

EXTRACTORS = ("reach-3-4", "reach-5-4")


def entry(name: str, mark: str, acuity: float) -> dict:
    each = [
        {"family": family, "acuity": {"mean": acuity, "low": acuity, "high": acuity}, "lines": []} for family in CHARTS
    ]
    return {"extractor": name, "identity": mark, "milliseconds": 1.0, "rest": each, "taught": each}


@pytest.fixture
def charted(tmp_path, monkeypatch) -> Path:
    """A folder of charts: the second extractor supplies everything, the first nothing; and rehearsals of two steps."""
    monkeypatch.setattr(rehearsal, "STEPS", 2)
    monkeypatch.setattr(rehearsal, "BATCH", 4)
    named = charts.named_extractors((*EXTRACTORS, *demands.REFERENCES), 0)
    entries = [
        entry(each.name, charts.identity(each.extractor), acuity)
        for each, acuity in zip(named, (0.0, 1.0, 0.5, 0.5, 0.5), strict=True)
    ]
    (tmp_path / "charts").mkdir()
    content = {"version": CHART, "size": 64, "seed": 0, "charts": entries}
    (tmp_path / "charts" / charts.CHARTED).write_text(json.dumps(content))
    return tmp_path / "charts"


def test_the_verb_ranks_a_folder_by_supply_and_writes_table_and_page(charted, tmp_path):
    data = write_pairs(tmp_path / "data")
    content = api.rank(data, EXTRACTORS, out=tmp_path / "out", charts=charted, size=48)
    assert [row["extractor"] for row in content["ranking"]] == ["reach-5-4", "reach-3-4"]
    # With all that is demanded, nothing is missing; with nothing, there is what was rehearsed.
    whole, none = (row["gain"]["mean"] + content["demand"]["colour"] for row in content["ranking"])
    assert whole == pytest.approx(1, abs=1e-6)
    assert none == pytest.approx(content["ranking"][1]["rehearsed"]["mean"], abs=1e-6)
    assert content == json.loads((tmp_path / "out" / "rank.json").read_text())
    assert set(content["by_cost"]) == set(EXTRACTORS)
    page = (tmp_path / "out" / api.RANK_PAGE).read_text()
    assert "# Extractors ranked" in page
    assert "measured by" in page


def test_the_command_says_what_the_verb_says(charted, tmp_path, capsys):
    data = write_pairs(tmp_path / "data")
    where = ["--out", str(tmp_path / "out"), "--charts", str(charted), "--size", "48"]
    assert main(["rank", str(data), *EXTRACTORS, *where]) == 0
    assert "reach-5-4" in capsys.readouterr().out


def diagnosed(path: Path, **changes) -> Path:
    shares = dict(zip(FAMILIES, (0.2, 0.7, 0.1), strict=True))
    content = {
        "version": 1, "verdict": "-", "seed": 3,
        "data": {"path": "data", "images": 12, "groups": 12, "size": [40, 48], "classes": ["class 1"]},
        "setup": {"positive": [1], "folds": 1, "frozen": False, "candidate": None, "recipe": {}},
        "families": {name: {"mean": share, "low": share - 0.1, "high": share + 0.1} for name, share in shares.items()},
        **changes,
    }  # fmt: skip
    path.write_text(json.dumps(content))
    return path


def test_the_demand_of_a_diagnosis_is_taken_at_its_word(charted, tmp_path, monkeypatch):
    monkeypatch.setattr(verb, "measured_demand", None)
    data = write_pairs(tmp_path / "data")
    names = read_pictures(open_data(data), positive=[1], size=48).task.names
    facts = {"path": "data", "images": 12, "groups": 12, "size": [40, 48], "classes": list(names)}
    said = diagnosed(tmp_path / "diagnosis.json", data=facts)
    content = api.rank(data, EXTRACTORS, diagnosis=said, out=tmp_path / "out", charts=charted)
    demand = {family: each["mean"] for family, each in content["demand"]["families"].items()}
    assert max(demand, key=lambda family: demand[family]) == "geometric"
    assert content["demand"]["source"] == "the shares of the diagnosis"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["no_such_net"], "did you mean"),
        (["reach-3-4", "--from", "absent.json"], "readable diagnosis.json"),
        (["reach-3-4", "--from", "{damaged}"], "must hold JSON"),
        (["reach-3-4", "--from", "{early}"], "share of each family"),
        (["reach-3-4", "--from", "{others}"], "must be of these data"),
        (["reach-3-4", "--limit", "2"], "`limit` must be at least"),
        (["reach-3-4", "--positive", "x"], "`positive` must be class ids"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(arguments, said, charted, tmp_path, capsys):
    data = write_pairs(tmp_path / "data")
    (tmp_path / "damaged.json").write_text("{")
    diagnosed(tmp_path / "early.json", families=None)
    facts = {"path": "data", "images": 12, "groups": 12, "size": [40, 48], "classes": ["cars"]}
    diagnosed(tmp_path / "others.json", data=facts)
    known_files = {f"{{{name}}}": str(tmp_path / f"{name}.json") for name in ("damaged", "early", "others")}
    given = [known_files.get(each, each) for each in arguments]
    where = ["--out", str(tmp_path / "out"), "--charts", str(charted)]
    assert main(["rank", str(data), *given, *where]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error


# ---- what it is measured beside ------------------------------------------------------------------------------


def direct(features: np.ndarray, labels: np.ndarray, ratio: float) -> float:
    """The evidence written out in full at alpha / beta = `ratio`, with the best beta for it."""
    rows = len(labels)
    covariance = np.eye(rows) + features @ features.T / ratio
    beta = rows / (labels @ np.linalg.solve(covariance, labels))
    sign, determinant = np.linalg.slogdet(covariance)
    assert sign > 0
    return (rows * math.log(beta / (2 * math.pi)) - determinant - rows) / (2 * rows)


@pytest.mark.parametrize(("rows", "channels"), [(200, 20), (50, 200)])
def test_logme_is_the_largest_evidence_at_any_rank(rows, channels):
    rng = np.random.default_rng(0)
    features = rng.standard_normal((rows, channels))
    labels = (features[:, 0] + 0.5 * rng.standard_normal(rows) > 0).astype(float)
    found = evidence(features, labels)
    best = max(direct(features, labels, ratio) for ratio in np.geomspace(1e-3, 1e5, 400))
    assert found == pytest.approx(best, abs=5e-3)


def test_logme_prefers_features_that_know_the_labels():
    rng = np.random.default_rng(0)
    features = rng.standard_normal((300, 30))
    labels = (features[:, 0] > 0).astype(float)
    assert evidence(features, labels) > evidence(rng.standard_normal((300, 30)), labels)


def test_tau_counts_pairs_and_leaves_ties_out_where_asked():
    true = {"a": 0.1, "b": 0.11, "c": 0.5}
    assert tau({"a": 1, "b": 2, "c": 3}, true) == pytest.approx(1)
    assert tau({"a": 2, "b": 1, "c": 3}, true) == pytest.approx(1 / 3)
    assert tau_decided({"a": 2, "b": 1, "c": 3}, true) == 1


def test_a_folder_of_results_keeps_nothing_that_another_task_would_read(charted, tmp_path):
    torch.manual_seed(0)
    first = api.rank(write_pairs(tmp_path / "a", seed=0), EXTRACTORS, out=tmp_path / "out", charts=charted, size=48)
    second = api.rank(write_pairs(tmp_path / "b", seed=5), EXTRACTORS, out=tmp_path / "out", charts=charted, size=48)
    fresh = api.rank(tmp_path / "b", EXTRACTORS, out=tmp_path / "fresh", charts=charted, size=48)
    readings = [[row["rehearsed"] for row in each["ranking"]] for each in (first, second, fresh)]
    assert readings[1] == readings[2] != readings[0]
