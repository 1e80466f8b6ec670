"""Weights that are fed another range than they were trained on are found where they remember it, and only there."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from conftest import REAL_DATA
from made_run import made_run
from unplateau.checks import normalisation
from unplateau.checks.frozen_probe import normalised, probe
from unplateau.checks.normalisation import (
    NEAR,
    NormalisationCheck,
    NormalisationMeasured,
    compare_rules,
    photographs,
    respelled,
)
from unplateau.diagnosis import faults as module
from unplateau.errors import PieceError
from unplateau.experiments.plan import make_fits
from unplateau.experiments.run import Run
from unplateau.extractors.catalogue import brings_weights, build_extractor, weight_files
from unplateau.extractors.normalise import IMAGENET_MEAN, IMAGENET_STD, NORMALISATIONS, Normalise, rule_of
from unplateau.extractors.squeezenet import squeezenet
from unplateau.extractors.timm import from_timm
from unplateau.measures.thresholds import mean_iou
from unplateau.training.recipe import Recipe
from unplateau.types import Fold, Interval, Verdict

NETWORK = "resnet18:0,1"

WEIGHTS = REAL_DATA.parent / "weights" / "squeezenet1_1_imagenet_features.safetensors"

Made = Callable[[str], Path]


@pytest.fixture(scope="module")
def trained_with(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """trained_with("half") is a file of a ResNet that was trained a few steps on images normalised so."""
    folder = tmp_path_factory.mktemp("weights")

    def made(rule: str) -> Path:
        path = folder / f"{rule}.safetensors"
        if not path.exists():
            save_file(_trained(NORMALISATIONS[rule]()), path)
        return path

    return made


def _trained(rule: Normalise) -> dict[str, torch.Tensor]:
    """A few steps of telling bright images from dark ones; what batch normalisation remembers is that rule's."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = from_timm("resnet18", levels=(0, 1)).net.train()
    optimiser = torch.optim.SGD(net.parameters(), 1e-3)
    for layer in net.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = 0.5
    images = photographs(32, count=8, seed=1)
    wanted = images.mean((1, 2, 3))
    for _ in range(8):
        optimiser.zero_grad()
        (net(rule(images))[-1].mean((1, 2, 3)) - wanted).square().mean().backward()
        optimiser.step()
    return {name: value.contiguous() for name, value in net.state_dict().items()}


def pictures(faint: float = 1.0) -> torch.Tensor:
    """Images uint8 (8, 3, 32, 32) as a camera takes them."""
    grey = torch.tensor(IMAGENET_MEAN).reshape(1, 3, 1, 1)
    return ((photographs(32, seed=2) - grey) * faint + grey).clamp(0, 1).mul(255).round().to(torch.uint8)


def read(made: Made, trained: str, used: str, images: torch.Tensor | None = None) -> NormalisationMeasured:
    name = f"timm/{NETWORK}~{used}@{made(trained)}"
    extractor = build_extractor(name)
    return compare_rules(extractor, pictures() if images is None else images, name, baseline=True)


@pytest.mark.parametrize("trained", ["imagenet", "half", "unit", "bytes", "caffe"])
def test_weights_that_get_what_they_were_trained_on_are_left_alone(trained, trained_with):
    measured = read(trained_with, trained, trained)
    assert measured.present <= NEAR
    assert NormalisationCheck().judge(measured).verdict is Verdict.SOUND


@pytest.mark.parametrize(
    ("trained", "used"),
    [("bytes", "imagenet"), ("unit", "imagenet"), ("half", "imagenet"), ("imagenet", "bytes"), ("imagenet", "half")],
)
def test_another_range_is_found_and_the_right_one_named(trained, used, trained_with):
    measured = read(trained_with, trained, used)
    finding = NormalisationCheck().judge(measured)
    assert finding.verdict is Verdict.CONCERN, measured
    assert measured.right == trained


def test_faint_images_are_not_taken_for_a_wrong_rule(trained_with):
    for rule in ("imagenet", "half", "bytes"):
        measured = read(trained_with, rule, rule, pictures(faint=0.15))
        assert NormalisationCheck().judge(measured).verdict is Verdict.SOUND, (rule, measured)


def test_a_network_without_batch_normalisation_is_left_open():
    if not WEIGHTS.is_file():
        pytest.skip("the weights of SqueezeNet are not here")
    for preprocessing in ("caffe", "imagenet"):
        measured = compare_rules(squeezenet(WEIGHTS, preprocessing=preprocessing), pictures(), "squeezenet")
        assert NormalisationCheck().judge(measured).verdict is Verdict.UNDETERMINED


def test_a_layer_normalisation_hides_what_comes_before_it():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        measured = compare_rules(build_extractor("timm/convnext_atto:0"), pictures(), "convnext_atto")
    assert NormalisationCheck().judge(measured).verdict is Verdict.UNDETERMINED


def test_nothing_from_elsewhere_is_nothing_to_feed_wrongly():
    check = NormalisationCheck()
    assert check.measure(made_run()) is None
    assert check.judge(check.measure(made_run())).verdict is Verdict.SOUND


def test_noise_like_photographs_has_their_mean_and_spread():
    made = photographs(32)
    assert torch.allclose(made.mean((0, 2, 3)), torch.tensor(IMAGENET_MEAN), atol=1e-4)
    assert torch.allclose(made.std((0, 2, 3)), torch.tensor(IMAGENET_STD), atol=1e-4)
    assert torch.equal(made, photographs(32))


# ---- what follows --------------------------------------------------------------------------------------------


def test_a_name_under_another_rule_builds_the_same_network_behind_it(trained_with):
    name = respelled(f"timm/{NETWORK}@{trained_with('half')}", "half")
    assert name is not None
    extractor = build_extractor(name)
    assert extractor.architecture == f"timm/{NETWORK}~half"
    rule = next(each for each in extractor.modules() if isinstance(each, Normalise))
    assert rule.mean.flatten().tolist() == [0.5, 0.5, 0.5]
    again = build_extractor(extractor.architecture)
    assert again.architecture == extractor.architecture


def test_a_rule_replaces_the_one_that_a_name_says():
    assert respelled("timm/vit~imagenet~heads12@a.pt", "unit") == "timm/vit~unit~heads12@a.pt"
    assert respelled("weights.safetensors", "unit") == "weights.safetensors~unit"
    assert respelled("weights.safetensors~half", "unit") == "weights.safetensors~unit"
    assert respelled("fused(unet + weights.safetensors)", "unit") is None


def with_weights(name: str, masks: torch.Tensor | None = None) -> Run:
    """A run whose model in question is that extractor, frozen, on images as a camera takes them."""
    run = made_run(baseline="resnet18")
    rungs = tuple(
        replace(rung, extractor=name, frozen=True) if rung.name == run.plan.baseline else rung
        for rung in run.plan.rungs
    )
    images = pictures().repeat(3, 1, 1, 1)
    bright = (images.float().mean(1) > 115).byte() if masks is None else masks
    seen = replace(run.pictures, images=images, masks=bright, groups=run.pictures.names)
    parts = Fold(tuple(range(12)), tuple(range(12, 20)), tuple(range(20, 24)))
    return replace(run, plan=replace(run.plan, rungs=rungs), pictures=seen, folds=(parts,))


def test_the_remedy_trains_the_model_in_question_under_the_rule_that_fits(trained_with):
    run = with_weights(f"timm/{NETWORK}@{trained_with('bytes')}")
    own = next(fit for fit in make_fits(run.plan, run.pictures, run.folds, Recipe(), 0) if fit.name == "baseline")
    measured = NormalisationCheck().measure(run)
    assert measured is not None
    assert list(measured.gains) == ["bytes"]
    fault = module._misread(own, run, measured, "Wrong.")
    assert fault is not None
    assert fault.remedy == "fix-normalisation"
    assert fault.instead == replace(own, extractor=f"timm/{NETWORK}~bytes@{trained_with('bytes')}")
    assert module._misread(own, run, replace(measured, baseline=False), "Wrong.") is None


# ---- a frozen reading ----------------------------------------------------------------------------------------


def saturating(path: Path) -> Path:
    """A SqueezeNet without memory whose features die above the range of 0..1: fed bytes, nothing is left of them."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        tensors = squeezenet().state_dict()
    first = "features.0."
    tensors[first + "weight"] = -tensors[first + "weight"].abs()
    tensors[first + "bias"] = -tensors[first + "weight"].sum((1, 2, 3))
    save_file({name: value.contiguous() for name, value in tensors.items()}, path)
    return path


def test_a_network_that_remembers_nothing_is_read_under_each_rule(tmp_path):
    name = f"{saturating(tmp_path / 'dead.safetensors')}~bytes"
    measured = NormalisationCheck().measure(with_weights(name))
    assert measured is not None
    assert math.isnan(measured.present)
    assert set(measured.gains) == set(NORMALISATIONS) - {"bytes"}
    assert measured.right is not None
    assert measured.gains[measured.right].low > 0
    assert NormalisationCheck().judge(measured).verdict is Verdict.CONCERN


def test_where_the_groups_are_too_few_a_better_reading_settles_nothing():
    better, worse = np.array([[[9.0, 10.0, 10.0]]] * 8), np.array([[[5.0, 10.0, 10.0]]] * 8)
    told = normalisation._difference(better, worse, np.arange(8), 0)
    assert told.low > 0
    alone = normalisation._difference(better, worse, np.zeros(8, int), 0)
    assert alone.mean == told.mean > 0
    assert math.isnan(alone.low)
    measured = NormalisationMeasured("a.safetensors", True, math.nan, {}, 0.5, {"half": alone})
    assert NormalisationCheck().judge(measured).verdict is Verdict.UNDETERMINED
    assert NormalisationCheck().judge(replace(measured, gains={"half": told})).verdict is Verdict.CONCERN


def test_a_rule_under_which_no_other_reads_better_is_left_alone():
    read = dict.fromkeys(("imagenet", "half"), Interval(-0.1, -0.2, 0.0))
    check = NormalisationCheck()
    measured = NormalisationMeasured("a.safetensors", True, math.nan, {}, 0.5, read)
    assert check.judge(measured).verdict is Verdict.SOUND
    doubtful = replace(measured, gains={**read, "half": Interval(0.03, -0.02, 0.08)})
    assert check.judge(doubtful).verdict is Verdict.UNDETERMINED
    better = replace(measured, gains={**read, "half": Interval(0.08, 0.02, 0.14)})
    assert (check.judge(better).verdict, better.right) == (Verdict.CONCERN, "half")


def test_the_probe_reads_masks_that_the_maps_hold_and_not_others():
    run = with_weights("timm/resnet18:0,1")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        extractor = build_extractor("reach-5")
    right = mean_iou(probe(extractor, run.pictures, tuple(range(12)), tuple(range(12, 24))))
    chance = replace(run.pictures, masks=run.pictures.masks[torch.randperm(24, generator=torch.Generator())])
    wrong = mean_iou(probe(extractor, chance, tuple(range(12)), tuple(range(12, 24))))
    assert right > wrong + 0.05


def test_within_another_rule_images_are_normalised_by_it():
    extractor = build_extractor("resnet18")
    own = rule_of(extractor)
    assert own is not None
    images = torch.rand(1, 3, 8, 8)
    with normalised(own, NORMALISATIONS["unit"]()):
        assert torch.equal(own(images), images)
    assert not torch.equal(own(images), images)


# ---- names ---------------------------------------------------------------------------------------------------


def test_a_rule_after_a_path_or_a_name_feeds_the_network_by_it(tmp_path):
    path = tmp_path / "weights.safetensors"
    save_file(squeezenet().state_dict(), path)
    for name in (f"{path}~half", "squeezenet1_1~half", "resnet18~half"):
        extractor = build_extractor(name)
        rule = rule_of(extractor)
        assert rule is not None
        assert rule.mean.flatten().tolist() == [0.5, 0.5, 0.5]
        assert build_extractor(extractor.architecture).architecture == extractor.architecture
    assert weight_files(f"{path}~half") == (path,)
    assert brings_weights(f"{path}~half")


def test_what_normalises_nothing_can_have_no_other_rule():
    with pytest.raises(PieceError, match="does not"):
        build_extractor("unet~half")
