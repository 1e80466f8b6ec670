"""Several extractors as one, and the remedy of a diagnosis built and held against its prediction."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from benchmarks.upgrades_foretold import ATTEMPTS, read_row
from safetensors.torch import save_file
from torch import Tensor

from conftest import write_pairs
from unplateau import api
from unplateau.cli import main
from unplateau.decoders.catalogue import DECODERS, build_decoder
from unplateau.diagnosis import diagnose
from unplateau.errors import PieceError, UnplateauError
from unplateau.experiments import fits
from unplateau.experiments.comparison import BETTER, UNTOLD, WORSE
from unplateau.experiments.ways import Pieces
from unplateau.extractors.bounded import bounded
from unplateau.extractors.catalogue import build_extractor, weight_files
from unplateau.extractors.fused import CHANNELS, FusedExtractor, fused, fused_name, parts_said
from unplateau.extractors.squeezenet import squeezenet
from unplateau.model import SegmentationModel
from unplateau.scenes import scenes, write_folder
from unplateau.training.saved import load_model
from unplateau.types import Interval
from unplateau.upgrades.building import Foretold, built, covers, fits_together, upgrade_conclusion, ways_to

# ---- several extractors as one -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of random numbers, with a plus in its name."""
    torch.manual_seed(3)
    path = tmp_path_factory.mktemp("weights") / "a+b.safetensors"
    save_file(squeezenet().state_dict(), path)
    return path


def fuse(name: str) -> FusedExtractor:
    torch.manual_seed(0)
    made = build_extractor(name)
    assert isinstance(made, FusedExtractor)
    return made


def noise(height: int, width: int, images: int = 2) -> Tensor:
    return torch.rand(images, 3, height, width, generator=torch.Generator().manual_seed(1))


def learn(made: FusedExtractor, steps: int = 3) -> None:
    optimiser = torch.optim.SGD([each for each in made.parameters() if each.requires_grad], 0.5)
    for _ in range(steps):
        optimiser.zero_grad()
        sum((maps - 1).square().mean() for maps in made.train()(noise(32, 48)).levels).backward()
        optimiser.step()


def test_every_mask_decoder_reads_a_fusion(weights):
    made = fuse(f"fused(unet + {weights})").eval()
    assert [(level.channels, level.stride) for level in made.gives] == [(CHANNELS, 2**power) for power in range(5)]
    for name in DECODERS:
        model = SegmentationModel(made, build_decoder(name, made.gives, 1)).eval()
        assert model(noise(30, 45)).logits.shape == (2, 1, 30, 45)


def test_a_part_that_brings_weights_is_frozen_and_the_others_learn(weights):
    made = fuse(f"fused(reach-9 + {weights})")
    before = {name: each.clone() for name, each in made.state_dict().items()}
    learn(made)
    changed = {name for name, each in made.state_dict().items() if not torch.equal(each, before[name])}
    assert not {name for name in changed if name.startswith("parts.1.")}
    assert any(name.startswith("parts.0.") for name in changed)
    # What reads a frozen part is trained: only the part itself is without gradients.
    assert {"projections.1-2.1.weight", "projections.1-16.1.weight", "gate"} <= changed


def test_what_is_said_of_a_part_has_the_last_word(weights):
    assert fuse(f"fused(reach-9 + {weights})").frozen == (False, True)
    assert fuse(f"fused(frozen:reach-9 + trainable:{weights})").frozen == (True, False)
    assert build_extractor(f"fused(reach-9 + {weights})").pretrained
    assert not build_extractor("fused(reach-9 + reach-5)").pretrained


def test_no_activation_of_a_frozen_part_is_kept(weights):
    """Bytes that wait for the backward pass: what a trained part leaves, a frozen one does not."""

    def kept(name: str) -> int:
        made, sizes = fuse(name).train(), []

        def note(tensor: Tensor) -> Tensor:
            sizes.append(tensor.nbytes)
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            made(noise(64, 64))
        return sum(sizes)

    assert kept(f"fused(reach-5 + {weights})") < 0.7 * kept(f"fused(reach-5 + trainable:{weights})")


def test_gates_start_even_are_learnt_and_can_be_read(weights):
    made = fuse(f"fused(reach-9 + {weights})")
    start = {(gate.part, gate.stride): gate.share for gate in made.gates()}
    assert start["reach-9", 1] == 1.0  # nothing else is as fine
    assert start["reach-9", 2] == start["squeezenet1_1", 2] == 0.5
    assert ("squeezenet1_1", 1) not in start
    learn(made)
    learnt = {(gate.part, gate.stride): gate.share for gate in made.gates()}
    assert learnt != start
    for stride in (1, 2, 4, 8, 16):
        assert sum(share for (_, own), share in learnt.items() if own == stride) == pytest.approx(1)


def test_each_part_sees_what_it_sees_alone(weights):
    made, alone = fuse(f"fused(unet + {weights})").eval(), build_extractor(weights).eval()
    caught: list[Tensor] = []
    made.parts[1].register_forward_hook(lambda _, __, given: caught.extend(given.levels))
    with torch.no_grad():
        made(noise(32, 32))
        expected = alone(noise(32, 32)).levels
    assert all(torch.equal(one, other) for one, other in zip(caught, expected, strict=True))


@pytest.mark.parametrize(
    ("name", "reach"),
    [
        ("fused(reach-5 + reach-9)", 9),
        ("fused(reach-9 + squeezenet1_1)", 207),
        ("fused(colour + reach-9)", 9),
        ("fused(reach-9 + unet)", np.inf),
        ("fused(reach-9 + resnet18)", np.inf),
    ],
)
def test_the_reach_is_the_longest_of_the_parts(name, reach):
    assert build_extractor(name).reach == reach


@pytest.mark.parametrize("name", ["fused(reach-5 + reach-9)", "fused(reach-33 + squeezenet1_1)"])
def test_no_cell_sees_further_than_the_reach(name):
    made = fuse(name).eval()
    side = 16 * (int(made.reach) // 16 + 4)
    images = noise(16, side, images=1).double().requires_grad_()
    made.double()
    for level, maps in zip(made.gives, made(images).levels, strict=True):
        (seen,) = torch.autograd.grad(maps[..., side // level.stride // 2].sum(), images, retain_graph=True)
        columns = torch.nonzero(seen.abs().sum((0, 1, 2))).flatten()
        assert columns.max() - columns.min() + 1 <= made.reach


def test_a_map_keeps_its_place_on_another_grid():
    """A ramp in a part of stride 14 is the same ramp on the common grid of 16."""
    from unplateau.extractors.fused import moved

    ramp = ((torch.arange(16) + 0.5) * 14).reshape(1, 1, 1, 16).expand(1, 1, 16, 16)
    there = moved(ramp, 14, 16, (14, 14))
    assert torch.allclose(there[0, 0, 0, 1:-1], ((torch.arange(14) + 0.5) * 16)[1:-1], atol=1e-3)
    assert torch.equal(moved(ramp, 14, 28, (8, 8))[0, 0, 0], (torch.arange(8) + 0.5) * 28)


def test_names_are_taken_apart_and_put_together():
    assert [part.name for part in parts_said("fused(unet + runs/a+b.safetensors)")] == ["unet", "runs/a+b.safetensors"]
    assert [part.name for part in parts_said("resnet18")] == ["resnet18"]
    assert fused_name("fused(unet + a.pth)", "pretrained:resnet18") == "fused(unet + a.pth + pretrained:resnet18)"
    said = parts_said("fused(frozen:pretrained:resnet18 + timm/resnet18:0,1)")
    assert (said[0].name, said[0].frozen, said[0].pretrained) == ("resnet18", True, True)
    assert (said[1].name, said[1].frozen, said[1].pretrained) == ("timm/resnet18:0,1", None, False)


def test_outcomes_depend_on_the_weights_in_the_parts(weights):
    assert weight_files(f"fused(unet + {weights})") == weight_files(str(weights)) == (weights,)
    assert weight_files(f"timm/resnet18@{weights}") == (weights,)
    assert weight_files("fused(unet + resnet18)") == ()


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: build_extractor("fused(unet)"), "at least two extractors.*'fused\\(unet\\)'"),
        (lambda: build_extractor("fused(unet+resnet18)"), "with blanks around the"),
        (lambda: build_extractor("fused(unet + )"), "at least two"),
        (lambda: build_extractor("fused(unet + fused(unet + colour))"), "must not hold another"),
        (lambda: build_extractor("fused(unet + resnett18)"), "did you mean 'resnet18'"),
        (lambda: build_extractor("fused(unet + no.safetensors)"), "no.safetensors"),
        (lambda: build_extractor("fused(unet + colour)", weights=Path("a.pth")), "`weights` must go to one network"),
        (lambda: fused((bounded(5),)), "`parts` must be at least two"),
    ],
)
def test_a_fusion_that_cannot_be_is_refused_in_one_sentence(build, says):
    with pytest.raises(PieceError, match=says):
        build()


def test_a_fusion_is_trained_saved_loaded_and_asked(weights, tmp_path):
    data = write_pairs(tmp_path / "tiny")
    own = Path(shutil.copy(weights, tmp_path / "own.safetensors"))
    name, out = f"fused(reach-5 + {own})", tmp_path / "model"
    argv = ["train", str(data), "--extractor", name, "--decoder", "conv", "--size", "48", "--steps", "2"]
    assert main([*argv, "--out", str(out)]) == 0
    model = load_model(out).model
    assert isinstance(model.extractor, FusedExtractor)
    assert model.extractor.frozen == (False, True)
    kept = build_extractor(weights).state_dict()
    found = {
        name.removeprefix("parts.1."): each
        for name, each in model.extractor.state_dict().items()
        if name.startswith("parts.1.")
    }
    assert found.keys() == kept.keys()
    assert all(torch.equal(found[name], kept[name]) for name in kept)
    own.unlink()  # a saved model needs nothing but itself
    assert main(["predict", str(out), str(data / "images"), "--out", str(tmp_path / "masks")]) == 0
    assert len(list((tmp_path / "masks" / "scores").glob("*.png"))) == 12


# ---- which pieces a remedy names -----------------------------------------------------------------------------

LOCAL = Pieces("reach-9", "linear")

REMEDIES = {
    "more-context": Pieces("unet", "linear"),
    "larger-extractor": Pieces("reach-9-24", "linear"),
    "stronger-decoder": Pieces("reach-9", "conv"),
    "richer-pretraining": Pieces("fused(reach-9 + pretrained:resnet18)", "linear"),
}


@pytest.mark.parametrize(("remedy", "pieces"), REMEDIES.items(), ids=REMEDIES)
def test_a_remedy_changes_one_piece_and_nothing_else(remedy, pieces):
    assert built(remedy, LOCAL, "resnet18", alone=False) == pieces


def test_a_candidate_alone_is_frozen_under_the_same_decoder():
    assert built("richer-pretraining", LOCAL, "a.pth", alone=True) == Pieces("a.pth", "linear", True, True)
    assert built("richer-pretraining", LOCAL, "a.pth", alone=False).extractor == "fused(reach-9 + a.pth)"


def test_a_candidate_that_is_said_to_be_trainable_is_trained():
    alone = built("richer-pretraining", LOCAL, "trainable:a.pth", alone=True)
    assert alone == Pieces("a.pth", "linear", frozen=False, pretrained=True)
    assert built("richer-pretraining", LOCAL, "frozen:a.pth", alone=True).frozen
    fused_with = built("richer-pretraining", LOCAL, "trainable:a.pth", alone=False)
    assert fused_with.extractor == "fused(reach-9 + trainable:a.pth)"


@pytest.mark.parametrize("said", ["a.pth", "pretrained:resnet18"])
def test_a_candidate_of_which_nothing_is_said_may_be_trained_in_the_baselines_place_or_fused(said):
    cheap, dear = ways_to("richer-pretraining", LOCAL, said, alone=False)
    assert cheap == Pieces(said.rpartition(":")[2], "linear", frozen=False, pretrained=True)
    assert dear == built("richer-pretraining", LOCAL, said, alone=False)


@pytest.mark.parametrize(
    ("remedy", "baseline", "candidate", "alone"),
    [
        ("richer-pretraining", LOCAL, "frozen:a.pth", False),
        ("richer-pretraining", LOCAL, "trainable:a.pth", False),
        ("richer-pretraining", LOCAL, "a.pth", True),
        ("more-context", LOCAL, "a.pth", False),
        ("richer-pretraining", Pieces("a.pth", "linear"), "a.pth", False),  # it is the baseline
    ],
)
def test_what_was_said_is_the_only_way(remedy, baseline, candidate, alone):
    assert ways_to(remedy, baseline, candidate, alone=alone) == (built(remedy, baseline, candidate, alone=alone),)


@pytest.mark.parametrize(
    ("baseline", "part"),
    [
        (Pieces("own.safetensors", "conv"), "trainable:own.safetensors"),
        (Pieces("own.safetensors", "conv", frozen=True), "frozen:own.safetensors"),
        (Pieces("fused(unet + b.pth)", "conv"), "unet + b.pth"),
    ],
)
def test_in_a_fusion_the_baseline_learns_where_it_learnt_before(baseline, part):
    pieces = built("richer-pretraining", baseline, "timm/resnet18@a.pth", alone=False)
    assert pieces == Pieces(f"fused({part} + timm/resnet18@a.pth)", "conv")


@pytest.mark.parametrize(
    ("remedy", "baseline", "says"),
    [
        ("train-longer", LOCAL, "'train-longer' is neither: train again with more `steps`"),
        ("more-data", LOCAL, "gather and label more groups"),
        ("fix-pairing", LOCAL, "mend the data"),
        ("more-contxt", LOCAL, "did you mean 'more-context'"),
        ("richer-pretraining", LOCAL, "needs an extractor trained elsewhere"),
        ("larger-extractor", Pieces("colour", "linear"), "of 'colour' it knows none"),
        ("more-context", Pieces("unet", "linear"), "must change the pieces"),
    ],
)
def test_what_cannot_be_built_is_refused_with_what_to_do(remedy, baseline, says):
    with pytest.raises(UnplateauError, match=says) as caught:
        built(remedy, baseline, None, alone=False)
    assert str(caught.value)[-1] in ".?"


# ---- predicted against achieved ------------------------------------------------------------------------------

PREDICTED = Interval(0.10, 0.06, 0.14)


@pytest.mark.parametrize(
    ("achieved", "verdict", "covered", "says"),
    [
        (Interval(0.08, 0.05, 0.11), BETTER, True, "holds that"),
        (Interval(0.20, 0.15, 0.25), BETTER, False, "more than the prediction"),
        (Interval(0.02, -0.01, 0.05), UNTOLD, False, r"fell short of the prediction, [^(]*: seeing the whole"),
        (Interval(0.05, 0.01, 0.09), BETTER, False, r"fell short .*the two intervals meet"),
        (Interval(-0.05, -0.08, -0.02), WORSE, False, "costs the baseline.*fell short"),
        (Interval(0.08, np.nan, np.nan), UNTOLD, True, r"\+0.080 IoU on the one group that reports.*holds that"),
    ],
)
def test_the_conclusion_holds_the_gain_against_the_prediction(achieved, verdict, covered, says):
    foretold = Foretold("more-context", PREDICTED, "", listed=True)
    assert covers(PREDICTED, achieved) is covered
    said = upgrade_conclusion(foretold, Pieces("unet", "linear"), achieved, verdict)
    assert re.search(says, said)


@pytest.mark.parametrize("predicted", [None, Interval(-0.06, -0.1, -0.02)])
def test_an_upgrade_that_costs_says_to_keep_the_baseline_whatever_was_predicted(predicted):
    foretold = Foretold("richer-pretraining", predicted, "a.pth", listed=True)
    said = upgrade_conclusion(foretold, Pieces("fused(unet + a.pth)", "linear"), Interval(-0.05, -0.08, -0.02), WORSE)
    assert re.search(r"costs the baseline.*Keep the baseline: what the candidate adds .* it alone\.$", said)


def test_the_benchmark_reads_a_gain_that_has_no_interval():
    """Of a single group that reports; what cannot be told is null in JSON."""
    said = {"remedy": "more-context", "listed": True, "predicted": {"mean": 0.1, "low": 0.0, "high": 0.2}}
    row = read_row(ATTEMPTS[0], {**said, "achieved": {"mean": 0.15, "low": None, "high": None}})
    assert row.inside
    assert "| +0.150 [+nan, +nan] | yes |" in str(row)


def test_a_forced_upgrade_says_what_had_been_advised():
    nothing, some = Interval(0.0, -0.01, 0.01), Interval(0.1, 0.05, 0.15)
    foretold = Foretold("richer-pretraining", nothing, "a.pth", listed=False)
    pieces = Pieces("fused(unet + b.pth)", "linear")
    said = upgrade_conclusion(foretold, pieces, nothing, UNTOLD)
    assert "advised against it, and nothing was gained" in said
    assert "made for another candidate, 'a.pth'" in said
    assert "wrongly" in upgrade_conclusion(foretold, pieces, some, BETTER)
    assert covers(None, some) is None
    assert "predicted nothing" in upgrade_conclusion(Foretold("more-context", None, "", True), pieces, some, BETTER)


# ---- the verb ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "context"
    write_folder(scenes("context", 16, size=(40, 40), seed=0), path)
    return path


@pytest.fixture(scope="module")
def diagnosed(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real diagnosis of too few steps, which says nothing of itself; `saying` makes it say something."""
    out = tmp_path_factory.mktemp("diagnosed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(diagnose, "settled", lambda *_: True)  # the ladder has no part in this
        api.diagnose(folder, baseline="reach-9", out=out, size=40, steps=2, folds=2)
    return out


@pytest.fixture
def saying(diagnosed: Path, tmp_path: Path) -> Callable[..., Path]:
    """saying("more-context") is the diagnosis with that as its only remedy; other keywords replace what it holds."""

    def change(*listed: str, **others: Any) -> Path:
        content = json.loads((diagnosed / "diagnosis.json").read_text())
        gain = {"mean": 0.3, "low": 0.2, "high": 0.4}
        nothing = {"mean": 0.001, "low": -0.01, "high": 0.012}
        rows = {name: {"name": name, "gain": gain, "cost": "minutes", "evidence": []} for name in listed}
        content["remedies"] = list(rows.values())
        content["considered"] = [
            *rows.values(),
            {"name": "stronger-decoder", "gain": nothing, "cost": "", "evidence": []},
        ]
        content.update(others)
        path = tmp_path / "said.json"
        path.write_text(json.dumps(content))
        return path

    return change


def test_the_diagnosis_says_how_to_train_its_baseline_again(diagnosed):
    setup = json.loads((diagnosed / "diagnosis.json").read_text())["setup"]
    assert (setup["positive"], setup["folds"], setup["frozen"], setup["candidate"]) == ([1], 2, False, None)
    assert setup["recipe"]["steps"] == 2


def test_an_upgrade_is_built_trained_and_held_against_its_prediction(folder, saying, tmp_path, capsys):
    out = tmp_path / "upgrade"
    assert main(["upgrade", str(folder), "--from", str(saying("more-context")), "--out", str(out)]) == 0
    content = json.loads((out / "upgrade.json").read_text())
    before, after = content["models"]
    assert (before["extractor"], before["decoder"]) == ("reach-9", "linear")
    assert (after["extractor"], after["decoder"]) == ("unet", "linear")
    assert np.shape(before["trainings"]) == np.shape(after["trainings"]) == (1, 2)
    assert content["recipe"]["steps"] == 2
    assert content["predicted"] == {"mean": 0.3, "low": 0.2, "high": 0.4}
    gain = content["achieved"]
    assert gain["low"] <= gain["mean"] <= gain["high"]
    assert content["covered"] is (0.2 <= gain["mean"] <= 0.4)
    assert "fell short" in content["conclusion"]
    assert "predicted: +0.300" in capsys.readouterr().out
    assert "| predicted | +0.300" in (out / "upgrade.md").read_text()


def test_an_upgrade_is_not_computed_again_and_is_the_same(folder, saying, tmp_path, monkeypatch):
    said, out = saying("more-context"), tmp_path / "upgrade"
    first = api.upgrade(folder, diagnosis=said, out=out)
    monkeypatch.setattr(fits, "run_fit", lambda *_: pytest.fail("trained again"))
    again = api.upgrade(folder, diagnosis=said, out=out)
    assert again == first


def test_a_candidate_is_fused_with_the_baseline_or_stands_alone(folder, saying, weights, tmp_path):
    said = saying("richer-pretraining")
    both = api.upgrade(folder, diagnosis=said, extractor=f"frozen:{weights}", out=tmp_path / "a")
    alone = api.upgrade(folder, diagnosis=said, extractor=weights, alone=True, out=tmp_path / "b")
    assert both["models"][1]["extractor"] == f"fused(reach-9 + frozen:{weights})"
    assert both["ways"] == alone["ways"] == []
    assert (alone["models"][1]["extractor"], alone["models"][1]["frozen"]) == (str(weights), True)
    assert both["models"][0]["trainings"] == alone["models"][0]["trainings"]


def test_of_a_candidate_of_which_nothing_is_said_both_ways_are_tried_once_a_fold(folder, saying, weights, tmp_path):
    told: list[tuple[int, int]] = []
    content = api.upgrade(
        folder,
        diagnosis=saying("richer-pretraining"),
        extractor=weights,
        seeds=2,
        out=tmp_path / "a",
        told=lambda done, total, _: told.append((done, total)),
    )
    cheap, dear = content["ways"]
    assert cheap["pieces"] == {"extractor": str(weights), "decoder": "linear", "frozen": False, "pretrained": True}
    assert dear["pieces"]["extractor"] == f"fused(reach-9 + {weights})"
    assert sorted(cheap["folds"] + dear["folds"]) == [0, 1]
    # Two folds by two seeds of the baseline and of what was taken, and once a fold what was not.
    assert told[-1] == (10, 10)
    assert [done for done, _ in told] == sorted({done for done, _ in told})
    assert content["models"][1]["extractor"] in (str(weights), dear["pieces"]["extractor"])
    assert "Of two ways to use the candidate the images that choose took" in content["conclusion"]


def test_a_way_that_nobody_named_is_left_out_where_the_decoder_cannot_read_it():
    """Patches of 14 pixels are no power of two; a fusion moves them to one."""
    assert not fits_together(Pieces("timm/vit_small_patch14_dinov2:0", "unet"))
    assert fits_together(Pieces("fused(reach-5 + reach-9)", "unet"))


def test_what_was_advised_against_is_trained_when_forced(folder, saying, tmp_path):
    options = {"diagnosis": saying("more-context"), "remedy": "stronger-decoder", "out": tmp_path / "a"}
    with pytest.raises(UnplateauError, match=r"advises against 'stronger-decoder'.*predicted to gain nothing: \+0.001"):
        api.upgrade(folder, **options)
    content = api.upgrade(folder, force=True, **options)
    assert not content["listed"]
    assert content["models"][1]["decoder"] == "conv"
    assert "advised against it" in content["conclusion"]


REFUSED: dict[str, tuple[Callable[[Callable[..., Path]], list[str]], str]] = {
    "no remedies": (lambda said: [str(said())], "advises against any upgrade"),
    "unknown remedy": (lambda said: [str(said("more-context")), "--remedy", "more-pizza"], "got 'more-pizza'"),
    "not measured": (
        lambda said: [str(said("more-context")), "--remedy", "larger-extractor"],
        "it was not measured. It names more-context",
    ),
    "not of pieces": (lambda said: [str(said("more-data", "more-context"))], "'more-data' is neither"),
    "no candidate": (lambda said: [str(said("richer-pretraining"))], "needs an extractor trained elsewhere"),
    "missing file": (lambda said: ["nowhere/diagnosis.json"], "nowhere/diagnosis.json"),
    "an older diagnosis": (lambda said: [str(said("more-context", setup=None))], "must say how its baseline"),
    "no seed": (lambda said: [str(said("more-context", seed=None))], "must say how its baseline"),
    "a recipe of its own": (
        lambda said: [str(said("more-context", setup={"folds": 2, "recipe": {"stepps": 3}}))],
        "no field `stepps`",
    ),
    "no such file": (lambda said: [str(said("richer-pretraining")), "--extractor", "no.safetensors"], "no.safetensors"),
    "seeds": (lambda said: [str(said("more-context")), "--seeds", "0"], "`seeds` must be at least 1"),
}


@pytest.mark.parametrize(("argv", "says"), REFUSED.values(), ids=REFUSED)
def test_bad_input_is_one_sentence(argv, says, folder, saying, tmp_path, capsys):
    assert main(["upgrade", str(folder), "--out", str(tmp_path / "out"), "--from", *argv(saying)]) == 2
    said = capsys.readouterr().err
    assert says in said
    assert said.count("\n") == 1
    assert said[-2] in ".?"


def test_a_diagnosis_of_other_data_is_refused(saying, tmp_path, capsys):
    said = saying("more-context")
    for count, says in ((9, "of images it had 16, here are 9"), (16, "of these data")):
        other = tmp_path / f"other-{count}"
        write_pairs(other, count=count, height=40, width=40, seed=1)
        assert main(["upgrade", str(other), "--from", str(said), "--out", str(tmp_path / "out")]) == 2
        told = capsys.readouterr().err
        assert says in told
        assert told.count("\n") == 1
