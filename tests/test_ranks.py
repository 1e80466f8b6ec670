"""One training in two processes is the training of one, and what stops it is heard."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import chain
from pathlib import Path

import pytest
import torch
from torch import nn

from unplateau.data.pictures import read_pictures
from unplateau.data.sources import open_data
from unplateau.data.splits import split
from unplateau.errors import UnplateauError
from unplateau.scenes import scenes
from unplateau.training import loop, ranks
from unplateau.training.gathered import GatheredBatchNorm, gather_statistics, part
from unplateau.training.loop import LAST, Trained
from unplateau.training.ranks import Rank, Task, finetune_in_ranks
from unplateau.training.recipe import Recipe
from unplateau.training.train import build_pieces
from unplateau.types import Pictures

RECIPE = Recipe(
    steps=6, batch=4, evaluations=2, half_size=0.0, class_weights="auto", positive_rate=0.5, ema=0.5, accumulate=2
)


@pytest.fixture(scope="module")
def planted() -> Pictures:
    return read_pictures(open_data(scenes("fire", 14, size=(32, 32))), size=32)


def model() -> nn.Module:
    return build_pieces("reach-15", "linear", 1, frozen=False, seed=0)


def task(pictures: Pictures, recipe: Recipe = RECIPE, folder: Path | None = None) -> Task:
    return Task(model(), pictures, split(pictures, seed=0)[0], recipe, 3, folder, False)


def weights_of(module: nn.Module) -> torch.Tensor:
    values = [value.detach() for value in module.state_dict().values()]
    return torch.cat([value.flatten() for value in values if value.is_floating_point()])


def far(trained: Trained, other: Trained) -> float:
    """How far two models lie apart, as a share of how far training went."""
    moved = (weights_of(other.model) - weights_of(model())).norm()
    return float((weights_of(trained.model) - weights_of(other.model)).norm() / moved)


def by_value() -> Callable[[Rank, Task], Trained | Exception | None]:
    """A process' share in float32, as rounding to bf16 would grow from step to step. A closure travels whole to the
    processes, which know nothing of this file."""

    def run(rank: Rank, task: Task) -> Trained | Exception | None:
        from unplateau.training import loop, ranks

        loop.native_bf16 = lambda _: False
        return ranks._run(rank, task)

    return run


def test_two_processes_train_the_model_of_one(planted, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "native_bf16", lambda _: False)
    one = finetune_in_ranks(task(planted), 1)
    another = finetune_in_ranks(replace(task(planted), seed=4), 1)
    monkeypatch.setattr(ranks, "_run", by_value())
    two = finetune_in_ranks(task(planted, folder=tmp_path), 2)
    assert far(two, one) < 1e-3
    assert far(another, one) > 0.03
    assert [epoch.step for epoch in two.epochs] == [epoch.step for epoch in one.epochs] == [3, 6]
    for ours, theirs in zip(two.epochs, one.epochs, strict=True):
        assert ours.train_loss == pytest.approx(theirs.train_loss, rel=1e-4)
        assert ours.gradient_norm == pytest.approx(theirs.gradient_norm, rel=1e-3)
        assert ours.best_iou == pytest.approx(theirs.best_iou, abs=0.01)
    assert {type(each) for each in two.model.modules()} == {type(each) for each in model().modules()}
    assert torch.load(tmp_path / LAST, weights_only=True)["global_step"] == 6


def test_what_stops_one_process_is_said_once_and_ends_all(planted):
    with pytest.raises(UnplateauError, match=r"^The loss must stay finite; it was nan at step \d+, on the images "):
        finetune_in_ranks(task(planted, replace(RECIPE, steps=60, evaluations=1, learning_rate=1e18)), 2)


def test_a_batch_that_cannot_be_shared_evenly_is_refused(planted):
    with pytest.raises(UnplateauError, match=r"^`devices` must divide the batch of 4, .*; got 3\."):
        finetune_in_ranks(task(planted), 3)


@pytest.mark.parametrize(("batch", "processes"), [(4, 2), (16, 1), (7, 3), (2, 2)])
def test_every_image_of_a_batch_belongs_to_one_process(batch, processes):
    parts = [list(range(batch))[part(batch, rank, processes)] for rank in range(processes)]
    assert sorted(chain(*parts)) == list(range(batch))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_in_one_process_a_gathering_model_is_the_model_it_was():
    plain, changed = model().train(), model().train()
    gather_statistics(changed)
    assert any(isinstance(each, GatheredBatchNorm) for each in changed.modules())
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    for _ in range(2):
        assert torch.equal(plain(images).logits, changed(images).logits)
    assert plain.state_dict().keys() == changed.state_dict().keys()
    assert torch.equal(weights_of(plain), weights_of(changed))
