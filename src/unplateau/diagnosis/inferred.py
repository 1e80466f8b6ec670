"""Gains that no training here can tell, inferred from what is seen: wider than measured ones, and said to be so."""

from __future__ import annotations

from unplateau.checks.data_scale import FEW, by_gap, unrelated
from unplateau.checks.ladder import PRIOR
from unplateau.diagnosis.diagnose import Measurements
from unplateau.diagnosis.settling import tried
from unplateau.experiments.plan import CONTEXT
from unplateau.experiments.run import Run
from unplateau.experiments.trials import AGAIN
from unplateau.types import Interval, Remedy

RISES = 0.01
"""IoU by which all groups must beat half of them for a curve of few groups to count as rising."""

LEARNT = 0.03
"""IoU above position alone from which a model has learnt anything of the images."""

ROUGH, FEWER, CLOSE = 0.2, 0.5, 0.1
"""Wandering contours: what mending contours and extents would add at least, the share of it that objects missed or
invented may cost at most, and the most by which images that were seen score above others.
"""


def by_heart(measured: Measurements) -> Interval | None:
    """What twice the data would add where few unrelated images train: a share of what the model knows by heart.

    None where there are enough images for a learning curve, or no gap.
    """
    data = measured.data
    few = unrelated(measured.faults.findings) < FEW
    if data is not None and len(data.points) > 1:
        rising = data.points[-1].iou.mean - data.points[-2].iou.mean >= RISES
        # Where images repeat each other a share of them holds what all hold: that curve is flat whatever is to gain.
        few |= data.groups < FEW and rising
    return by_gap(measured.capacity) if few else None


def rough_contours(run: Run, measured: Measurements, others: float) -> Remedy | None:
    """Redrawing, concluded from what does not help: the objects are found, their contours are not, nor on images seen,
    and these surely lie a little off the edges of their images.

    `others` is the largest gain of any other remedy.
    """
    gains = measured.finding("anatomy").measured.get("gains", {})
    capacity, off = measured.capacity, measured.finding("contours").measured.get("gain")
    if not gains or capacity is None or measured.data is None or not tried(run):
        return None
    if not isinstance(off, Interval) or not off.low > 0:
        # Thin things score little by their contours however well these are drawn.
        return None
    edges = gains["boundary"].mean + gains["extent"].mean
    objects = sum(max(0.0, gains[kind].mean) for kind in ("missed", "spurious", "merged or split"))
    apart = capacity.seen - capacity.report
    if edges < ROUGH or objects > FEWER * edges or apart > CLOSE or others > edges / 5:
        return None
    rest = 1 - capacity.report
    said = (
        f"Nothing that was tried helps, objects are found, and contours and extents alone would add {edges:+.3f}, "
        f"on images it has seen ({capacity.seen:.3f}) hardly less than on others ({capacity.report:.3f}): concluded, "
        "not measured."
    )
    return Remedy("relabel", Interval(edges, edges / 4, rest), "annotation work", (said,))


def unlearnt(run: Run, repair: str | None = None) -> Interval | None:
    """What putting right masks, or where the images come from, may add where no model learns more than position:
    anything. None where one does, `repair`, the training after the repair, included.
    """
    trials = [trial.name for trial in run.plan.trials]
    names = [name for name in (run.plan.baseline, AGAIN, CONTEXT, *trials) if name in run.outcomes]
    if not tried(run) or PRIOR not in run.outcomes:
        return None
    scores = [run.shared([name]).reading(name).mean for name in names]
    scores += [run.resampler.mean(run.fairly(repair))] if repair else []
    most = max(scores)
    if most > run.reading(PRIOR).mean + LEARNT:
        return None
    room = 1 - most
    return Interval(room / 2, 0.0, room)
