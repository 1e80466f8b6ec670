"""Does an extractor from elsewhere get its images as it was trained to see them: range, mean and spread."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from unplateau.checks.check import AbstractCheck
from unplateau.checks.frozen_probe import normalised, probe
from unplateau.errors import PieceError
from unplateau.experiments.fits import spread
from unplateau.experiments.plan import CANDIDATE, RungPlan
from unplateau.experiments.run import Run
from unplateau.extractors.base import AbstractExtractor
from unplateau.extractors.catalogue import brings_weights, build_extractor
from unplateau.extractors.fused import is_fused
from unplateau.extractors.normalise import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    NORMALISATIONS,
    Normalise,
    rule_of,
    without_rule,
)
from unplateau.extractors.timm import TIMM
from unplateau.measures.intervals import bootstrap
from unplateau.measures.thresholds import mean_iou
from unplateau.model import pad_to
from unplateau.types import Finding, Interval, Verdict

IMAGES = 24
"""Pictures that are shown: the first layer's statistics hardly differ between images of one set."""

NEAR = 0.2
"""Distance up to which statistics agree: what photographs of another kind reach under the right rule."""

FAR, TIMES = 0.35, 4.0
"""Distance from which they do not, in nats, and how many times farther than the nearest rule it must be."""

SLIGHT = 1e-3
"""Difference of two means or spreads, of images in 0..1, that is no other rule."""

PROBED = 24
"""Images that a frozen reading learns from, and at most how many that chose read it."""

FEWEST = 4
"""Groups to read under which an interval over groups says nothing."""

GAINS, NOTHING = 0.05, 0.02
"""IoU of a frozen reading from which another rule is better, with its interval above nothing; and the least that
matters.
"""


@dataclass(frozen=True)
class NormalisationMeasured:
    """How far each rule of normalisation brings the first layer from what it saw in training.

    `extractor` is the name; `present` the distance under the rule in force, `others` under each known one, in nats a
    channel; nan and empty without batch statistics. `baseline` says whether it is of the model in question, else it is
    the candidate. `probe` is the IoU of a linear reading of the frozen maps under the rule in force, `gains` what
    others change of it: the one that `others` name, or each of them where there are no batch statistics.
    """

    extractor: str
    baseline: bool
    present: float
    others: dict[str, float]
    probe: float = math.nan
    gains: dict[str, Interval] = field(default_factory=dict)

    @property
    def right(self) -> str | None:
        """The rule that surely fits better than the one in force; None where there is none."""
        return self.remembered or self.read

    @property
    def read(self) -> str | None:
        """The rule under which a frozen reading surely scores more; None where there is none."""
        best = max(self.gains, key=lambda name: self.gains[name].mean, default=None)
        return best if best and self.gains[best].mean >= GAINS and self.gains[best].low > 0 else None

    @property
    def remembered(self) -> str | None:
        """The rule that batch statistics remember, where it is surely not the one in force."""
        if not self.others or not math.isfinite(self.present):
            return None
        best = min(self.others, key=lambda name: self.others[name])
        low = self.others[best]
        return best if low <= NEAR and self.present >= max(FAR, TIMES * low) else None


@final
class NormalisationCheck(AbstractCheck[NormalisationMeasured | None]):
    """Whether a pretrained extractor is fed what it was trained on.

    What it measures: a network with batch normalisation remembers mean and variance of its first layer's output in
        training. Those are compared with what the first layer gives here, on these images and on noise with the
        spectrum, colours and contrast of photographs, whichever is nearer (median over channels of the divergence
        between the two normal distributions), under the rule in force and under each that published networks use.
        Beside it the IoU of a linear reading of the frozen maps, on inner images, under the rule in force and the one
        remembered; or under each, where the network of the model in question remembers nothing.

    Why it matters: weights that expect 0..255 and get 0..1, or the reverse, give features that hardly depend on the
        image, and nothing reports an error.

    When it misleads: the order of the colours hardly moves these numbers. Networks without batch normalisation remember
        nothing, and what a linear reading of few images cannot tell is left open, as are weights from images unlike
        photographs and these. The decoders here standardise what they read, so that another range may cost little.

    What to do next: name the extractor with the rule that fits, as "FILE~half" or "timm/NAME~half@FILE".

    Reference: Li et al., Revisiting batch normalization for practical domain adaptation, arXiv 1603.04779; Field,
        Relations between the statistics of natural images, JOSA A 4, 1987.
    """

    def measure(self, run: Run) -> NormalisationMeasured | None:
        """Distances under each rule; None where nothing that was trained elsewhere takes part."""
        rung = _from_elsewhere(run)
        if rung is None:
            return None
        own = rung.name == run.plan.baseline
        try:
            extractor = build_extractor(rung.extractor, pretrained=rung.pretrained)
        except PieceError:  # its weights are no longer where they were: nothing to look at
            return NormalisationMeasured(rung.extractor, own, math.nan, {})
        images = run.pictures.images[list(spread(tuple(range(len(run.pictures))), IMAGES))]
        return _with_probe(run, extractor, compare_rules(extractor, images, rung.extractor, baseline=own))

    def judge(self, measured: NormalisationMeasured | None) -> Finding:
        """Concern where another rule surely fits and this one does not."""
        if measured is None:
            claim = "No extractor that was trained elsewhere takes part, so none can be fed wrongly."
            return Finding("normalisation", Verdict.SOUND, claim)
        verdict, claim = _read(measured)
        numbers = {name: getattr(measured, name) for name in ("extractor", "present", "others", "probe", "gains")}
        return Finding("normalisation", verdict, claim, measured.gains.get(measured.right or ""), numbers)


def respelled(extractor: str, rule: str) -> str | None:
    """The name of the same extractor under another rule; None for several in one."""
    if is_fused(extractor):
        return None
    if not extractor.startswith(TIMM):
        return f"{without_rule(extractor)[0]}~{rule}"
    described, at, file = extractor.partition("@")
    network, *options = described.split("~")
    kept = [option for option in options if option.startswith("heads")]
    return "~".join([network, rule, *kept]) + at + file


def compare_rules(
    extractor: AbstractExtractor, images: Tensor, name: str, *, baseline: bool = False
) -> NormalisationMeasured:
    """What the first layer says of each rule on images uint8 (N, 3, H, W)."""
    rule = rule_of(extractor)
    stride = max(level.stride for level in extractor.gives)
    probes = [pad_to(each, stride) for each in (images.float() / 255, photographs(images.shape[-1]))]
    layer = _first_norm(extractor, probes[1])
    if rule is None or not isinstance(layer, nn.BatchNorm2d) or layer.running_mean is None:
        return NormalisationMeasured(name, baseline, math.nan, {})

    def distance(other: Normalise) -> float:
        return min(_distance(_reaching(extractor, (rule, other), layer, probe), layer) for probe in probes)

    # The order of the colours cannot be seen so: of two rules that differ in nothing else the usual one is asked.
    others = {key: distance(build()) for key, build in NORMALISATIONS.items() if key != "bgr"}
    return NormalisationMeasured(name, baseline, distance(_same(rule)), others)


def _with_probe(run: Run, extractor: AbstractExtractor, measured: NormalisationMeasured) -> NormalisationMeasured:
    """What was measured, with the frozen readings that tell what another rule gains, where something asks for it."""
    own, fold, wanted = rule_of(extractor), run.folds[0], measured.remembered
    asked = wanted if measured.others else measured.baseline
    if own is None or not fold.inner or not asked:
        return measured
    fit, inner = spread(fold.fit, PROBED), spread(fold.inner, PROBED)

    def scored(rule: Normalise) -> NDArray[np.float64]:
        with normalised(own, rule):
            return probe(extractor, run.pictures, fit, inner).astype(np.float64)

    present, names = scored(_same(own)), [wanted] if wanted else list(NORMALISATIONS)
    counts = {name: scored(rule) for name in names if not _alike(rule := NORMALISATIONS[name](), own)}
    _, groups = np.unique([run.pictures.groups[index] for index in inner], return_inverse=True)
    gains = {name: _difference(other, present, groups, run.seed) for name, other in counts.items()}
    return replace(measured, probe=mean_iou(present), gains=gains)


def _difference(
    above: NDArray[np.float64], below: NDArray[np.float64], groups: NDArray[np.int64], seed: int
) -> Interval:
    """IoU of one reading minus that of another, of counts (N, C, 3), paired and resampled by group; without an interval
    where there are too few of them.
    """
    if groups.max() + 1 < FEWEST:
        return Interval(mean_iou(above) - mean_iou(below), math.nan, math.nan)
    both = np.zeros((int(groups.max()) + 1, 2, *above.shape[1:]))
    np.add.at(both, groups, np.stack([above, below], axis=1))
    return bootstrap(both, lambda part: mean_iou(part[:, 0]) - mean_iou(part[:, 1]), np.random.default_rng(seed))


def photographs(side: int, count: int = 8, seed: int = 0) -> Tensor:
    """Noise (N, 3, side, side), around 0..1, with the second-order statistics of photographs: amplitude falling as one
    over frequency, channels that mostly agree, and ImageNet's mean and spread of each.
    """
    generator = torch.Generator().manual_seed(seed)
    frequency = torch.fft.fftfreq(side)[:, None].square() + torch.fft.rfftfreq(side)[None].square()
    white = torch.fft.rfft2(torch.randn(count, 3, side, side, generator=generator))
    pink = torch.fft.irfft2(white / frequency.sqrt().clamp(min=0.5 / side), s=(side, side))
    mixed = 0.2 * pink + pink.mean(1, keepdim=True)
    normal = (mixed - mixed.mean((0, 2, 3), keepdim=True)) / mixed.std((0, 2, 3), keepdim=True)
    mean, std = (torch.tensor(each).reshape(1, 3, 1, 1) for each in (IMAGENET_MEAN, IMAGENET_STD))
    return normal * std + mean


def _from_elsewhere(run: Run) -> RungPlan | None:
    """The model in question where its weights came with it, else the candidate."""
    own = run.plan.rung(run.plan.baseline)
    if own.pretrained or brings_weights(own.extractor):
        return own
    return next((rung for rung in run.plan.rungs if rung.name == CANDIDATE), None)


def _read(measured: NormalisationMeasured) -> tuple[Verdict, str]:
    name = measured.extractor.rpartition("/")[2]
    rule = measured.right
    read = (
        f" A linear reading of its frozen maps changes by {measured.gains[rule]:+.3f}."
        if rule in measured.gains
        else ""
    )
    if rule is not None and measured.remembered is not None:
        claim = f"The first layer of {name} is {measured.present:.2f} from what it saw in training, and under the rule "
        claim += f"{rule!r} {measured.others[rule]:.2f}: its images are normalised wrongly.{read}"
        return Verdict.CONCERN, claim
    if rule is not None:
        return Verdict.CONCERN, f"{name} is better fed by the rule {rule!r} than by the one in force.{read}"
    if measured.present <= NEAR:
        return Verdict.SOUND, f"The first layer of {name} gets what it saw in training ({measured.present:.2f} off)."
    if measured.gains and max(gain.high for gain in measured.gains.values()) < NOTHING:
        return Verdict.SOUND, f"No other rule of normalisation lets {name} be read better ({measured.probe:.3f})."
    claim = f"Whether {name} gets its images as in training cannot be seen from its first layer"
    return Verdict.UNDETERMINED, claim + (", nor from a linear reading of its maps." if measured.gains else ".")


def _same(rule: Normalise) -> Normalise:
    copied = NORMALISATIONS["unit"]()
    copied.become(rule)
    return copied


def _alike(first: Normalise, second: Normalise) -> bool:
    apart = max(float((getattr(first, name) - getattr(second, name)).abs().max()) for name in ("mean", "std"))
    return apart < SLIGHT and first.reverse == second.reverse


def _first_norm(extractor: AbstractExtractor, probe: Tensor) -> nn.Module | None:
    """The first layer in the order of the forward pass that standardises; behind it the scale of the image is gone."""
    called: list[nn.Module] = []
    hooks = [
        each.register_forward_pre_hook(lambda module, _: called.append(module))
        for each in extractor.modules()
        if isinstance(each, (nn.BatchNorm2d, nn.LayerNorm, nn.GroupNorm))
    ]
    _forward(extractor, probe[:1])
    for hook in hooks:
        hook.remove()
    return called[0] if called else None


def _reaching(
    extractor: AbstractExtractor, rules: tuple[Normalise, Normalise], layer: nn.Module, probe: Tensor
) -> Tensor:
    """What goes into a layer when the images are normalised by the second rule in the place of the first."""
    seen: list[Tensor] = []

    def keep(_: nn.Module, given: tuple[Tensor, ...]) -> None:
        seen.append(given[0])
        raise _Reached

    hooks = [
        rules[0].register_forward_hook(lambda _, given, __: rules[1](given[0])),
        layer.register_forward_pre_hook(keep),
    ]
    with suppress(_Reached):  # what comes behind the first layer would cost most and tell nothing
        _forward(extractor, probe)
    for hook in hooks:
        hook.remove()
    return seen[0]


class _Reached(Exception):
    """The layer that was asked for has been reached."""


def _forward(extractor: AbstractExtractor, probe: Tensor) -> None:
    extractor.eval()
    with torch.inference_mode():
        extractor(probe)


def _distance(maps: Tensor, layer: nn.BatchNorm2d) -> float:
    """Median over channels of the divergence of the maps from the layer's memory, both taken as normal."""
    mean, variance = maps.mean((0, 2, 3)), maps.var((0, 2, 3)) + layer.eps
    old_mean, old = layer.running_mean, layer.running_var
    if old_mean is None or old is None:
        return math.nan
    ratio = variance / (old + layer.eps)
    divergence = 0.5 * (ratio + (mean - old_mean).square() / (old + layer.eps) - 1 - ratio.log())
    return float(divergence.median())
