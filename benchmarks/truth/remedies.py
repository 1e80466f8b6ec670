"""Every remedy applied for real: what of a case changes, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from benchmarks.truth.bases import BASES, world
from benchmarks.truth.cases import Case, Setup, make_case, planted_train
from benchmarks.truth.pretrained import IMAGENET, of_the_task
from unplateau.experiments.trials import larger, stronger
from unplateau.extractors.normalise import without_rule
from unplateau.types import Sample

LABEL_PLANTS = ("shifted", "misnumbered", "omitted", "jittered", "swapped")


@dataclass(frozen=True)
class Trial:
    """What is trained: samples, and the setup."""

    train: tuple[Sample, ...]
    val: tuple[Sample, ...]
    setup: Setup


Remedy = Callable[[Case], Trial | None]
"""The case with the remedy applied; None where it would change nothing, so that its gain is 0."""


def as_is(case: Case) -> Trial:
    """The case itself."""
    return Trial(case.train, case.val, case.setup)


def trials(case: Case) -> dict[str, Trial | None]:
    """Each remedy of `REMEDIES` on a case."""
    return {name: remedy(case) for name, remedy in REMEDIES.items()}


def _clean_if(*wanted: str) -> Remedy:
    """Clean masks and images, where one of these plants damaged them."""

    def remedy(case: Case) -> Trial | None:
        if case.plant not in wanted:
            return None
        healthy = make_case(case.base, "healthy", 0)
        return Trial(healthy.train, healthy.val, case.setup)

    return remedy


def _more_data(case: Case) -> Trial | None:
    clean = world(case.base)
    train = planted_train(case.base, case.plant, case.strength, (*clean.train, *clean.extra[: len(clean.train)]))
    return Trial(train, case.val, case.setup)


def _longer(case: Case) -> Trial:
    """Twice as long, and at least as long as the base takes: twice a run that was cut to a seventh is still cut."""
    steps = max(2 * case.setup.steps, BASES[case.base].steps)
    return Trial(case.train, case.val, replace(case.setup, steps=steps))


def _setup(change: Callable[[Setup], Setup]) -> Remedy:
    """The same data under another setup."""

    def remedy(case: Case) -> Trial | None:
        changed = change(case.setup)
        return None if changed == case.setup else Trial(case.train, case.val, changed)

    return remedy


def _stronger_decoder(setup: Setup) -> Setup:
    extractor, decoder = stronger(setup.extractor, setup.decoder)
    return replace(setup, extractor=extractor, decoder=decoder)


def _larger(setup: Setup) -> Setup:
    return replace(setup, extractor=larger(setup.extractor) or setup.extractor)


def _more_context(setup: Setup) -> Setup:
    return replace(setup, extractor="unet") if re.match("reach-", setup.extractor) else setup


def _finer(setup: Setup) -> Setup:
    native = Setup().size
    return replace(setup, size=min(native, 2 * setup.size))


def candidate(case: Case) -> str | None:
    """The extractor trained elsewhere that the diagnosis of a case is given; None where it is given none."""
    if case.plant == "other-family":
        return of_the_task(case.base)
    return str(IMAGENET) if case.base == "human" and IMAGENET.exists() else None


def _richer(case: Case) -> Trial | None:
    given = candidate(case)
    if given is None:
        return None
    return Trial(case.train, case.val, replace(case.setup, extractor=given, decoder="conv", frozen=True))


REMEDIES: dict[str, Remedy] = {
    "fix-normalisation": _setup(lambda setup: replace(setup, extractor=without_rule(setup.extractor)[0])),
    "fix-shift": _clean_if("shifted"),
    "fix-class-index": _clean_if("misnumbered"),
    "fix-pairing": _clean_if("swapped"),
    "fix-domain": _clean_if("domain"),
    "relabel": _clean_if(*LABEL_PLANTS),
    "move-threshold": _setup(lambda setup: replace(setup, threshold=None)),
    "train-longer": _longer,
    "rebalance": _setup(lambda setup: replace(setup, loss="ce + dice", class_weights="auto")),
    "more-data": _more_data,
    "stronger-decoder": _setup(_stronger_decoder),
    "larger-extractor": _setup(_larger),
    "more-context": _setup(_more_context),
    "finer-resolution": _setup(_finer),
    "richer-pretraining": _richer,
}
"""Remedies that change a training or how it is read. More data is twice as much, longer is twice as long or as long as
the base takes. What moving the threshold is worth is also measured on the user's very model (`score.moved`)."""

BY_CONSTRUCTION = {"encoding": "fix-encoding", "leak": "fix-leak", "metric": "fix-metric"}
"""Plants after which no number can be trusted: the remedy is to repair the number, and no training tells its gain.

Masks that are damaged are refused at the door. A leak and a wrong metric change what is reported, not the model: their
true gain is what the reported number must move by to be honest.
"""

CURES = {
    "shifted": ("fix-shift", "relabel"),
    "misnumbered": ("fix-class-index", "relabel"),
    "swapped": ("fix-pairing", "relabel"),
    "omitted": ("relabel",),
    "jittered": ("relabel",),
    "threshold": ("move-threshold",),
    "cut-short": ("train-longer",),
    "imbalance": ("rebalance", "move-threshold"),
    "tenth": ("more-data",),
    "near-duplicates": ("more-data",),
    "domain": ("fix-domain",),
    "coarse": ("finer-resolution",),
    "weak-decoder": ("stronger-decoder",),
    "small-extractor": ("larger-extractor",),
    "short-reach": ("more-context",),
    "normalisation": ("fix-normalisation",),
    "other-family": ("richer-pretraining",),
}
"""What undoes a plant: all that can be said of a case whose remedies have not been trained. Others may gain more."""
