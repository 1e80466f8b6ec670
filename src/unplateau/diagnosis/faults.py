"""What is wrong with the data or the number, and what putting it right adds: tried by training on repaired masks."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from unplateau.checks import class_index, labels, overfit
from unplateau.checks.alignment import AlignmentCheck, AlignmentMeasured, shifted_splits, strayed, turned
from unplateau.checks.check import AbstractCheck
from unplateau.checks.class_index import ClassIndexCheck, ClassIndexMeasured
from unplateau.checks.contours import ContoursCheck, ContoursMeasured, share_straightened, straightened
from unplateau.checks.data_scale import FEW, unrelated
from unplateau.checks.diversity import DiversityCheck
from unplateau.checks.domain import DomainCheck, DomainMeasured
from unplateau.checks.labels import LabelsCheck, LabelsMeasured
from unplateau.checks.leaks import LeaksCheck, LeaksMeasured
from unplateau.checks.metric import MetricCheck, MetricMeasured
from unplateau.checks.normalisation import NormalisationCheck, NormalisationMeasured, respelled
from unplateau.checks.overfit import OverfitCheck, OverfitMeasured
from unplateau.checks.realigned import realigned
from unplateau.checks.shuffled import ShuffledCheck
from unplateau.diagnosis.repairs import Fault, at_home, rescored, teaches
from unplateau.experiments.fits import Fit
from unplateau.experiments.run import Run, Sums, decided
from unplateau.types import Finding, Interval, Verdict

INVALID = ("fix-leak", "fix-metric")
"""Faults of the number itself: until they are put right no other gain can be believed."""


MANY, WORTH = 0.05, 0.01
"""Share of the images that report, and change of the IoU, from which twins in training make the number useless."""


@dataclass(frozen=True)
class Faults:
    """What the checks of the data found, and which of it is a fault."""

    findings: tuple[Finding, ...]
    faults: tuple[Fault, ...]


Asked = tuple[Finding, Fault | None]
"""What a check found, and the fault that follows; None where none does."""


def find_faults(run: Run, own: Fit | None = None) -> Faults:
    """Ask every question about the data, the number and the training; none of them trains.

    `own` is a training of the model in question; None where it is not at hand, so that none can be put right.
    """
    # A copy, so that what is looked at for these two questions is let go with it.
    looked = replace(run)
    asked = [
        *_placed(run),
        _asked(run, ClassIndexCheck(), _misnumbered),
        _asked(run, LabelsCheck(), _mislabelled),
        _asked(looked, LeaksCheck(), leaked),
        _asked(run, MetricCheck(), misreported),
        _asked(run, DomainCheck(), _from_elsewhere),
        _asked(looked, DiversityCheck(), _none),
        _asked(run, OverfitCheck(), partial(_untrainable, own)),
        _asked(run, ShuffledCheck(), _none),
        _asked(run, NormalisationCheck(), partial(_misread, own)),
    ]
    findings = tuple(finding for finding, _ in asked)
    repeated = any(each.check == "diversity" and each.verdict is Verdict.CONCERN for each in findings)
    # Few images, or many of few scenes, differ from any others: that is a lack of data, not another domain.
    scarce = repeated or unrelated(findings) < FEW
    faults = [fault for _, fault in asked if fault and not (scarce and fault.remedy == "fix-domain")]
    if any(fault.remedy in INVALID for fault in faults):
        # Until the number is right what others would teach is not worth two trainings.
        faults = [replace(fault, there=False) for fault in faults]
    return Faults(findings, _each_once(faults))


def _placed(run: Run) -> tuple[Asked, Asked]:
    """What is found of the place of masks and of their contours."""
    aligned, bent = AlignmentCheck().measure(run), ContoursCheck().measure(run)
    shift = concluded(run, AlignmentCheck(), aligned, _shifted)
    return either(aligned, bent, shift, concluded(run, ContoursCheck(), bent, _wandering))


def either(aligned: AlignmentMeasured, bent: ContoursMeasured, shift: Asked, contours: Asked) -> tuple[Asked, Asked]:
    """The two findings with the fault that explains the other alone, where both were found.

    Masks that are turned, or shifted in a part of the images, fit their images nowhere, like contours that wander. All
    masks shifted by less than contours wander are where chance has put them.
    """
    if shift[1] is None or contours[1] is None:
        return shift, contours
    if turned(aligned) or strayed(aligned) or shifted_splits(aligned):
        return shift, (contours[0], None)
    if math.hypot(*aligned.whole.offset) > bent.apart:
        return shift, contours
    claim = f"Contours wander by about {bent.apart:.1f} pixels: whether all masks are shifted by less cannot be told."
    return (replace(shift[0], verdict=Verdict.UNDETERMINED, claim=claim, examples=()), None), contours


def _each_once(faults: list[Fault]) -> tuple[Fault, ...]:
    """The first fault of each remedy: objects whose contours wander off them are also missed where they are."""
    first: dict[str, Fault] = {}
    for fault in faults:
        first.setdefault(fault.remedy, fault)
    return tuple(first.values())


# ---- what follows from a concern -----------------------------------------------------------------------------

Measured = TypeVar("Measured")


def _asked(
    run: Run, check: AbstractCheck[Measured], fault: Callable[[Run, Measured, str], Fault | None]
) -> tuple[Finding, Fault | None]:
    """What a check found, and the fault that follows from its claim when it is a concern."""
    return concluded(run, check, check.measure(run), fault)


def concluded(
    run: Run, check: AbstractCheck[Measured], measured: Measured, fault: Callable[[Run, Measured, str], Fault | None]
) -> tuple[Finding, Fault | None]:
    """What a check says of what was measured, and the fault that follows when that is a concern."""
    finding = check.judge(measured)
    return finding, fault(run, measured, finding.claim) if finding.verdict is Verdict.CONCERN else None


def _shifted(run: Run, measured: AlignmentMeasured, claim: str) -> Fault:
    return Fault("fix-shift", "minutes", claim, realigned(run.pictures, measured), resumes=True)


def _wandering(run: Run, measured: ContoursMeasured, claim: str) -> Fault | None:
    """The fault of contours that wander; None where the answers do not fit the straightened masks better, though the
    model has learnt from the others: a blur of many contours lies where the true one is, but not where edges beside it
    have drawn it.
    """
    mended = straightened(run.source, run.pictures)
    again = run.resampler.sums_of(decided(rescored(run, mended, place)) for place in range(len(run.folds)))
    if run.resampler.difference(again, run.sums(run.plan.baseline)).low <= 0:
        return None
    share = share_straightened(run.source, run.pictures, measured, run.seed)
    return Fault("relabel", "annotation work", claim, mended, partly=True, resumes=True, share=share)


def _misnumbered(run: Run, measured: ClassIndexMeasured, claim: str) -> Fault:
    return Fault("fix-class-index", "minutes", claim, class_index.repaired(run, measured))


def _mislabelled(run: Run, measured: LabelsMeasured, claim: str) -> Fault:
    mended = labels.repaired(run.pictures, run.answers_of(run.witness), measured)
    swapped = len(measured.partners) >= len({spot.picture for spot in (*measured.spots, *measured.denied)}) / 2
    remedy, cost = ("fix-pairing", "minutes") if swapped else ("relabel", "annotation work")
    return Fault(remedy, cost, claim, mended, partly=measured.by_lot, resumes=not swapped)


def leaked(run: Run, measured: LeaksMeasured, claim: str) -> Fault | None:
    """The fault of twins beyond the split; None where they are too few to move the number."""
    gain = without_twins(run, measured)
    # One twin among many images is a fact worth saying, but the number stands.
    if max(measured.shares.values(), default=0.0) < MANY and abs(gain.mean) < WORTH:
        return None
    return Fault("fix-leak", "minutes", claim, gain=gain)


def misreported(_: Run, measured: MetricMeasured, claim: str) -> Fault:
    """The fault of a number that is not the IoU of these answers."""
    return Fault("fix-metric", "minutes", claim, gain=_correction(measured))


def _from_elsewhere(run: Run, measured: DomainMeasured, claim: str) -> Fault | None:
    if not measured.differences:
        return None
    return Fault("fix-domain", "new data", claim, gain=at_home(run), there=teaches(run))


def _untrainable(own: Fit | None, _: Run, measured: OverfitMeasured, claim: str) -> Fault | None:
    right = overfit.put_right(own).get(measured.part or "") if own else None
    return Fault("fix-training", "minutes", claim, instead=right) if right else None


def _misread(own: Fit | None, _: Run, measured: NormalisationMeasured, claim: str) -> Fault | None:
    """The model in question under the rule that fits; of a candidate the finding says all."""
    name = respelled(measured.extractor, measured.right or "") if measured.baseline else None
    if own is None or name is None:
        return None
    return Fault("fix-normalisation", "minutes", claim, instead=replace(own, extractor=name))


def _none(_run: Run, _measured: object, _claim: str) -> None:
    """A concern that is a property of the data, not a fault."""


def _correction(measured: MetricMeasured) -> Interval:
    off = measured.iou.mean - measured.reported
    return Interval(off, measured.iou.low - measured.reported, measured.iou.high - measured.reported)


def without_twins(run: Run, measured: LeaksMeasured) -> Interval:
    """By how much the IoU changes when the images with a twin beyond the split no longer report."""
    twins = {name for each in measured.twins for name in (each.first, each.second)}
    kept = np.array([name not in twins for name in run.pictures.names])
    baseline = run.plan.baseline
    return run.resampler.difference(_only(run, baseline, kept), run.sums(baseline))


def _only(run: Run, name: str, kept: NDArray[np.bool_]) -> Sums:
    """Counts of a rung on the images kept alone."""
    fits = zip(run.outcomes[name], run.folds, strict=True)
    return run.resampler.sums_of(decided(fitted) * kept[list(fold.report)][:, None, None] for fitted, fold in fits)
