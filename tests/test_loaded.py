"""A teacher's checkpoint under any ending, and what the user is told of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from conftest import write_pairs
from unplateau import api
from unplateau.cli import main
from unplateau.errors import PieceError
from unplateau.extractors.catalogue import build_extractor
from unplateau.extractors.teachers import loaded_by
from unplateau.extractors.tensors import read_tensors
from unplateau.extractors.timm import from_timm


class Harm:
    """What unpickling would run."""

    def __reduce__(self):
        return Path.touch, (Path("harm"),)


def teacher(path: Path, *, lacking: str = "", wrapped: bool = True) -> Path:
    """The weights of a tiny transformer as a framework saves them, among other things."""
    torch.manual_seed(3)
    net = from_timm("test_vit").net.state_dict()
    state = {f"teacher.backbone.{name.removeprefix('model.')}": each for name, each in net.items() if name != lacking}
    torch.save({"state_dict": state, "epoch": 7} if wrapped else state, path)
    return path


@pytest.mark.parametrize("ending", [".ckpt", ".bin", ".pth"])
def test_a_teacher_under_any_ending_of_torch_gives_its_weights(ending, tmp_path):
    path = teacher(tmp_path / f"teacher{ending}", wrapped=ending != ".bin")
    built = build_extractor(f"timm/test_vit@{path}")
    torch.manual_seed(3)
    expected = from_timm("test_vit").net.state_dict()
    assert all(torch.equal(each, expected[name]) for name, each in built.net.state_dict().items())


@pytest.mark.parametrize("ending", [".ckpt", ".bin"])
def test_a_file_that_would_run_code_is_refused_and_runs_none(ending, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / f"bad{ending}"
    torch.save({"state_dict": {}, "callbacks": Harm()}, path)
    with pytest.raises(PieceError, match="must be a whole file of tensors and nothing else"):
        read_tensors(path)
    assert not (tmp_path / "harm").exists()


def test_what_was_loaded_is_said_before_the_training(tmp_path, capsys):
    path = teacher(tmp_path / "teacher.ckpt", lacking="model.blocks.0.norm1.bias")
    data = write_pairs(tmp_path / "data")
    with pytest.warns(UserWarning, match="lacks 'model.blocks.0.norm1.bias'"):
        found = loaded_by(f"timm/test_vit@{path}")
    assert found is not None
    assert found.missing == ("model.blocks.0.norm1.bias",)
    small = ("--size", "48", "--steps", "1", "--out", str(tmp_path / "out"))
    with pytest.warns(UserWarning, match="lacks 'model.blocks.0.norm1.bias'"):
        assert main(["train", str(data), "--extractor", f"timm/test_vit@{path}", *small]) == 0
    said = capsys.readouterr().out.splitlines()
    total = len(found.matched) + 1
    assert said[0].startswith(f"timm/test_vit@{path}: layout {found.layout}, teacher branch: {total - 1} of {total}")
    assert "1 ('model.blocks.0.norm1.bias') missing, none unexpected" in said[0]
    assert said[1].startswith("IoU ")


def test_an_extractor_without_a_file_loads_nothing():
    assert api.loaded("unet") == ""
    assert api.loaded("timm/test_vit") == ""
    assert loaded_by("resnet18") is None


def test_a_teacher_that_does_not_fit_is_refused_before_anything_is_read(tmp_path, capsys):
    path = teacher(tmp_path / "teacher.bin")
    assert main(["train", str(tmp_path / "nowhere"), "--extractor", f"timm/test_resnet@{path}"]) == 2
    assert "teacher.bin" in capsys.readouterr().err
