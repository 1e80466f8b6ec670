"""A trained model is calibrated on the images that chose nothing, and then says P, not-P or unknown."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import write_pairs
from unplateau import api
from unplateau.cli import main
from unplateau.errors import UnplateauError


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("calibrate")
    data = write_pairs(folder / "data", count=36)
    api.train(data, positive=[1], extractor="reach-9", out=folder / "model", size=32, steps=40)
    return data, folder / "model"


def test_the_three_answers_follow_the_two_thresholds(trained, tmp_path):
    data, model = trained
    said = api.calibrate(model, data, missed=0.2, spurious=0.2)
    assert 0 <= said["beta"] <= said["alpha"]
    assert said["missed"] <= 0.2
    assert said["spurious"] <= 0.2
    api.predict(model, data / "images", out=tmp_path, ternary=True)
    for path in sorted((tmp_path / "ternary").iterdir()):
        decision = np.asarray(Image.open(path))
        scores = np.asarray(Image.open(tmp_path / "scores" / path.name)) / 255
        clear = 1 / 255
        assert (decision[scores > said["alpha"] + clear] == 1).all()
        assert (decision[scores < said["beta"] - clear] == 0).all()
        assert set(np.unique(decision)) <= {0, 1, 2}


def test_a_tolerance_that_so_few_images_cannot_keep_says_how_many_are_missing(trained):
    data, model = trained
    with pytest.raises(UnplateauError, match="more image"):
        api.calibrate(model, data, missed=0.01, spurious=0.2)


def test_ternary_without_calibration_is_refused(trained, tmp_path, capsys):
    data, _ = trained
    fresh = tmp_path / "model"
    api.train(data, positive=[1], extractor="reach-9", out=fresh, size=32, steps=2)
    assert main(["predict", str(fresh), str(data / "images"), "--out", str(tmp_path / "out"), "--ternary"]) == 2
    assert "Run calibrate first" in capsys.readouterr().err


def test_the_command_says_both_thresholds(trained, capsys):
    data, model = trained
    assert main(["calibrate", str(model), str(data), "--missed", "0.2", "--spurious", "0.2"]) == 0
    assert "not-P below" in capsys.readouterr().out


def test_a_calibration_of_a_model_that_was_trained_again_since_is_refused(trained, tmp_path, capsys):
    data, model = trained
    folder = shutil.copytree(model, tmp_path / "model")
    api.calibrate(folder, data, missed=0.2, spurious=0.2)
    asked = ["predict", str(folder), str(data / "images"), "--out", str(tmp_path / "out"), "--ternary"]
    assert main(asked) == 0
    api.train(data, positive=[1], extractor="reach-9", out=folder, size=32, steps=2)
    assert main(asked) == 2
    assert "which was trained again since. Run calibrate again." in capsys.readouterr().err
