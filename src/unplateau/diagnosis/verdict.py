"""From measurements to remedies, best first, and to the verdict in two sentences."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from unplateau.checks.check import UNMEASURED
from unplateau.diagnosis.diagnose import Measurements
from unplateau.diagnosis.faults import INVALID
from unplateau.diagnosis.inferred import by_heart, rough_contours, unlearnt
from unplateau.diagnosis.repairs import Fault, remedy_of
from unplateau.diagnosis.repairs import tried as tried_repair
from unplateau.diagnosis.settling import (
    FEWEST,
    candidate_gain,
    contested_gain,
    repair_gain,
    trial_gain,
    tried,
)
from unplateau.diagnosis.task import alone, context_gain, told_by, wider
from unplateau.experiments.gains import TIE, WIDER, of_trial, over_seeds, widened, worth_listing
from unplateau.experiments.plan import CANDIDATE, CONTEXT, UNTRAINED
from unplateau.experiments.run import Run
from unplateau.experiments.trials import AGAIN, FINER, LONGER, OF_SIZE, Trial
from unplateau.types import COSTS, Interval, Remedy, Verdict

ALL = 0.95
"""Share from which a family decides "nearly all": the others may come out slightly negative, and it above one."""

OF_LABELS = ("relabel", "fix-pairing")
"""Remedies that put labels right."""

SINGLE = (
    "train-longer",
    "more-data",
    "rebalance",
    "stronger-decoder",
    "larger-extractor",
    "more-context",
    "richer-pretraining",
    "fix-training",
    "fix-normalisation",
)
"""Remedies whose gain rests on one training beside another."""

ON_OTHERS = math.sqrt(2)
"""How many times as wide the interval of a threshold's gain is on as many other images as on those that measured it:
both have the chance of their images.
"""

AT_LEAST = 0.01
"""IoU by which a threshold's gain on other images may differ however alike those are that measured it."""

BY_HEART = "Few unrelated images train: the gain is inferred from how much better it does on those."

BUGS = ("alignment", "class index", "leaks", "metric", "one-batch overfit", "shuffled labels", "normalisation")
"""Checks whose concern is a bug, not a property of the data."""


@dataclass(frozen=True)
class ScaleAnswer:
    """One row of the "is it scale?" table. `answer` is "yes", "no" or "undetermined"."""

    question: str
    answer: str
    number: str
    gain: Interval | None = None


def consider_remedies(run: Run, measured: Measurements) -> tuple[Remedy, ...]:
    """Every remedy whose gain this run can tell, also where it is nothing, largest gain first."""
    repairs = [_repair(run, fault) for fault in measured.faults.faults]
    if any(repair.name in OF_LABELS for repair in repairs) and unlearnt(run):
        # From masks of which nothing is learnt no other change learns anything either: that says nothing of it.
        return tuple(repairs)
    candidates = [
        *repairs,
        *_beside_trainings(run, measured),
        _move_threshold(run, measured),
        _finer_resolution(run, measured),
    ]
    found = [remedy for remedy in candidates if remedy]
    rough = rough_contours(run, measured, max((each.gain.mean for each in found), default=0.0))
    if rough:
        found = [rough, *(each for each in found if each.name != rough.name)]
    return tuple(sorted((_at_most(run, each) for each in found), key=lambda remedy: -remedy.gain.mean))


def _at_most(run: Run, remedy: Remedy) -> Remedy:
    """The remedy with no more gain than the model in question lacks: a training beside it may have begun lower."""
    if remedy.name not in SINGLE:
        return remedy
    room = 1 - run.reading(run.plan.baseline).mean
    gain = remedy.gain
    return replace(remedy, gain=Interval(*(min(end, room) for end in (gain.mean, gain.low, gain.high))))


def _beside_trainings(run: Run, measured: Measurements) -> list[Remedy | None]:
    """The remedies that are told by trainings beside the baseline's, each on the folds that have these."""
    told = {name: run.shared(names) for name, names in told_by(run.plan).items()}
    return [
        _richer_pretraining(told["richer-pretraining"], measured),
        None if run.plan.given else _more_context(told["more-context"], measured),
        _more_data(told["more-data"], measured),
        _train_longer(told["train-longer"], measured),
        *(_tried(told[trial.remedy], trial) for trial in tried(run)),
    ]


def find_remedies(considered: tuple[Remedy, ...]) -> tuple[Remedy, ...]:
    """Those that would lift the IoU, best first. A gain that is surely nothing, or below `WORTH`, is left out."""
    return rank([each for each in considered if each.name in INVALID or worth_listing(each.gain)])


def calibrated(remedies: tuple[Remedy, ...], run: Run) -> tuple[Remedy, ...]:
    """The remedies as they are told: what single trainings measured, as wide as the truth has found it to be off, and a
    threshold as wide as on other images.

    What is listed, and in which order, is decided before: a wide interval is no reason to keep a gain back.
    """
    times = {name: (WIDER, 0.0) for name in _single(run) if alone(run, name)}
    if len(run.folds) == 1:
        times["move-threshold"] = (ON_OTHERS, AT_LEAST)
    wide = (
        replace(each, gain=widened(each.gain, *times[each.name])) if each.name in times else each for each in remedies
    )
    return tuple(_at_most(run, each) for each in wide)


def _single(run: Run) -> set[str]:
    """What one training beside another tells, but what two contradict each other about: that is as wide as both."""
    contested = {trial.remedy for trial in tried(run) if contested_gain(run, trial)}
    return {*SINGLE, *([FINER] if run.trial(FINER) else [])} - contested


def rank(remedies: list[Remedy]) -> tuple[Remedy, ...]:
    """By gain, best first; of those within `TIE` of the best that is left that surely gain, the cheapest first.

    What may add nothing is no cheaper for it, so that there the larger gain decides. What makes the number itself wrong
    comes before all: no other gain can be believed until it is put right.
    """
    ranked = [remedy for remedy in remedies if remedy.name in INVALID]
    left = sorted((each for each in remedies if each.name not in INVALID), key=lambda remedy: -remedy.gain.mean)
    while left:
        sure = [remedy for remedy in left if remedy.gain.mean >= left[0].gain.mean - TIE and remedy.gain.low > 0]
        first = min(sure, key=lambda remedy: (COSTS.index(remedy.cost), -remedy.gain.mean)) if sure else left[0]
        ranked.append(first)
        left.remove(first)
    return tuple(ranked)


def say(run: Run, measured: Measurements, remedies: tuple[Remedy, ...]) -> str:
    """Two sentences: where it stands and on what, and what to do about it; then what could not be told."""
    baseline = run.reading(run.plan.baseline)
    groups = f"{run.units} group{'s' if run.units > 1 else ''}"
    few = f" on {groups}, too few to be sure of anything" if run.units < FEWEST else ""
    where = f"The baseline stops at IoU {baseline:.2f}{few}, {_why(measured)}."
    return f"{where} {_what(run, remedies)}{_untold(run, measured)}"


def _untold(run: Run, measured: Measurements) -> str:
    if len(run.outcomes) == 1:
        return " What a training would have to tell was not measured: no training."
    return "" if measured.ladder else " That comes first whatever else there is, so the rest was not measured."


def scale_table(run: Run, measured: Measurements) -> tuple[ScaleAnswer, ...]:
    """The essay's four kinds of scale, and the bug."""
    return (
        _data(measured),
        _labels(run, measured),
        _model(run, measured),
        _pretraining(run, measured),
        _bug(run, measured),
    )


def _richer_pretraining(run: Run, measured: Measurements) -> Remedy | None:
    gain = candidate_gain(run)
    if gain is not None:
        # Who asks about a model of his own wants to know what it would gain.
        beside = f"The model in question scores {run.reading(run.plan.baseline):.3f}."
    elif measured.ladder is not None and measured.ladder.pretraining is not None:
        gain = over_seeds(measured.ladder.pretraining, run)
        beside = f"The best model trained from scratch scores {measured.ladder.scratch:.3f}."
    else:
        return None
    evidence = (
        f"The candidate, frozen under a light decoder, scores {run.reading(CANDIDATE):.3f}.",
        f"The same network with random weights scores {run.reading(UNTRAINED):.3f}.",
        beside,
    )
    return Remedy("richer-pretraining", gain, "one training run", evidence)


def _more_context(run: Run, measured: Measurements) -> Remedy | None:
    baseline = run.plan.rung(run.plan.baseline)
    if math.isinf(baseline.reach) or measured.ladder is None:
        return None
    evidence = (
        f"The baseline sees {baseline.reach:.0f} pixels and scores {run.reading(run.plan.baseline):.3f}.",
        f"The same network that sees more scores {run.resampler.interval(run.chosen(wider(run))):.3f}.",
    )
    return Remedy("more-context", context_gain(run), "one training run", evidence)


def _more_data(run: Run, measured: Measurements) -> Remedy | None:
    data, inferred = measured.data, by_heart(measured)
    if data is None:
        return Remedy("more-data", over_seeds(inferred, run), "new data", (BY_HEART,)) if inferred else None
    counts = ", ".join(f"{point.iou.mean:.3f} with {point.groups:.0f} groups" for point in data.points)
    fourfold = f"Four times the data is predicted to add {data.gains['4x']:+.3f}; this row is for twice the data."
    gain, evidence = data.gains["2x"], [f"Measured: {counts}.", fourfold]
    if inferred and inferred.mean > gain.mean:
        gain = inferred
        evidence.append(BY_HEART)
    return Remedy("more-data", over_seeds(gain, run), "new data", tuple(evidence))


def _train_longer(run: Run, measured: Measurements) -> Remedy | None:
    curve = measured.curve
    if curve.twice_gain is None:
        return None
    if curve.tried:
        trial = run.trial(LONGER)
        twice = trial is not None and trial.again in run.outcomes
        evidence = f"Trained {'twice, from two seeds,' if twice else 'once'} for {curve.tried} steps."
    else:
        evidence = f"Half the steps score {curve.half:.3f}; the gain is for twice the steps."
    return Remedy(LONGER, over_seeds(curve.twice_gain, run, run.trial(LONGER)), "one training run", (evidence,))


def _move_threshold(run: Run, measured: Measurements) -> Remedy | None:
    operating = measured.operating
    if not operating.thresholds:
        return None
    evidence = f"The best threshold is {operating.best:.2f}, the chosen one {operating.chosen:.2f} on average"
    evidence += ", on the masks as they came." if operating.native else "."
    return Remedy("move-threshold", operating.regret, "minutes", (evidence,))


def _finer_resolution(run: Run, measured: Measurements) -> Remedy | None:
    height, width = run.pictures.size
    if run.answered or min(run.pictures.native) <= min(height, width):
        return None
    resolution = measured.resolution
    evidence = (
        f"A perfect answer on the {height} x {width} grid scores {resolution.by_stride[1]:.3f} at native size, "
        f"on twice the grid {resolution.finer:.3f}."
    )
    if run.trial(FINER):
        trained = "Trained once on twice the grid; the gain is that of the IoU at native size."
        return Remedy(FINER, over_seeds(resolution.gain, run), "more compute", (evidence, trained))
    return Remedy(FINER, resolution.gain, "more compute", (evidence,))


def _repair(run: Run, fault: Fault) -> Remedy:
    gain = repair_gain(run, fault)
    if fault.remedy == "fix-pairing":
        gain = unlearnt(run) or gain
    elif fault.there and fault.trained and gain.low <= 0:
        gain = unlearnt(run, tried_repair(fault)) or gain
    return replace(remedy_of(run, fault), gain=gain)


def _tried(run: Run, trial: Trial) -> Remedy:
    baseline = run.plan.rung(run.plan.baseline)
    pieces = f"{trial.extractor} with decoder {trial.decoder}"
    if (trial.extractor, trial.decoder) == (baseline.extractor, baseline.decoder):
        pieces = f"the same pieces with class weights {trial.recipe.class_weights!r} and a Dice term"
    how = "twice, from two seeds," if trial.again in run.outcomes else "once"
    evidence = f"Trained {how} so: {pieces} scores {run.resampler.interval(of_trial(run, trial)):.3f}, the model in "
    evidence += f"question {_as_tried(run)}{_rehearsed(run)}{_fairly(run)}."
    if contested := contested_gain(run, trial):
        also = f"The rung that sees the whole image, trained by another recipe, scores {run.reading(CONTEXT):.3f}: "
        also += "such a network sometimes learns what it needs and sometimes not. The gain lies between the two."
        return Remedy(trial.remedy, contested, "one training run", (evidence, also))
    return Remedy(trial.remedy, trial_gain(run, trial), "one training run", (evidence,))


def _as_tried(run: Run) -> str:
    """What the model in question scores beside its trials, and from another seed."""
    read = run.resampler
    again = f" (from another seed {read.mean(run.fairly(AGAIN)):.3f})" if AGAIN in run.outcomes else ""
    return f"{read.interval(run.fairly(run.plan.control)):.3f}{again}"


def _fairly(run: Run) -> str:
    return ", each group at the threshold that others choose" if run.crossfits else ""


def _rehearsed(run: Run) -> str:
    return f", each after {run.plan.rehearsal.steps} steps" if run.plan.rehearsal else ""


def _why(measured: Measurements) -> str:
    """What the ladder says of the task, and of the baseline where a smaller view does better."""
    ladder = measured.ladder
    if ladder is None:
        return "and which family of characteristics decides was not measured"
    if not any(math.isfinite(share.mean) for share in ladder.families.values()):
        return "where no single family of characteristics was found to decide"
    family = max(ladder.families, key=lambda name: ladder.families[name].mean)
    part = ladder.families[family].mean
    share = (
        f"where {family} evidence decides {f'{part:.0%} of' if part < ALL else 'nearly all of'} what needs one family"
    )
    shortfall = ladder.baseline_shortfall
    if shortfall.low > 0 and shortfall.mean >= TIE:
        return f"{share}, and a model that sees less scores {shortfall.mean:.2f} more: it overfits what it sees"
    return share


def _what(run: Run, remedies: tuple[Remedy, ...]) -> str:
    if not remedies and unlearnt(run):
        return "No training here learns more than where the class lies, so none tells what would lift it."
    if not remedies:
        return "Nothing measured here would lift it."
    first = remedies[0]
    if first.name in INVALID:
        return f"First remedy: {first.name}: the number is off by {-first.gain.mean:+.2f} until then."
    sure = "is predicted to add" if first.gain.low > 0 else "may add"
    return f"First remedy: {first.name}, which {sure} {first.gain:+.2f} IoU (90 % interval; cost: {first.cost})."


def _data(measured: Measurements) -> ScaleAnswer:
    """From the learning curve; where none was drawn, from what is known by heart."""
    found, inferred = measured.finding("data scale"), by_heart(measured)
    if measured.data is None and inferred:
        return ScaleAnswer("data", worth_it(inferred), BY_HEART, inferred)
    return ScaleAnswer("data", _answer(found.verdict), found.claim, found.gain)


def _labels(run: Run, measured: Measurements) -> ScaleAnswer:
    """Yes where mending masks surely gains; no when contours allow more and no object is found missing."""
    faults = [fault for fault in measured.faults.faults if fault.remedy in OF_LABELS]
    if faults:
        gain = repair_gain(run, faults[0])
        return ScaleAnswer("labels", "yes" if gain.low > 0 else "undetermined", faults[0].claim, gain)
    ceiling = measured.finding("label ceiling")
    doubted = [each for each in measured.faults.findings if each.check == "labels" and each.verdict is Verdict.CONCERN]
    if doubted:  # with no training on repaired masks there is no gain to tell
        return ScaleAnswer("labels", "undetermined", doubted[0].claim)
    looked = [finding.verdict for finding in measured.faults.findings if finding.check == "labels"]
    sound = ceiling.verdict is Verdict.SOUND and looked == [Verdict.SOUND]
    return ScaleAnswer("labels", "no" if sound else "undetermined", ceiling.claim)


def _model(run: Run, measured: Measurements) -> ScaleAnswer:
    """From larger pieces where they were tried, else from what the baseline makes of images it has seen."""
    gains = {trial.remedy: trial_gain(run, trial) for trial in tried(run) if trial.remedy in OF_SIZE}
    capacity = measured.finding("capacity")
    if not gains:
        return ScaleAnswer("model", "no" if capacity.verdict is Verdict.SOUND else "undetermined", capacity.claim)
    name = max(gains, key=lambda each: gains[each].mean)
    said = ", ".join(f"{each} {gain:+.3f}" for each, gain in gains.items())
    return ScaleAnswer("model", worth_it(gains[name]), f"Tried once each: {said}.", gains[name])


def worth_it(gain: Interval) -> str:
    """Whether a gain is surely there and worth it, surely not, or neither."""
    return "yes" if gain.low > 0 and gain.mean >= TIE else "no" if gain.high < TIE else "undetermined"


def _pretraining(run: Run, measured: Measurements) -> ScaleAnswer:
    own = candidate_gain(run)
    if own is not None:
        said = f"The candidate is {own:+.3f} against the model in question."
        return ScaleAnswer("pretraining", worth_it(own), said, own)
    if measured.ladder is None:
        return ScaleAnswer("pretraining", "undetermined", UNMEASURED)
    gain = measured.ladder.pretraining
    if gain is None:
        why = "No pretrained candidate was given: name one with `extractor`."
        return ScaleAnswer("pretraining", "undetermined", why)
    return ScaleAnswer(
        "pretraining", worth_it(gain), f"The candidate is {gain:+.3f} against the best from scratch.", gain
    )


def _bug(run: Run, measured: Measurements) -> ScaleAnswer:
    found = [warning for warning in run.pictures.warnings if "more than one split" in warning]
    found += [each.claim for each in measured.faults.findings if each.verdict is Verdict.CONCERN and each.check in BUGS]
    if found:
        return ScaleAnswer("bug", "yes", " ".join(found))
    asked = [each for each in measured.faults.findings if each.claim != UNMEASURED]
    silent = [each.check for each in asked if each.verdict is Verdict.UNDETERMINED]
    sound = [each.check for each in measured.faults.findings if each.verdict is Verdict.SOUND]
    said = f"In order: files, sizes, encodings{''.join(f', {name}' for name in sound)}."
    said += f" Could not be told: {', '.join(silent)}." if silent else ""
    return ScaleAnswer("bug", "undetermined" if len(silent) >= len(sound) else "no", said)


def _answer(verdict: Verdict) -> str:
    return {Verdict.CONCERN: "yes", Verdict.SOUND: "no", Verdict.UNDETERMINED: "undetermined"}[verdict]
