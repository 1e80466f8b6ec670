"""Pretraining learns, resumes, keeps the best, stops when there is nothing to learn, and its file is an extractor."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from conftest import write_pairs
from unplateau import api
from unplateau.cli import main
from unplateau.data.unlabelled import Unlabelled, read_unlabelled
from unplateau.diagnosis.diagnose import Order
from unplateau.errors import DataError, PieceError, UnplateauError
from unplateau.extractors.catalogue import build_extractor
from unplateau.pretraining import loop
from unplateau.pretraining.base import information_of, spread_of
from unplateau.pretraining.course import EXTRACTOR, SERIES, Schooling
from unplateau.pretraining.heads import PROTOTYPES
from unplateau.pretraining.loop import kept_of, pretrain_extractor
from unplateau.pretraining.methods import METHODS, RATES, build_method
from unplateau.training.recipe import Recipe
from unplateau.training.saved import save_extractor

SMALL = Schooling(steps=6, batch=4, evaluations=3)


def discs(count: int = 24, side: int = 32, seed: int = 0) -> Unlabelled:
    """Bright discs on striped ground."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:side, :side]
    images = []
    for _ in range(count):
        top, left = rng.uniform(8, side - 8, 2)
        disc = (rows - top) ** 2 + (columns - left) ** 2 < 40
        ground = 60 + 40 * np.sin(columns / rng.uniform(1, 3)) + rng.normal(0, 5, (side, side))
        tint = rng.uniform(0.6, 1.0, (3, 1, 1))
        images.append(np.clip(np.where(disc, 200, ground) * tint, 0, 255).astype(np.uint8))
    return Unlabelled(torch.from_numpy(np.stack(images)), tuple(f"d{index}.png" for index in range(count)), count)


def taught(
    folder: Path, schooling: Schooling = SMALL, extractor: str = "reach-9-4", seed: int = 0, pool=None, told=None
):
    return pretrain_extractor(
        pool or discs(),
        extractor=extractor,
        schooling=schooling,
        seed=seed,
        folder=folder,
        told=told or (lambda *_: None),
    )


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / EXTRACTOR)


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


# ---- methods and extractors ----------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("extractor", ["unet-8", "mobilenetv3_small_100", "vit_tiny_patch16_224", "families"])
def test_each_method_trains_each_kind_of_extractor(method, extractor):
    student = build_extractor(extractor)
    before = {name: each.clone() for name, each in student.named_parameters()}
    taught_by = build_method(method, student)
    optimizer = torch.optim.SGD([each for each in taught_by.parameters() if each.requires_grad], 0.1)
    generator = torch.Generator().manual_seed(0)
    outcome = taught_by(discs(4, 32).images.float().div(255), generator)
    outcome.loss.backward()
    optimizer.step()
    taught_by.advance(0)
    assert torch.isfinite(outcome.loss)
    changed = [name for name, each in student.named_parameters() if not torch.equal(each, before[name])]
    assert len(changed) > 0.9 * len(before)
    assert taught_by.kept.gives == student.gives


@pytest.mark.parametrize("method", ["dense", "simmim", "families"])
def test_a_method_with_a_fixed_aim_lowers_its_loss(method, tmp_path):
    series = taught(tmp_path, Schooling(method, steps=30, batch=8, evaluations=3))
    assert series[-1].loss < series[1].loss


def test_self_distillation_agrees_beyond_chance_and_still_tells_images_apart(tmp_path, monkeypatch):
    """Its loss is low at first, when all images share a prototype, and rises as they part: chance is the yardstick."""
    spreads = []
    whole = loop._Run._refuse_collapsed
    monkeypatch.setattr(
        loop._Run, "_refuse_collapsed", lambda run, spread: [spreads.append(spread), whole(run, spread)]
    )
    series = taught(tmp_path, Schooling("dino", steps=30, batch=8, evaluations=3, learning_rate=RATES["dino"]))
    assert series[-1].loss < 2 * math.log(PROTOTYPES)
    assert min(spreads) > loop.COLLAPSED


def test_the_teacher_follows_the_student_and_no_gradient():
    method = build_method("dense", build_extractor("unet-8"))
    with torch.no_grad():
        for weight in method.student.parameters():
            weight.add_(1.0)
    apart = _gaps(method)
    method.advance(1_000)
    assert all(0.98 < after / before < 1 for before, after in zip(apart, _gaps(method), strict=True))
    assert not any(weight.requires_grad for weight in method.teacher.parameters())


def _pairs(method):
    return list(zip(method.student.parameters(), method.teacher.parameters(), strict=True))


def _gaps(method) -> list[float]:
    return [float((student - teacher).detach().abs().mean()) for student, teacher in _pairs(method)]


def test_a_method_that_does_not_exist_is_refused_with_near_names(tmp_path):
    with pytest.raises(UnplateauError, match=r"`method` must be one of .*got 'dinov9'.*did you mean 'dino'"):
        api.pretrain(tmp_path, method="dinov9", out=tmp_path / "out")


# ---- the series and what is kept -----------------------------------------------------------------------------


def test_the_extractor_of_the_best_dense_quality_is_kept(tmp_path, monkeypatch):
    kept = []
    monkeypatch.setattr(loop, "save_extractor", lambda extractor, path: kept.append(save_extractor(extractor, path)))
    scores = iter([9.0, 1.0, 3.0, 2.0])
    measure = loop.dense_quality
    monkeypatch.setattr(
        loop, "dense_quality", lambda features: replace(measure(features), separation=next(scores), rank=0.0)
    )
    series = taught(tmp_path)
    assert [point.step for point in series] == [0, 2, 4, 6]
    assert (kept_of(series).step, len(kept)) == (4, 2)
    saved = json.loads((tmp_path / SERIES).read_text())
    assert saved["kept_step"] == 4
    assert [point["separation"] for point in saved["series"]] == [9.0, 1.0, 3.0, 2.0]


def test_the_same_seed_gives_the_same_extractor_and_another_seed_another(tmp_path):
    for name, seed in (("one", 3), ("two", 3), ("other", 4)):
        taught(tmp_path / name, seed=seed)
    assert same(weights(tmp_path / "one"), weights(tmp_path / "two"))
    assert not same(weights(tmp_path / "one"), weights(tmp_path / "other"))


def test_batch_statistics_are_those_of_whole_images(tmp_path):
    taught(tmp_path)
    extractor = build_extractor(str(tmp_path / EXTRACTOR))
    images = discs().images.float().div(255)
    seen = [[]]
    norm = next(each for each in extractor.modules() if isinstance(each, torch.nn.BatchNorm2d))
    norm.register_forward_hook(lambda module, given, answer: seen[0].append(given[0]))
    extractor.eval()(images)
    assert norm.running_mean.allclose(seen[0][0].mean((0, 2, 3)), rtol=0.2, atol=0.05)


# ---- interrupted ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_an_interrupted_pretraining_ends_as_an_unbroken_one(method, tmp_path):
    schooling = replace(SMALL, method=method)
    done: list[int] = []

    def stop_at_five(step: int, *_: object) -> None:
        done.append(step)
        if len(done) == 5:
            raise KeyboardInterrupt

    unbroken = taught(tmp_path / "unbroken", schooling)
    with pytest.raises(KeyboardInterrupt):
        taught(tmp_path / "broken", schooling, told=stop_at_five)
    series = taught(tmp_path / "broken", schooling, told=stop_at_five)
    assert done == [1, 2, 3, 4, 5, 5, 6]
    assert str(series) == str(unbroken)
    assert same(weights(tmp_path / "broken"), weights(tmp_path / "unbroken"))


KILLED = """
import sys
from pathlib import Path
import torch
from unplateau.data.unlabelled import Unlabelled
from unplateau.pretraining.course import Schooling
from unplateau.pretraining.loop import pretrain_extractor
torch.set_num_threads(1)
pool = Unlabelled(torch.load(sys.argv[1]), tuple(sys.argv[3].split()), 24)
schooling = Schooling("simmim", steps=36, batch=4, evaluations=12)
pretrain_extractor(
    pool, extractor="reach-9-4", schooling=schooling, seed=0, folder=Path(sys.argv[2]), told=lambda *_: None
)
"""
LONG = Schooling("simmim", steps=36, batch=4, evaluations=12)


def test_a_killed_pretraining_goes_on_and_never_leaves_a_broken_file(tmp_path):
    pool, folder = discs(), tmp_path / "killed"
    torch.save(pool.images, tmp_path / "images.pt")
    command = [sys.executable, "-c", KILLED, str(tmp_path / "images.pt"), str(folder), " ".join(pool.names)]
    env = os.environ | {"PYTHONPATH": str(Path(loop.__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, env=env) as process:
        try:
            reached = _watch(folder, process, until=9)
        finally:
            process.send_signal(signal.SIGKILL)
    assert 9 <= reached < LONG.steps
    done: list[int] = []
    series = taught(folder, LONG, told=lambda step, *_: done.append(step))
    unbroken = taught(tmp_path / "unbroken", LONG)
    assert 6 < done[0] < done[-1] == LONG.steps
    assert str(series) == str(unbroken)
    assert same(weights(folder), weights(tmp_path / "unbroken"))
    assert sorted(map(str, _files(folder))) == sorted(map(str, _files(tmp_path / "unbroken")))


def _files(folder: Path) -> list[Path]:
    return [path.relative_to(folder) for path in folder.rglob("*")]


def _watch(folder: Path, process: subprocess.Popen[bytes], until: int) -> int:
    """Read every file as soon as it is there, again and again, until the run has reached a step."""
    give_up = time.monotonic() + 240
    while process.poll() is None and time.monotonic() < give_up:
        if (folder / EXTRACTOR).exists():
            assert weights(folder)
        if (folder / SERIES).exists():
            step = json.loads((folder / SERIES).read_text())["series"][-1]["step"]
            if step >= until:
                return int(step)
        time.sleep(0.02)
    return -1


def test_a_finished_pretraining_makes_no_further_step(tmp_path):
    first = taught(tmp_path)
    assert str(taught(tmp_path, told=lambda *_: pytest.fail("a step was made"))) == str(first)


def test_another_question_does_not_go_on_from_the_state_of_the_last(tmp_path):
    taught(tmp_path)
    done: list[int] = []
    taught(tmp_path, replace(SMALL, method="simmim"), told=lambda step, *_: done.append(step))
    assert done == [1, 2, 3, 4, 5, 6]


def test_a_damaged_state_is_named(tmp_path):
    taught(tmp_path)
    state = next((tmp_path / "state").iterdir())
    state.write_bytes(state.read_bytes()[:100])
    with pytest.raises(UnplateauError, match=r"whole state of an interrupted pretraining.*Delete it"):
        taught(tmp_path)


# ---- what stops it -------------------------------------------------------------------------------------------


def test_a_loss_that_is_no_number_names_step_and_images_and_keeps_what_was_good(tmp_path, monkeypatch):
    whole = loop._Run.advance

    def broken(run):
        if run.state.step == 4:
            with torch.no_grad():
                next(iter(run.method.student.parameters())).fill_(float("nan"))
        whole(run)

    monkeypatch.setattr(loop._Run, "advance", broken)
    with pytest.raises(
        UnplateauError, match=r"not at step 5, on d\d+\.png, .*holds the extractor of step [24]\."
    ) as stop:
        taught(tmp_path)
    assert str(stop.value).count(".png") == SMALL.batch
    assert all(torch.isfinite(each).all() for each in weights(tmp_path).values())
    monkeypatch.undo()
    assert taught(tmp_path)[-1].step == SMALL.steps


@pytest.mark.parametrize("method", METHODS)
def test_a_collapse_stops_with_one_clear_sentence(method, tmp_path):
    """An extractor that answers the same to every image, and a rate at which it cannot recover."""
    dead = build_extractor("unet-4")
    with torch.no_grad():
        for weight in dead.parameters():
            weight.zero_()
        dead.up[0][1].bias.fill_(1.0)
    save_extractor(dead, tmp_path / "dead.safetensors")
    schooling = Schooling(method, steps=60, batch=4, evaluations=1, learning_rate=1e-9)
    with pytest.raises(UnplateauError, match=rf"the method '{method}' gives all of them the same.*collapsed"):
        taught(tmp_path / "out", schooling, extractor=str(tmp_path / "dead.safetensors"))


def test_spread_and_information_are_nothing_in_every_collapse_and_something_otherwise():
    rows = torch.randn(32, 16, generator=torch.Generator().manual_seed(0))
    assert float(spread_of(rows)) > 0.9
    assert float(spread_of(torch.ones(32, 16))) < 1e-3
    assert float(information_of(10 * rows)) > 0.5
    assert float(information_of(torch.zeros(32, 16))) == pytest.approx(0, abs=1e-5)
    assert float(information_of(10 * rows[:1].expand(32, 16))) == pytest.approx(0, abs=1e-5)


# ---- reading images ------------------------------------------------------------------------------------------


def test_images_are_read_with_or_without_masks(tmp_path):
    folder = write_pairs(tmp_path / "tiny")
    pools = [read_unlabelled(each, size=32) for each in (folder, folder / "images")]
    assert pools[0].names == pools[1].names
    assert torch.equal(pools[0].images, pools[1].images)
    assert pools[0].size == (24, 32)


def test_a_folder_too_large_for_memory_is_sampled(tmp_path):
    folder = write_pairs(tmp_path / "tiny")
    pool = read_unlabelled(folder, size=32, most_bytes=10 * 3 * 24 * 32, seed=1)
    assert (len(pool), pool.found) == (10, 12)
    assert pool.names == read_unlabelled(folder, size=32, most_bytes=10 * 3 * 24 * 32, seed=1).names


def test_an_image_that_cannot_be_read_is_named_before_anything_is_trained(tmp_path):
    folder = write_pairs(tmp_path / "tiny")
    (folder / "images" / "p05.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"p05\.png is not an image"):
        api.pretrain(folder, out=tmp_path / "out", size=32, steps=2)
    assert not (tmp_path / "out" / EXTRACTOR).exists()


def test_too_few_images_are_refused(tmp_path):
    folder = write_pairs(tmp_path / "tiny", count=5)
    with pytest.raises(DataError, match=r"at least 8 images to learn from; .* holds 5"):
        api.pretrain(folder, out=tmp_path / "out")


# ---- end to end ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["unet-8", "reach-33", "colour", "squeezenet1_1-imagenet", "timm/resnet18:0,1,2", "families"]
)
def test_a_saved_extractor_comes_back_as_it_was(name, tmp_path):
    torch.manual_seed(0)
    extractor = build_extractor(name).eval()
    save_extractor(extractor, tmp_path / "e.safetensors")
    again = build_extractor(str(tmp_path / "e.safetensors")).eval()
    assert (again.architecture, again.gives, again.pretrained) == (extractor.architecture, extractor.gives, True)
    images = torch.rand(1, 3, 64, 64)
    for one, other in zip(extractor(images).levels, again(images).levels, strict=True):
        assert torch.equal(one, other)


def test_a_saved_extractor_of_another_network_is_refused(tmp_path):
    save_extractor(build_extractor("unet-8"), tmp_path / "e.safetensors")
    whole = (tmp_path / "e.safetensors").read_bytes()
    (tmp_path / "e.safetensors").write_bytes(whole.replace(b'"unet-8"', b'"unet-4"'))
    with pytest.raises(PieceError, match="must have the shapes of unet-4"):
        build_extractor(str(tmp_path / "e.safetensors"))


def test_what_was_pretrained_is_an_extractor_for_train_frozen_and_for_diagnose(tmp_path, capsys):
    folder, out = write_pairs(tmp_path / "tiny"), tmp_path / "pre"
    spoken = ["pretrain", str(folder), "--out", str(out), "--size", "32", "--steps", "4", "--extractor", "unet-8"]
    assert main(spoken) == 0
    assert kept_step(capsys.readouterr().out) in range(1, 5)
    file = str(out / EXTRACTOR)
    trained = ["train", str(folder), "--extractor", file, "--frozen", "--size", "32", "--steps", "4"]
    assert main([*trained, "--out", str(tmp_path / "model")]) == 0
    kept = load_file(tmp_path / "model" / "model.safetensors")
    ours = {f"extractor.{name}": each for name, each in weights(out).items()}
    assert all(torch.equal(each, kept[name]) for name, each in ours.items() if not name.endswith("batches_tracked"))
    order = Order(file, Recipe(steps=2), 0, tmp_path / "cache", lambda *_: None)
    candidate, control = build_extractor(order.candidate, pretrained=True), build_extractor(order.untrained)
    assert candidate.gives == control.gives
    assert not same(dict(candidate.named_parameters()), dict(control.named_parameters()))


def kept_step(said: str) -> int:
    return int(said.split("Kept: step ")[1].split()[0])


def test_pretraining_goes_on_from_a_file(tmp_path):
    save_extractor(build_extractor("unet-8"), tmp_path / "start.safetensors")
    series = taught(tmp_path / "out", extractor=str(tmp_path / "start.safetensors"))
    assert series[-1].step == SMALL.steps
    assert build_extractor(str(tmp_path / "out" / EXTRACTOR)).architecture == "unet-8"
