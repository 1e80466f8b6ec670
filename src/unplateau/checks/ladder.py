"""Which family decides: the same small network trained again and again, differing only in what it may see."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from unplateau.checks.check import AbstractCheck, unmeasured
from unplateau.experiments.choosing import BY_AREA, BY_IOU, INSIDE, Reading
from unplateau.experiments.plan import CANDIDATE, CONTEXT, CONTOUR, UNTRAINED, WHOLE, RungPlan
from unplateau.experiments.run import Run, Score, Sums
from unplateau.measures.intervals import Draws, interval
from unplateau.measures.thresholds import iou, net_area
from unplateau.types import Finding, Interval, Rung, Verdict

PRIOR = "prior"
FAMILIES = ("textural", "geometric", "semantic")
EITHER = "texture or shape alike"
NEEDED = 0.02
"""IoU below which what all families together are needed for is noise: two seeds differ by as much."""
LOCAL_SHARE = 0.95
"""A task is local when rungs of at most half an object attain this share of the best rung."""


@dataclass(frozen=True)
class LadderMeasured:
    """The rungs from least to most that may be seen, then the controls; what the families add; two comparisons.

    `gains` are what is lost without each family in IoU, and what either texture or shape could give (`EITHER`);
    `families` are the shares of what is lost in area (`net_area`), which adds where the IoU does not, each rung read at
    the threshold and chosen by the net area that it has on the inner images.
    `local` is the best rung of reach up to half an object, `local_to_context` the step from it to the best rung
    trained from scratch, `pretraining` the step from that one to the candidate (None without a candidate), and
    `baseline_shortfall` what the best model that sees less than the baseline scores more than it.
    """

    rungs: tuple[Rung, ...]
    families: dict[str, Interval]
    gains: dict[str, Interval]
    local: Interval
    attainable: Interval
    local_share: Interval
    local_to_context: Interval
    scratch: Interval
    pretraining: Interval | None
    baseline_shortfall: Interval


@final
class LadderCheck(AbstractCheck[LadderMeasured | None]):
    """Where the IoU comes from, rung by rung.

    What it measures: the IoU of networks of equal make trained from scratch on position, colour, orderless texture,
        ordered structure up to the whole of an object and beyond, the whole image, and, with a candidate, on a frozen
        pretrained extractor; a contour map is the control for shape without appearance. Each threshold is chosen on
        inner images. "Attainable" up to a rung is what the rung that the inner images prefer scores on others.
        A family's demand is what is lost without it: texture by what the outlines alone fall short of both, shape by
        what colour and orderless texture fall short of both, context and pretraining by what they add to both. What
        either texture or shape could give alone needs neither; where one of them is needed, what either could give
        counts with it, up to as much again: of the IoU what goes beyond the pixel's own colour, of the area all. The
        shares are of area, at thresholds of their own.

    Why it matters: an extractor that lacks the family that decides cannot be helped by losses, sampling or longer
        training.

    When it misleads: with few groups a longer reach overfits and scores lower; a rung may need more steps than it was
        given; the orderless rung still counts corners, so some shape leaks into texture; outlines fainter than the
        grain around them are not drawn, and what they tell counts as texture.

    What to do next: take the extractor with the reach, or the pretraining, of the rung that gains most.

    Reference: bounded reach, Brendel and Bethge, arXiv 1904.00760; dropping a group of features and retraining,
        Lei et al., arXiv 1604.04173.
    """

    def measure(self, run: Run) -> LadderMeasured | None:
        """All rungs, families and comparisons with paired intervals; None where the ladder was not climbed."""
        if not climbed(run):
            return None
        run = run.shared(run.plan.ladder)
        scratch = [rung for rung in run.plan.rungs if rung.kind in ("rung", "baseline")]
        everything = [rung for rung in run.plan.rungs if rung.kind != "control"]
        half = [rung.name for rung in scratch if rung.reach <= max(run.diameter / 2, 1)]
        local, best = run.chosen([PRIOR, *half]), run.chosen([rung.name for rung in everything])
        # Where the inner images could not tell, the better of the chosen rung and the baseline is what a candidate has
        # to beat: that choice looks at the report images, but it can only make the candidate's gain smaller.
        chosen = run.chosen([rung.name for rung in scratch])
        from_scratch = max(chosen, run.sums(run.plan.baseline), key=run.resampler.mean)
        gains = family_draws(run, coalitions(run))
        areas = family_draws(run, coalitions(run, BY_AREA), net_area, "none", coalitions(run, INSIDE))
        reach = run.plan.rung(run.plan.baseline).reach
        narrower = [PRIOR, *(rung.name for rung in scratch if rung.reach < reach)]
        compare = run.resampler
        return LadderMeasured(
            rungs=_rungs(run),
            families=_shares({family: areas[family] for family in FAMILIES}),
            gains={family: _interval(values) for family, values in gains.items()},
            local=compare.interval(local),
            attainable=compare.interval(best),
            local_share=_ratio(run, local, best),
            local_to_context=compare.difference(run.chosen([CONTEXT]), local),
            scratch=compare.interval(from_scratch),
            pretraining=_pretraining(run, from_scratch),
            baseline_shortfall=compare.difference(run.chosen(narrower), run.sums(run.plan.baseline)),
        )

    def judge(self, measured: LadderMeasured | None) -> Finding:
        """Name the deciding family, or say that the shares overlap or that there is nothing to share."""
        if measured is None:
            return unmeasured("ladder")
        if not any(np.isfinite(share.mean) for share in measured.families.values()):
            claim = "Nothing is lost without any one family: none can be said to decide."
            return Finding("ladder", Verdict.UNDETERMINED, claim, measured={"families": measured.families})
        first, second = sorted(measured.families, key=lambda name: -measured.families[name].mean)[:2]
        clear = measured.families[first].low > measured.families[second].high
        share = measured.families[first]
        claim = f"Of what needs one family, the {first} family decides most ({share.mean:.0%}"
        claim += f", 90 % interval {share.low:.0%} to {share.high:.0%})."
        if measured.local_share.mean >= LOCAL_SHARE:
            claim += f" What lies within half an object attains {measured.local_share.mean:.0%} of the best."
        return Finding(
            check="ladder",
            verdict=Verdict.SOUND if clear else Verdict.UNDETERMINED,
            claim=claim,
            measured={"families": measured.families, "local_share": measured.local_share},
        )


def climbed(run: Run) -> bool:
    """Whether every rung of the plan was trained, and position alone was scored beside them."""
    return PRIOR in run.outcomes and set(run.plan.ladder) <= set(run.outcomes)


def coalitions(run: Run, reading: Reading = BY_IOU) -> dict[str, Sums]:
    """Counts of the best rung with position alone, each pixel alone, texture, shape, both of these, and everything."""
    plans = run.plan.rungs
    texture = [PRIOR, *(rung.name for rung in plans if rung.family == "textural")]
    near = [rung.name for rung in plans if rung.kind == "rung" and rung.family != "semantic"]
    # A model that is given was trained by another recipe, and what more training gives is no family.
    apart = ("control", "baseline") if run.plan.given else ("control",)
    whole = [rung.name for rung in plans if rung.kind not in apart]
    members = {
        "none": [PRIOR],
        "pixel": [PRIOR, *(rung.name for rung in plans if rung.reach <= 1)],
        "texture": texture,
        "shape": [PRIOR, CONTOUR],
        "both": [*texture, *near, CONTOUR],
        "all": [*texture, *near, CONTOUR, *whole],
    }
    return {name: run.chosen(list(dict.fromkeys(names)), reading) for name, names in members.items()}


def family_draws(
    run: Run,
    best: dict[str, Sums],
    score: Score = iou,
    known: str = "pixel",
    inside: dict[str, Sums] | None = None,
) -> dict[str, tuple[float, NDArray[np.float64]]]:
    """The score that is lost without each family, as (measured, draws), and what either texture or shape could give.

    `best` are the `coalitions`. The four sum to the best rung minus position alone. `EITHER` is negative where texture
    and shape are of use only together, so that each alone costs all of it. What both of them can do beyond what is
    `known` to any family goes with what is lost without each, in the same proportion: that contours show some of a
    texture must not make the texture less beside what only the whole image tells. In IoU a pixel's colour is known to
    any: where an object is at all makes up much of the score. In net area it makes up nothing, and nothing is known.
    `inside` are the coalitions read without the borders of objects: what contours alone lose is told there, for
    smoothed contours lie a pixel off, and where a border runs is a matter of edges.
    """
    value = {name: _draws(run, sums, score) for name, sums in best.items()}
    off_borders = {name: _draws(run, inside[name], score) for name in ("both", "shape")} if inside else value
    alike = np.minimum(value["texture"], value["shape"]) - value[known]
    untextured = off_borders["both"] - off_borders["shape"]
    textural, geometric = _with_alike(untextured, value["both"] - value["texture"], alike)
    semantic = value["all"] - value["both"]
    rest = value["all"] - value["none"] - textural - geometric - semantic
    gains = {"textural": textural, "geometric": geometric, "semantic": semantic, EITHER: rest}
    return {family: (float(each[0]), each[1:]) for family, each in gains.items()}


def _with_alike(
    textural: NDArray[np.float64], geometric: NDArray[np.float64], alike: NDArray[np.float64]
) -> NDArray[np.float64]:
    """What is lost without texture and without shape, each with its part of what both can do.

    No more is added than is lost: where hardly anything is, that would be noise made large.
    """
    lost = np.stack([textural, geometric])
    needed = np.maximum(lost, 0.0)
    total = needed.sum(0)
    part = np.divide(needed, total, out=np.zeros_like(needed), where=total > 0)
    return lost + part * np.clip(alike, 0.0, total)


def _draws(run: Run, sums: Sums, score: Score) -> NDArray[np.float64]:
    """The score as it was measured, then in each resample."""
    return np.concatenate([[run.resampler.mean(sums, score)], run.resampler.draws(sums, score)])


def _value(run: Run, sums: Sums) -> tuple[float, Draws]:
    return run.resampler.mean(sums), run.resampler.draws(sums)


def _interval(value: tuple[float, Draws]) -> Interval:
    return interval(*value)


def _shares(gains: dict[str, tuple[float, Draws]]) -> dict[str, Interval]:
    """Shares of the sum, nan where no family is needed. One that adds less than nothing has a negative share."""
    total = sum(mean for mean, _ in gains.values())
    totals = np.sum([draws for _, draws in gains.values()], axis=0)
    if total < NEEDED:
        return {family: Interval(np.nan, np.nan, np.nan) for family in gains}
    safe = np.where(totals < NEEDED / 2, np.nan, totals)
    return {family: interval(mean / total, draws / safe) for family, (mean, draws) in gains.items()}


def _ratio(run: Run, above: Sums, below: Sums) -> Interval:
    mean, draws = _value(run, above)
    base, base_draws = _value(run, below)
    if not base > 0:
        return Interval(float("nan"), float("nan"), float("nan"))
    return interval(mean / base, draws / np.where(base_draws > 0, base_draws, np.nan))


def _pretraining(run: Run, from_scratch: Sums) -> Interval | None:
    if CANDIDATE not in run.outcomes:
        return None
    return run.resampler.difference(run.sums(CANDIDATE), from_scratch)


def _rungs(run: Run) -> tuple[Rung, ...]:
    """Every rung with its own IoU and its step: what may be attained with it over what could be without."""
    below = [PRIOR]
    rungs = [Rung(PRIOR, "position", 0.0, run.reading(PRIOR), note="the mean mask, no image")]
    for plan in run.plan.rungs:
        control = plan.kind in ("control", "baseline")
        step = None
        if not control:
            step = run.resampler.difference(run.chosen([*below, plan.name]), run.chosen(below))
            below.append(plan.name)
        rungs.append(Rung(plan.name, plan.family, plan.reach, run.reading(plan.name), step, control, _note(plan)))
    return tuple(rungs)


def _note(plan: RungPlan) -> str:
    return {
        "colour": "the pixel alone",
        "texture": "local statistics without their arrangement",
        f"reach {WHOLE}": "the whole of an object, from each of its pixels",
        CONTOUR: "outlines alone, colour and texture removed",
        CONTEXT: "the whole image, trained from scratch",
        UNTRAINED: f"{plan.extractor} with random weights, frozen, light decoder",
        CANDIDATE: f"{plan.extractor.rpartition('/')[2]}, frozen, light decoder",
        "baseline": f"{plan.extractor} with decoder {plan.decoder}",
    }.get(plan.name, "ordered structure within its reach")
