"""Does an extractor from elsewhere get its images as it was trained to see them: range, mean and spread."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from unplateau.diagnosis.check import AbstractCheck
from unplateau.diagnosis.fits import spread
from unplateau.diagnosis.plan import CANDIDATE, RungPlan
from unplateau.diagnosis.run import Run
from unplateau.errors import PieceError
from unplateau.extractors.base import AbstractExtractor
from unplateau.extractors.catalogue import build_extractor
from unplateau.extractors.checkpoint import TIMM
from unplateau.extractors.normalise import IMAGENET_MEAN, IMAGENET_STD, NORMALISATIONS, Normalise
from unplateau.extractors.tensors import SUFFIXES
from unplateau.model import pad_to
from unplateau.types import Finding, Verdict

IMAGES = 24
"""Pictures that are shown: the first layer's statistics hardly differ between images of one set."""

NEAR = 0.2
"""Distance up to which statistics agree: what photographs of another kind reach under the right rule."""

FAR, TIMES = 0.35, 4.0
"""Distance from which they do not, in nats, and how many times farther than the nearest rule it must be."""


@dataclass(frozen=True)
class NormalisationMeasured:
    """How far each rule of normalisation brings the first layer from what it saw in training.

    `extractor` is the name; `present` the distance under the rule in force, `others` under each known one, in nats a
    channel; nan and empty without batch statistics. `baseline` says whether it is of the model in question, else it is
    the candidate.
    """

    extractor: str
    baseline: bool
    present: float
    others: dict[str, float]

    @property
    def right(self) -> str | None:
        """The rule that surely fits better than the one in force; None where there is none."""
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

    Why it matters: weights that expect 0..255 and get 0..1, or the reverse, give features that hardly depend on the
        image, and nothing reports an error.

    When it misleads: the order of the colours hardly moves these numbers and is not judged. Networks without batch
        normalisation remember nothing and are left open, as are weights from images unlike photographs and these.

    What to do next: name the extractor with the rule that fits, as "timm/NAME~half@FILE".

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
        return compare_rules(extractor, images, rung.extractor, baseline=own)

    def judge(self, measured: NormalisationMeasured | None) -> Finding:
        """Concern where another rule surely fits and this one does not."""
        if measured is None:
            claim = "No extractor that was trained elsewhere takes part, so none can be fed wrongly."
            return Finding("normalisation", Verdict.SOUND, claim)
        verdict, claim = _read(measured)
        numbers = {name: getattr(measured, name) for name in ("extractor", "present", "others")}
        return Finding("normalisation", verdict, claim, None, numbers)


def respelled(extractor: str, rule: str) -> str | None:
    """The name of the same extractor under another rule; None where its name cannot say one."""
    if not extractor.startswith(TIMM):
        return None
    described, at, file = extractor.partition("@")
    network, *options = described.split("~")
    kept = [option for option in options if option.startswith("heads")]
    return "~".join([network, rule, *kept]) + at + file


def compare_rules(
    extractor: AbstractExtractor, images: Tensor, name: str, *, baseline: bool = False
) -> NormalisationMeasured:
    """What the first layer says of each rule on images uint8 (N, 3, H, W)."""
    rule = next((each for each in extractor.modules() if isinstance(each, Normalise)), None)
    stride = max(level.stride for level in extractor.gives)
    probes = [pad_to(each, stride) for each in (images.float() / 255, photographs(images.shape[-1]))]
    layer = _first_norm(extractor, probes[1])
    if rule is None or not isinstance(layer, nn.BatchNorm2d) or layer.running_mean is None:
        return NormalisationMeasured(name, baseline, math.nan, {})

    def distance(other: Normalise) -> float:
        return min(_distance(_reaching(extractor, (rule, other), layer, probe), layer) for probe in probes)

    others = {key: distance(build()) for key, build in NORMALISATIONS.items()}
    return NormalisationMeasured(name, baseline, distance(_copy(rule)), others)


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
    if own.pretrained or "@" in own.extractor or own.extractor.endswith(SUFFIXES):
        return own
    return next((rung for rung in run.plan.rungs if rung.name == CANDIDATE), None)


def _read(measured: NormalisationMeasured) -> tuple[Verdict, str]:
    name = measured.extractor.rpartition("/")[2]
    if measured.right is not None:
        claim = f"The first layer of {name} is {measured.present:.2f} from what it saw in training, and under the rule "
        claim += f"{measured.right!r} {measured.others[measured.right]:.2f}: its images are normalised wrongly."
        return Verdict.CONCERN, claim
    if measured.present <= NEAR:
        return Verdict.SOUND, f"The first layer of {name} gets what it saw in training ({measured.present:.2f} off)."
    return Verdict.UNDETERMINED, f"Whether {name} gets its images as in training cannot be seen from its first layer."


def _copy(rule: Normalise) -> Normalise:
    copied = NORMALISATIONS["unit"]()
    copied.mean, copied.std, copied.reverse = rule.mean.clone(), rule.std.clone(), rule.reverse
    return copied


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
    hooks = [
        rules[0].register_forward_hook(lambda _, given, __: rules[1](given[0])),
        layer.register_forward_pre_hook(lambda _, given: seen.append(given[0])),
    ]
    _forward(extractor, probe)
    for hook in hooks:
        hook.remove()
    return seen[0]


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
