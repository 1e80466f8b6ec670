"""A training that is killed outright leaves no broken file, and goes on where it was."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from conftest import write_pairs
from unplateau.cli import main
from unplateau.data.pictures import read_pictures
from unplateau.data.sources import open_data
from unplateau.data.splits import split
from unplateau.errors import UnplateauError
from unplateau.training.batches import BatchStream
from unplateau.training.finetune import FineTuning
from unplateau.training.loop import LAST, finetune
from unplateau.training.losses import CompoundLoss
from unplateau.training.recipe import Recipe
from unplateau.training.train import LOG, STATE, build_pieces, read_log

QUICK = ("--size", "48", "--steps", "24", "--extractor", "reach-15", "--recipe", "evaluations=24, ema=0.9")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("data") / "tiny")


def states(out: Path) -> list[Path]:
    return list((out / STATE).rglob(LAST))


def kill_after_a_state(argv: list[str], out: Path) -> None:
    """Start a training, and end it by SIGKILL once it has kept a state."""
    # As many threads as the tests themselves: the order in which they add decides the last bits.
    own = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    process = subprocess.Popen([sys.executable, "-m", "unplateau", *argv], stderr=subprocess.DEVNULL, env=own)
    try:
        end = time.monotonic() + 120
        while time.monotonic() < end and not states(out) and process.poll() is None:
            time.sleep(0.01)
    finally:
        os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


def count_steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    real, seen = FineTuning.training_step, []

    def step(self: FineTuning, batch: tuple[torch.Tensor, ...], index: int) -> torch.Tensor:
        seen.append(int(batch[2]))
        return real(self, batch, index)

    monkeypatch.setattr(FineTuning, "training_step", step)
    return seen


def test_a_killed_training_goes_on_and_ends_as_an_unbroken_one(folder, tmp_path, monkeypatch):
    argv = ["train", str(folder), *QUICK, "--out"]
    kill_after_a_state([*argv, str(tmp_path / "cut")], tmp_path / "cut")
    (state,) = states(tmp_path / "cut")
    done = torch.load(state, weights_only=True)["global_step"]
    assert 0 < done < 24
    # What a process leaves that is killed while it writes.
    half = state.with_name(f".{LAST}.0a1b2c3d")
    half.write_bytes(state.read_bytes()[:500])
    steps = count_steps(monkeypatch)
    assert main([*argv, str(tmp_path / "cut")]) == 0
    assert steps == list(range(done, 24))
    assert not half.exists()
    assert main([*argv, str(tmp_path / "whole")]) == 0
    for name in (LOG, "model.safetensors", "model.json"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert read_log(tmp_path / "cut" / LOG)[-1].step == 24
    assert json.loads((tmp_path / "cut" / "model.json").read_text())["made"]["recipe"]["ema"] == 0.9


def test_a_training_that_is_asked_to_end_says_so_and_goes_on(folder, tmp_path, monkeypatch, capsys):
    """As a scheduler asks whose time is up: the exit code must not be that of success."""
    real, seen = FineTuning.on_validation_epoch_end, []

    def evaluate(self: FineTuning) -> None:
        seen.append(self)
        if len(seen) == 3:
            signal.raise_signal(signal.SIGTERM)
        real(self)

    argv = ["train", str(folder), *QUICK, "--out", str(tmp_path)]
    with monkeypatch.context() as patch:
        patch.setattr(FineTuning, "on_validation_epoch_end", evaluate)
        assert main(argv) == 2
    assert capsys.readouterr().err.startswith("Stopped. What is finished is kept")
    steps = count_steps(monkeypatch)
    assert main(argv) == 0
    assert steps[0] > 0
    assert steps[-1] == 23


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_loss_that_breaks_names_its_step_and_images_and_keeps_the_last_good_state(
    accumulate, folder, tmp_path, monkeypatch
):
    pictures = read_pictures(open_data(folder), size=48)
    fold, recipe = split(pictures)[0], Recipe(steps=8, batch=4, evaluations=4, accumulate=accumulate)
    model = lambda: build_pieces("reach-5", "linear", 1, frozen=False, seed=0)  # noqa: E731
    unbroken = finetune(model(), pictures, fold, recipe)
    broken = 5 * accumulate - 1
    real = CompoundLoss.forward
    with monkeypatch.context() as patch:
        steps = count_steps(patch)
        patch.setattr(
            CompoundLoss,
            "forward",
            lambda self, logits, masks: real(self, logits, masks) * (torch.nan if steps[-1] == broken else 1),
        )
        with pytest.raises(UnplateauError) as caught:
            finetune(model(), pictures, fold, recipe, folder=tmp_path)
    names = BatchStream(pictures, fold.fit, 4, recipe.batches, 0).names(broken)
    said = str(caught.value)
    assert f"it was nan at step 5, on the images {', '.join(names)}. The state after step 4 is kept." in said
    assert steps[-1] == broken
    kept = torch.load(tmp_path / LAST, weights_only=True)
    assert kept["global_step"] == 4
    assert all(value.isfinite().all() for value in kept["state_dict"].values())
    again = finetune(model(), pictures, fold, recipe, folder=tmp_path)
    assert repr(again.epochs) == repr(unbroken.epochs)


def test_a_state_is_never_seen_half_written(folder, tmp_path, monkeypatch):
    """At whatever moment of a run one looks, the state of the last evaluation is there whole."""
    pictures = read_pictures(open_data(folder), size=48)
    fold, seen = split(pictures)[0], []
    real = os.fsync

    def looking(file: int) -> None:
        real(file)
        if (tmp_path / LAST).exists():
            seen.append(torch.load(tmp_path / LAST, weights_only=True)["global_step"])

    monkeypatch.setattr(os, "fsync", looking)
    recipe = Recipe(steps=6, batch=4, evaluations=6)
    finetune(build_pieces("reach-5", "linear", 1, frozen=False, seed=0), pictures, fold, recipe, folder=tmp_path)
    assert seen == [1, 2, 3, 4, 5]
    assert torch.load(tmp_path / LAST, weights_only=True)["global_step"] == 6
