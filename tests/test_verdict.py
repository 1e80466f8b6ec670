"""From measurements to remedies, to the verdict, to diagnosis.json and its page: on runs whose truth is made."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from made_run import changed, made_run, table
from unplateau.diagnosis.diagnose import CHECKS, Measurements, measure_all
from unplateau.diagnosis.document import OWN, _waterfall, document
from unplateau.diagnosis.examples import COUNT, OF_ONE_GROUP, draw_worst, overlay
from unplateau.diagnosis.faults import Faults, find_faults
from unplateau.diagnosis.verdict import SINGLE, calibrated, consider_remedies, find_remedies, rank, say, scale_table
from unplateau.experiments.gains import TIE, WORTH, worth_listing
from unplateau.experiments.plan import CANDIDATE, CONTEXT, HALF_STEPS, UNTRAINED
from unplateau.experiments.run import Run
from unplateau.experiments.trials import AGAIN, make_trials
from unplateau.files import write_json
from unplateau.reports import summary, write_report
from unplateau.training.recipe import Recipe
from unplateau.types import COSTS, Epoch, Interval, Remedy

NO_FAULTS = Faults((), ())

DOCS = Path(__file__).resolve().parents[1] / "docs" / "diagnosis_json.md"

NAMES = {
    "move-threshold",
    "train-longer",
    "rebalance",
    "more-data",
    "relabel",
    "finer-resolution",
    "stronger-decoder",
    "larger-extractor",
    "richer-pretraining",
    "more-context",
}

KINDS = {
    "usual": {},
    "candidate": {"candidate": "resnet18", "scores": {CANDIDATE: 0.85, UNTRAINED: 0.5}},
    "bounded baseline": {"baseline": "reach-9"},
    "nothing learnt": {"scores": dict.fromkeys(("colour", "texture", "contour", "context"), 0.2)},
    "perfect": {"scores": {"texture": 0.99, "context": 1.0, "contour": 0.99, HALF_STEPS: 1.0}},
    "few groups": {"groups": 4, "folds": 2},
}


def judged(kind: str) -> tuple[Run, Measurements]:
    run = made_run(**KINDS[kind])
    return run, measure_all(run, NO_FAULTS)


def remedies_of(run: Run, measured: Measurements) -> tuple[Remedy, ...]:
    return find_remedies(consider_remedies(run, measured))


def written(kind: str) -> dict:
    return document(*judged(kind), (), path="somewhere", version="0", seconds=12.34)


# ---- the order of remedies -----------------------------------------------------------------------------------


def remedy(name: str, gain: float, cost: str = COSTS[0]) -> Remedy:
    return Remedy(name, Interval(gain, gain - 0.01, gain + 0.01), cost, ("Measured.",))


def order(*remedies: Remedy) -> list[str]:
    return [each.name for each in rank(list(remedies))]


def test_the_largest_gain_comes_first():
    assert order(remedy("a", 0.02), remedy("b", 0.20), remedy("c", 0.10)) == ["b", "c", "a"]


def test_of_gains_that_tie_the_cheapest_comes_first():
    dear, cheap = remedy("dear", 0.10, "new data"), remedy("cheap", 0.10 - TIE / 2, "minutes")
    assert order(dear, cheap) == order(cheap, dear) == ["cheap", "dear"]


def test_of_gains_that_tie_one_that_surely_gains_comes_before_one_that_may_add_nothing():
    sure = remedy("sure", 0.10, "new data")
    unsure = replace(remedy("unsure", 0.10, "minutes"), gain=Interval(0.10, -0.01, 0.2))
    assert order(unsure, sure) == ["sure", "unsure"]


def test_of_gains_that_may_be_nothing_the_larger_comes_first_whatever_it_costs():
    dear, cheap = (replace(remedy(name, 0.1, cost), gain=Interval(gain, -0.05, 0.2)) for name, cost, gain in (
        ("dear", "new data", 0.10), ("cheap", "minutes", 0.09)))  # fmt: skip
    assert order(cheap, dear) == ["dear", "cheap"]


def test_no_training_is_told_to_add_more_than_the_model_lacks():
    run = made_run({"context": 0.9}, groups=40)
    worse = made_run({"context": 0.6}, groups=40).outcomes["context"]
    trials = make_trials("unet", "linear", math.inf, Recipe(), frozen=False)
    beside = {trial.name: run.outcomes[run.plan.baseline] for trial in trials} | {AGAIN: worse}
    given = changed(replace(run, plan=replace(run.plan, trials=trials, given=True)), **beside)
    considered = consider_remedies(given, measure_all(given, Faults((), ())))
    assert max(each.gain.mean for each in considered) == pytest.approx(0.1, abs=0.01), "of .15 beside both seeds"
    told = calibrated(considered, given)
    assert all(each.gain.high <= 0.11 for each in told if each.name in SINGLE)


def test_a_cheap_remedy_does_not_pass_one_that_gains_clearly_more():
    assert order(remedy("dear", 0.10, "new data"), remedy("cheap", 0.10 - 2 * TIE, "minutes")) == ["dear", "cheap"]


def test_of_gains_and_costs_that_tie_the_larger_gain_comes_first():
    assert order(remedy("less", 0.10), remedy("more", 0.11)) == ["more", "less"]


def test_ties_are_counted_from_the_best_that_is_left():
    chain = [remedy("a", 0.10, "new data"), remedy("b", 0.085, "more compute"), remedy("c", 0.07, "minutes")]
    assert order(*chain) == ["b", "a", "c"]
    assert order() == []


# ---- which remedies ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_remedy_that_is_listed_is_worth_it_and_explains_itself(kind):
    for each in remedies_of(*judged(kind)):
        assert each.name in NAMES
        assert each.cost in COSTS
        assert each.gain.mean >= WORTH
        assert worth_listing(each.gain)
        assert each.evidence
        assert all(sentence.endswith(".") and "nan" not in sentence for sentence in each.evidence)


@pytest.mark.parametrize(
    ("gain", "listed"),
    [
        (Interval(0.08, 0.06, 0.10), True),
        (Interval(0.04, -0.01, 0.09), True),
        (Interval(0.05, -0.11, 0.16), True),
        (Interval(0.03, -0.16, 0.16), False),
        (Interval(0.005, 0.004, 0.006), False),
        (Interval(-0.03, -0.05, -0.01), False),
    ],
)
def test_a_gain_is_listed_when_it_matters_and_is_likelier_there_than_not(gain, listed):
    assert worth_listing(gain) is listed


def names(run: Run) -> list[str]:
    return [each.name for each in remedies_of(run, measure_all(run, NO_FAULTS))]


def test_a_better_candidate_is_the_remedy():
    run, measured = judged("candidate")
    first = remedies_of(run, measured)[0]
    assert first.name == "richer-pretraining"
    assert first.gain.mean == pytest.approx(0.15, abs=0.01)


def test_a_candidate_no_better_than_scratch_is_none():
    assert "richer-pretraining" not in names(made_run(candidate="resnet18", scores={CANDIDATE: 0.70}))


def test_a_baseline_that_sees_too_little_needs_more_context():
    remedies = remedies_of(*judged("bounded baseline"))
    assert remedies[0].name == "more-context"
    assert remedies[0].gain.mean == pytest.approx(0.2, abs=0.02)
    assert "sees 9 pixels" in remedies[0].evidence[0]


def short_sighted(trial: float, context: float) -> Run:
    """A given model of reach 9 that scores .50; one that sees all, trained by its recipe, and the rung that does."""
    bare = made_run({"baseline": 0.50, "context": context}, baseline="reach-9", folds=1)
    scored = made_run({"context": trial}, folds=1)
    (more,) = (t for t in make_trials("reach-9", "linear", 9, Recipe(), frozen=False) if t.remedy == "more-context")
    return changed(
        replace(bare, plan=replace(bare.plan, trials=(more,), given=True)), **{more.name: scored.outcomes["context"]}
    )


def test_a_trial_of_more_context_that_the_ladder_contradicts_may_do_either():
    run = short_sighted(trial=0.50, context=0.85)
    (found,) = (each for each in consider_remedies(run, measure_all(run, NO_FAULTS)) if each.name == "more-context")
    near = max(run.reading(rung.name).mean for rung in run.plan.rungs if rung.kind == "rung" and rung.reach <= 9)
    assert found.gain.mean == pytest.approx((0.0 + 0.85 - near) / 2, abs=0.02)
    assert found.gain.low < 0 < 0.85 - near < found.gain.high
    assert "scores 0.85" in found.evidence[1]
    assert [each.gain for each in calibrated((found,), run)] == [found.gain]


@pytest.mark.parametrize(("trial", "context"), [(0.82, 0.85), (0.85, 0.60), (0.5, 0.5)])
def test_a_trial_of_more_context_that_the_ladder_bears_out_stands_alone(trial, context):
    run = short_sighted(trial, context)
    (found,) = (each for each in consider_remedies(run, measure_all(run, NO_FAULTS)) if each.name == "more-context")
    assert found.gain.mean == pytest.approx(trial - 0.5, abs=0.03)
    assert len(found.evidence) == 1


def test_a_baseline_that_sees_everything_never_needs_more_context():
    assert "more-context" not in names(made_run())
    assert "more-context" not in names(made_run(baseline="resnet18"))


def test_a_run_that_half_the_steps_would_do_for_needs_no_more_of_them():
    assert "train-longer" in names(made_run({HALF_STEPS: 0.55}))
    assert "train-longer" not in names(made_run({HALF_STEPS: 0.70}))


def test_a_steep_learning_curve_asks_for_data_and_a_flat_one_does_not():
    assert "more-data" in names(made_run({"data-0.25": 0.4, "data-0.5": 0.55}))
    assert "more-data" not in names(made_run({"data-0.25": 0.7, "data-0.5": 0.7}))


def test_a_threshold_chosen_wrongly_is_moved():
    run = made_run()
    wrong = tuple(replace(each, inner=table(np.full(len(each.inner), 0.7), cut=0.2)) for each in run.outcomes[CONTEXT])
    assert names(changed(run, context=wrong))[0] == "move-threshold"
    assert "move-threshold" not in names(run)


# ---- what is said --------------------------------------------------------------------------------------------


def sentences(text: str) -> list[str]:
    return re.findall(r"[A-Z].*?\.(?=\s+[A-Z]|$)", text)


@pytest.mark.parametrize("kind", KINDS)
def test_the_verdict_is_two_sentences_without_missing_numbers(kind):
    run, measured = judged(kind)
    said = say(run, measured, remedies_of(run, measured))
    assert len(sentences(said)) == 2, said
    assert said.startswith("The baseline stops at IoU ")
    assert "nan" not in said


@pytest.mark.parametrize(("kind", "few"), [("few groups", True), ("usual", False)])
def test_the_verdict_says_when_too_few_groups_report(kind, few):
    run, measured = judged(kind)
    said = say(run, measured, remedies_of(run, measured))
    assert ("on 4 groups, too few to be sure of anything" in said) == few


def test_the_verdict_names_the_first_remedy_or_none():
    run, measured = judged("candidate")
    remedies = remedies_of(run, measured)
    assert f"First remedy: {remedies[0].name}" in say(run, measured, remedies)
    assert say(run, measured, ()).endswith("Nothing measured here would lift it.")


@pytest.mark.parametrize("kind", KINDS)
def test_the_scale_table_answers_the_five_questions_in_order(kind):
    rows = scale_table(*judged(kind))
    assert [row.question for row in rows] == ["data", "labels", "model", "pretraining", "bug"]
    assert {row.answer for row in rows} <= {"yes", "no", "undetermined"}
    assert all(row.number.endswith((".", "`.")) and "nan" not in row.number for row in rows)


def answers(run: Run) -> dict[str, str]:
    return {row.question: row.answer for row in scale_table(run, measure_all(run, NO_FAULTS))}


def test_pretraining_is_yes_no_or_undetermined_by_the_candidate():
    def answer(score: float) -> str:
        return answers(made_run(candidate="resnet18", scores={CANDIDATE: score}))["pretraining"]

    assert (answer(0.85), answer(0.60), answers(made_run())["pretraining"]) == ("yes", "no", "undetermined")


def test_a_group_in_two_splits_is_a_bug():
    run = made_run()
    leaky = replace(run.pictures, warnings=("2 groups appear in more than one split, so its scores flatter: a.",))
    assert answers(replace(run, pictures=leaky))["bug"] == "yes"
    assert answers(run)["bug"] == "undetermined"


def test_a_model_that_fits_what_it_saw_is_large_enough():
    assert answers(made_run(seen=0.95))["model"] == "no"
    assert answers(made_run(seen=0.70))["model"] == "undetermined"


# ---- diagnosis.json ------------------------------------------------------------------------------------------


def documented() -> set[str]:
    rows = re.findall(r"^\| `(\w+)(?:\[\])?` \|", DOCS.read_text(), re.M)
    return set(rows)


@pytest.mark.parametrize("kind", KINDS)
def test_a_diagnosis_has_exactly_the_keys_that_are_documented(kind):
    assert set(written(kind)) == documented()


def named_in(key: str) -> set[str]:
    (row,) = re.findall(rf"^\| `{key}(?:\[\])?` \| (.*) \|$", DOCS.read_text(), re.M)
    return set(re.findall(r"`(\w+)(?:\[\])?`", row))


@pytest.mark.parametrize("key", ["data", "setup", "baseline", "families", "comparisons", "operating_point"])
def test_each_part_has_the_keys_that_are_documented(key):
    assert set(written("usual")[key]) == named_in(key)


@pytest.mark.parametrize("key", ["remedies", "waterfall", "ladder", "scale", "findings"])
def test_each_row_has_the_keys_that_are_documented(key):
    rows = written("candidate")[key]
    assert rows
    assert all(set(row) <= named_in(key) | {"gain", "iou"} for row in rows)
    assert all(set(row) == set(rows[0]) for row in rows)


def test_each_evaluation_has_the_fields_of_an_epoch():
    epochs = written("usual")["baseline"]["epochs"]
    assert epochs
    assert all(set(each) == set(Epoch.__dataclass_fields__) for each in epochs)


@pytest.mark.parametrize("kind", KINDS)
def test_a_diagnosis_is_json_without_a_number_that_does_not_exist(kind):
    text = json.dumps(written(kind), allow_nan=False)
    assert json.loads(text) == json.loads(json.dumps(written(kind)))


@pytest.mark.parametrize("kind", KINDS)
def test_the_waterfall_goes_from_zero_to_one_without_a_gap(kind):
    rows = written(kind)["waterfall"]
    place = 0.0
    for row in rows:
        assert row["start"] == pytest.approx(place, abs=1e-12)
        place += row["gain"]["mean"]
    assert place == pytest.approx(1)
    assert [row["kind"] for row in rows] == sorted(row["kind"] for row in rows)


def test_the_waterfall_of_a_given_model_passes_through_what_it_scores():
    run = made_run({"context": 0.5, "baseline": 0.8}, baseline="resnet18")
    given = replace(
        run,
        plan=replace(run.plan, trials=make_trials("resnet18", "unet", math.inf, Recipe(), frozen=False), given=True),
    )
    rows = _waterfall(given, measure_all(given, Faults((), ())))
    own = next(row for row in rows if row["name"] == OWN)
    assert own["start"] + own["gain"].mean == pytest.approx(given.reading("baseline").mean)
    assert sum(row["gain"].mean for row in rows) == pytest.approx(1)


def test_what_is_missing_is_never_claimed_twice():
    rows = {row["name"]: row["gain"]["mean"] for row in written("perfect")["waterfall"]}
    assert all(math.isfinite(gain) for gain in rows.values())
    assert sum(rows.values()) == pytest.approx(1)


def test_the_threshold_of_the_baseline_is_the_one_it_is_scored_at():
    content = document(*judged("usual"), (), path="", version="", seconds=0)
    assert content["baseline"]["threshold"] == content["operating_point"]["chosen"]


def test_the_law_is_in_groups_and_passes_near_its_points():
    content = written("usual")["learning_curve"]
    law = content["law"]
    for point in content["points"]:
        wanted = law["ceiling"] - law["scale"] * point["groups"] ** -law["exponent"]
        assert wanted == pytest.approx(point["iou"]["mean"], abs=0.02)


def test_every_finding_is_there_once_in_the_order_of_the_checks():
    run = made_run()
    assert [each.check for each in measure_all(run, find_faults(run)).findings] == list(CHECKS)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_run_gives_the_same_document(kind):
    assert written(kind) == written(kind)


# ---- the page ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["candidate", "nothing learnt"])
def test_the_report_draws_what_the_diagnosis_wrote(kind, tmp_path):
    content = written(kind)
    write_json(tmp_path / "diagnosis.json", content)
    page = write_report(tmp_path / "diagnosis.json").read_text()
    for each in content["remedies"]:
        assert each["name"] in page
    assert content["verdict"].partition(",")[0] in page
    assert "nan" not in re.sub(r"<[^>]*>", " ", page).split()
    summary(content)


def with_maps(run: Run) -> Run:
    height, width = run.pictures.size
    made = [
        replace(each, maps=np.full((len(fold.report), height, width), 150, np.uint8))
        for each, fold in zip(run.outcomes[CONTEXT], run.folds, strict=True)
    ]
    return changed(run, context=tuple(made))


def test_the_worst_images_come_worst_first_and_few_of_a_group(tmp_path):
    run = with_maps(made_run(noise=0.1))
    worst = draw_worst(run, tmp_path)
    scores = [each.iou for each in worst]
    groups = [run.pictures.groups[run.pictures.names.index(each.name)] for each in worst]
    assert scores == sorted(scores)
    assert len(worst) == COUNT
    assert max(groups.count(group) for group in groups) <= OF_ONE_GROUP
    assert all((tmp_path / each.file).is_file() for each in worst)


def test_an_overlay_shows_hits_misses_and_what_is_spurious_in_different_colours():
    from io import BytesIO

    from PIL import Image

    image, mask = np.full((3, 4, 4), 128, np.uint8), np.array([[0, 1, 0, 1]] * 4, np.uint8)
    answer = np.array([[0, 0, 200, 200]] * 4, np.uint8)
    mask[3] = 255
    drawn = np.asarray(Image.open(BytesIO(overlay(image, mask, answer, 0.5))))[::2, ::2]
    plain, missed, spurious, hit = drawn[0].tolist()
    assert len({tuple(each) for each in (plain, missed, spurious, hit)}) == 4
    assert len(set(plain)) == 1
    assert (hit[1], spurious[0], missed[2]) == (max(hit), max(spurious), max(missed))
    assert all(len(set(pixel)) == 1 for pixel in drawn[3].tolist())
