"""A teacher beside the masks: its answers are learnt, asked for at full size, and of the same task alone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from conftest import write_pairs
from unplateau import api
from unplateau.cli import main
from unplateau.data.pictures import read_pictures
from unplateau.data.sources import open_data
from unplateau.data.splits import split
from unplateau.errors import PieceError
from unplateau.model import SegmentationModel
from unplateau.scenes import scenes
from unplateau.training.coach import Coach, open_coach
from unplateau.training.loop import finetune
from unplateau.training.recipe import Recipe
from unplateau.training.saved import FACTS, SavedModel, save_model
from unplateau.training.scoring import probabilities
from unplateau.training.train import build_pieces, train_model
from unplateau.types import IGNORE, Pictures, Task

RECIPE = Recipe(steps=60, batch=8, evaluations=2, learning_rate=1e-2, half_size=0.3)


@pytest.fixture(scope="module")
def planted() -> Pictures:
    return read_pictures(open_data(scenes("fire", 16, size=(32, 32))), size=32)


def model_of(pictures: Pictures, seed: int = 0) -> SegmentationModel:
    return build_pieces("reach-5-4", "linear", pictures.task.outputs, frozen=False, seed=seed)


def coach_of(model: SegmentationModel) -> Coach:
    return Coach(model, exclusive=True)


def distance(one: SegmentationModel, other: SegmentationModel, images: Tensor) -> float:
    """Mean difference of what two models say."""
    return float((probabilities(one, images) - probabilities(other, images)).abs().mean())


@pytest.fixture(scope="module")
def teacher(planted) -> SegmentationModel:
    return finetune(model_of(planted), planted, split(planted, seed=0)[0], RECIPE).model


def test_what_no_mask_says_is_learnt_from_the_teacher(planted, teacher):
    """No pixel to train on counts: the student still comes to say what its teacher says, of unseen images."""
    fold, masks = split(planted, seed=0)[0], planted.masks.clone()
    masks[list(fold.fit)] = IGNORE
    student = model_of(planted, 1)
    unseen = planted.images[list(fold.report)]
    before = distance(student.eval(), teacher, unseen)
    recipe = replace(RECIPE, loss="ce")
    finetune(student.train(), replace(planted, masks=masks), fold, recipe, coach=coach_of(teacher))
    assert distance(student, teacher, unseen) < 0.5 * before


def test_the_teacher_is_asked_at_full_size_and_answers_for_the_cells_that_the_student_sees(planted, monkeypatch):
    asked: list[tuple[int, int]] = []
    says = Coach.says

    def heard(coach: Coach, images: Tensor, size: tuple[int, int]) -> Tensor:
        asked.append((images.shape[-1], size[-1]))
        return says(coach, images, size)

    monkeypatch.setattr(Coach, "says", heard)
    recipe = replace(RECIPE, steps=4, half_size=0.5)
    finetune(model_of(planted), planted, split(planted, seed=0)[0], recipe, coach=coach_of(model_of(planted, 3)))
    assert asked == [(32, 16), (32, 16), (32, 32), (32, 32)]


def test_the_teacher_stays_as_it_was(planted):
    model = model_of(planted, 3)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    finetune(
        model_of(planted),
        planted,
        split(planted, seed=0)[0],
        replace(RECIPE, steps=3),
        coach=coach_of(model),
    )
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("outputs", [1, 3])
def test_the_loss_is_least_where_the_scores_are_the_teachers(outputs):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, outputs, 4, 4, generator=generator)
    coach = coach_of(build_pieces("reach-5-4", "linear", outputs, frozen=False, seed=0))
    said = logits.sigmoid() if outputs == 1 else logits.softmax(1)
    same = coach.loss(logits, said)
    for other in (logits + torch.randn(logits.shape, generator=generator) for _ in range(5)):
        assert coach.loss(other, said) > same + 0.01


def saved(folder: Path, task: Task) -> Path:
    model = build_pieces("reach-5-4", "linear", task.outputs, frozen=False, seed=0)
    save_model(SavedModel(model, task, "linear", (32, 32), 0.5), folder, {})
    return folder


def test_a_teacher_of_another_task_is_refused_in_one_sentence(planted, tmp_path):
    other = saved(tmp_path / "other", replace(planted.task, positive=(7,)))
    with pytest.raises(PieceError, match=r"same question; .*positive class 7, this is .*positive class 1"):
        open_coach(other, planted.task)
    same = saved(tmp_path / "same", planted.task)
    open_coach(same, planted.task)
    with pytest.raises(PieceError, match="the task 'label' is another"):
        open_coach(same, replace(planted.task, kind="label"))
    with pytest.raises(PieceError, match="there is no"):
        open_coach(tmp_path / "none", planted.task)


def test_another_teacher_in_the_same_folder_is_another_question(planted, tmp_path):
    arguments = {"extractor": "reach-5-4", "decoder": "linear", "frozen": False, "seed": 0}
    recipe, folder = replace(RECIPE, steps=2), saved(tmp_path / "teacher", planted.task)
    for _ in range(2):  # the second time nothing is new
        train_model(planted, **arguments, recipe=recipe, folder=tmp_path / "out", teacher=folder)
    train_model(planted, **arguments, recipe=recipe, folder=tmp_path / "out")
    again = build_pieces("reach-5-4", "linear", 1, frozen=False, seed=5)
    save_model(SavedModel(again, planted.task, "linear", (32, 32), 0.5), folder, {})
    train_model(planted, **arguments, recipe=recipe, folder=tmp_path / "out", teacher=folder)
    assert len(list((tmp_path / "out" / "state").iterdir())) == 3


def test_the_command_trains_beside_a_teacher_and_its_model_says_so(tmp_path, capsys):
    data, teacher = write_pairs(tmp_path / "tiny"), tmp_path / "teacher"
    api.train(data, extractor="reach-5-4", out=teacher, size=32, steps=2)
    said = ["train", str(data), "--extractor", "reach-5-4", "--size", "32", "--steps", "2", "--out"]
    assert main([*said, str(tmp_path / "out"), "--teacher", str(teacher)]) == 0
    assert json.loads((tmp_path / "out" / FACTS).read_text())["teacher"] == str(teacher)
    assert main([*said, str(tmp_path / "out"), "--teacher", str(tmp_path)]) == 2
    assert "`teacher` must be a folder written by `train`; there is no 'model.json'" in capsys.readouterr().err
