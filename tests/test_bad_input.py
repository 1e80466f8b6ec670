"""What happens when things go wrong: one sentence on stderr, exit code 2, no traceback, nothing computed lost."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from joblib.externals.loky.process_executor import TerminatedWorkerError
from PIL import Image
from safetensors.torch import save_file

from conftest import write_pairs
from unplateau import api, files
from unplateau.cli import main
from unplateau.errors import OutputError, UnplateauError
from unplateau.experiments import fits
from unplateau.training.finetune import FineTuning
from unplateau.training.train import LOG, STATE

SMALL = ("--size", "48", "--steps", "4")
QUICK = (*SMALL, "--folds", "2", "--thorough")


def refusal(capsys: pytest.CaptureFixture[str], *argv: str | Path) -> str:
    """What the command line says when it refuses: one line that ends a sentence, and nothing else."""
    capsys.readouterr()
    assert main([str(each) for each in argv]) == 2
    out, said = capsys.readouterr()
    assert out == ""
    assert said.count("\n") == 1
    assert said[-2] in ".?"
    assert "Traceback" not in said
    assert len(said) < 700
    return said


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set in order; no test changes it."""
    return write_pairs(tmp_path_factory.mktemp("good") / "tiny")


@pytest.fixture(scope="module")
def trained(good: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of four steps; no test changes it."""
    folder = tmp_path_factory.mktemp("trained") / "model"
    assert main(["train", str(good), "--out", str(folder), *SMALL]) == 0
    return folder


# ---- the data set --------------------------------------------------------------------------------------------


def each_mask(folder: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    for path in sorted((folder / "masks").iterdir()):
        with Image.open(path) as picture:
            mask = np.array(picture)
        Image.fromarray(change(mask)).save(path)


def without(part: str, *stems: int) -> Callable[[Path], None]:
    def remove(folder: Path) -> None:
        for stem in stems:
            (folder / part / f"p{stem:02d}.png").unlink()

    return remove


def no_pairs(folder: Path) -> None:
    for path in (folder / "masks").iterdir():
        path.rename(path.with_stem(f"m_{path.stem}"))


def other_size(folder: Path) -> None:
    Image.fromarray(np.zeros((39, 48), np.uint8)).save(folder / "masks" / "p03.png")


def shorter(part: str, keep: float) -> Callable[[Path], None]:
    def cut(folder: Path) -> None:
        path = folder / part / "p03.png"
        content = path.read_bytes()
        path.write_bytes(content[: int(keep * len(content))])

    return cut


def text_named_png(folder: Path) -> None:
    (folder / "images" / "p03.png").write_text("this is not a picture\n" * 9)


def jpeg_mask(folder: Path) -> None:
    each_mask(folder, lambda mask: mask * np.uint8(255))
    path = folder / "masks" / "p03.png"
    with Image.open(path) as picture:
        picture.save(path.with_suffix(".jpg"), quality=75)
    path.unlink()


def all_empty(folder: Path) -> None:
    each_mask(folder, np.zeros_like)


def two_of_the_class(folder: Path) -> None:
    for path in sorted((folder / "masks").iterdir())[2:]:
        Image.new("L", (48, 40)).save(path)


def one_group(folder: Path) -> None:
    rows = [f"{path.stem},the-video" for path in (folder / "images").iterdir()]
    (folder / "groups.csv").write_text("\n".join(["stem,group", *rows]) + "\n")


DAMAGES: dict[str, tuple[Callable[[Path], None], tuple[str, ...]]] = {
    "no folder": (shutil.rmtree, ("tiny does not exist", "give the folder")),
    "no images": (lambda folder: shutil.rmtree(folder / "images"), ("has no images/",)),
    "no pairs": (no_pairs, ("no two do", "'m_p00'", "rename")),
    "image without mask": (without("masks", 3, 5), ("2 of 12", "'p03.png'", "add the masks")),
    "mask without image": (without("images", 3), ("1 of 12", "'p03.png'", "add the images")),
    "other size": (other_size, ("p03.png", "40 x 48", "39 x 48")),
    "truncated image": (shorter("images", 0.5), ("images/p03.png", "copy it again")),
    "truncated mask": (shorter("masks", 0.5), ("masks/p03.png", "copy it again")),
    "empty file": (shorter("images", 0), ("images/p03.png", "0 bytes")),
    "text": (text_named_png, ("images/p03.png", "not an image", "replace it")),
    "JPEG mask": (jpeg_mask, ("masks/p03.jpg", "exact class ids", "PNG")),
    "empty masks": (all_empty, ("two classes", "only the id 0", "check")),
    "one group": (one_group, ("'the-video'", "one group", "name more groups")),
    "two images of the class": (two_of_the_class, ("positive class", "too few images", "add images")),
    "seven images": (
        lambda folder: [without(part, *range(5))(folder) for part in ("images", "masks")],
        ("at least 8", "is 7", "give more"),
    ),
}


@pytest.mark.parametrize("verb", ["diagnose", "train"])
@pytest.mark.parametrize(("damage", "words"), DAMAGES.values(), ids=DAMAGES)
def test_a_data_set_out_of_order(verb, damage, words, tiny_folder, tmp_path, capsys):
    damage(tiny_folder)
    said = refusal(capsys, verb, tiny_folder, "--out", tmp_path / "out", *SMALL)
    assert all(word in said for word in words)
    assert not any((tmp_path / "out").iterdir())


@pytest.mark.parametrize("verb", ["diagnose", "train"])
def test_a_class_that_no_mask_holds(verb, good, tmp_path, capsys):
    said = refusal(capsys, verb, good, "--positive", "7", "--out", tmp_path / "out", *SMALL)
    assert "`positive`" in said
    assert "no mask holds 7: choose among 0, 1" in said


# ---- names and numbers: refused before any file is read ------------------------------------------------------

NOWHERE = "nowhere/at/all"
"""A data set that is not there: whoever complains of something else has not looked for it yet."""

ARGUMENTS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "extractor of diagnose": (
        ("diagnose", NOWHERE, "--extractor", "resnt18"),
        ("'resnt18'", "did you mean 'resnet18'"),
    ),
    "candidate without weights": (
        ("diagnose", NOWHERE, "--extractor", "unet-8"),
        ("`extractor` must bring weights", "'unet-8'", "Name a file"),
    ),
    "baseline of diagnose": (("diagnose", NOWHERE, "--baseline", "reach33"), ("'reach33'", "'reach-33'")),
    "extractor of train": (("train", NOWHERE, "--extractor", "unett"), ("'unett'", "'unet'")),
    "decoder": (("train", NOWHERE, "--decoder", "lineer"), ("'lineer'", "did you mean 'linear'")),
    "timm name": (("train", NOWHERE, "--extractor", "timm/resnet1"), ("'resnet1'", "'resnet18'")),
    "size": (("train", NOWHERE, "--size", "4"), ("`size` must be at least 16; got 4",)),
    "size of diagnose": (("diagnose", NOWHERE, "--size", "4"), ("`size` must be at least 16; got 4",)),
    "steps": (("train", NOWHERE, "--steps", "0"), ("`steps` must be at least 1; got 0",)),
    "steps of diagnose": (("diagnose", NOWHERE, "--steps", "1"), ("`steps` must be at least 2; got 1",)),
    "folds": (("diagnose", NOWHERE, "--folds", "0"), ("`folds` must be at least 1; got 0",)),
    "limit": (("diagnose", NOWHERE, "--limit", "3"), ("`limit` must be at least 8; got 3",)),
    "patience": (("train", NOWHERE, "--patience", "-1"), ("`patience` must be at least 0; got -1",)),
    "seed": (("train", NOWHERE, "--seed", "-1"), ("`seed` must be at least 0; got -1",)),
    "seed of diagnose": (("diagnose", NOWHERE, "--seed", "-1"), ("`seed` must be at least 0; got -1",)),
    "large seed": (("train", NOWHERE, "--seed", str(10**15)), ("`seed` must be at most", str(10**15))),
    "class weights": (("train", NOWHERE, "--class-weights", "some"), ("`class_weights`", "'auto'", "'some'")),
    "class weights of nothing": (("train", NOWHERE, "--class-weights", "1,x"), ("`class_weights`", "1,5", "'1,x'")),
    "loss": (("train", NOWHERE, "--loss", "ce + dise"), ("`loss`", "'ce + dise'", "did you mean 'dice'")),
    "recipe": (("train", NOWHERE, "--recipe", "emma=0.9"), ("`emma`", "did you mean 'ema'")),
    "recipe file": (("train", NOWHERE, "--recipe", "mine.toml"), ("'mine.toml'", "can be read")),
    "devices": (("train", NOWHERE, "--devices", "0"), ("`devices` must be at least 1; got 0",)),
    "one recipe": (("compare", NOWHERE, "--recipes", "baseline"), ("`recipes` must be at least two",)),
    "loss of a recipe": (
        ("compare", NOWHERE, "--recipes", "baseline", "loss=focal-tverski"),
        ("`loss`", "did you mean 'focal-tversky'"),
    ),
    "seeds": (("compare", NOWHERE, "--recipes", "a=1", "--seeds", "0"), ("`seeds` must be at least 1; got 0",)),
    "positive": (("diagnose", NOWHERE, "--positive", "fire"), ("`positive`", "8 or 3,4", "'fire'")),
    "positive with a gap": (("train", NOWHERE, "--positive", "3,,4"), ("`positive`", "'3,,4'")),
    "no number": (("train", NOWHERE, "--size", "big"), ("--size", "integer", "--help")),
    "no data": (("train",), ("data", "--help")),
    "unknown option": (("diagnose", NOWHERE, "--sise", "64"), ("--sise", "--size", "--help")),
    "unknown verb": (("diagnoze", NOWHERE), ("diagnoze", "--help")),
}


@pytest.mark.parametrize(("argv", "words"), ARGUMENTS.values(), ids=ARGUMENTS)
def test_an_argument_out_of_order_is_refused_before_the_data_is_looked_for(argv, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    said = refusal(capsys, *argv)
    assert all(word in said for word in words), said
    assert NOWHERE not in said
    assert list(tmp_path.iterdir()) == []


# ---- checkpoints ---------------------------------------------------------------------------------------------


def other_tensors(path: Path) -> None:
    save_file({"encoder.weight": torch.zeros(3)}, path)


def text_checkpoint(path: Path) -> None:
    path.write_text("these are not weights\n" * 20)


def truncated(path: Path) -> None:
    save_file({"features.0.weight": torch.zeros(64, 3, 3, 3)}, path)
    path.write_bytes(path.read_bytes()[:-100])


def other_shapes(path: Path) -> None:
    names = {name: torch.zeros(1) for name in ("features.0.weight", "features.3.squeeze.weight")}
    save_file(names, path)


CHECKPOINTS: dict[str, tuple[Callable[[Path], None], str]] = {
    "other tensors": (other_tensors, "'encoder.weight'"),
    "text": (text_checkpoint, "must be a whole .safetensors file"),
    "truncated": (truncated, "must be a whole .safetensors file"),
    "other shapes": (other_shapes, "(1,) in the file"),
    "absent": (lambda path: None, "nothing is at"),
}


@pytest.mark.parametrize("where", [("diagnose", "--extractor"), ("diagnose", "--baseline"), ("train", "--extractor")])
@pytest.mark.parametrize(("make", "says"), CHECKPOINTS.values(), ids=CHECKPOINTS)
def test_a_checkpoint_that_does_not_fit(make, says, where, tmp_path, capsys):
    path = tmp_path / "weights.safetensors"
    make(path)
    said = refusal(capsys, where[0], NOWHERE, where[1], path, "--out", tmp_path / "out")
    assert str(path) in said
    assert says in said


# ---- models, images, diagnoses -------------------------------------------------------------------------------


@pytest.fixture
def model(trained: Path, tmp_path: Path) -> Path:
    """A copy of the trained model, to be damaged."""
    shutil.copytree(trained, tmp_path / "model", ignore=shutil.ignore_patterns(STATE))
    return tmp_path / "model"


def facts_with(**changed: object) -> Callable[[Path], None]:
    def change(model: Path) -> None:
        facts = json.loads((model / "model.json").read_text())
        (model / "model.json").write_text(json.dumps(facts | changed))

    return change


MODELS: dict[str, tuple[Callable[[Path], object], tuple[str, ...]]] = {
    "no folder": (shutil.rmtree, ("`model`", "model.json", "Train one")),
    "no facts": (lambda model: (model / "model.json").unlink(), ("`model`", "model.json", "Train one")),
    "no json": (lambda model: (model / "model.json").write_text("{"), ("model.json", "JSON")),
    "a list": (lambda model: (model / "model.json").write_text("[]"), ("model.json", "Train again")),
    "no task": (facts_with(task={}), ("model.json", "'positive'", "Train again")),
    "a strange extractor": (facts_with(extractor="what"), ("model.json", "'what'", "Train again")),
    "a numeric extractor": (facts_with(extractor=3), ("model.json", "Train again")),
    "a strange size": (facts_with(size=["a", "b"]), ("model.json", "Train again")),
    "no weights": (lambda model: (model / "model.safetensors").unlink(), ("model.safetensors", "Train again")),
    "text as weights": (
        lambda model: (model / "model.safetensors").write_text("nothing"),
        ("model.safetensors", "Train again"),
    ),
    "others' weights": (
        lambda model: save_file({"a": torch.zeros(1)}, model / "model.safetensors"),
        ("model.safetensors", "Missing key", "Train again"),
    ),
}


@pytest.mark.parametrize(("damage", "words"), MODELS.values(), ids=MODELS)
def test_a_model_that_is_not_there_or_damaged(damage, words, model, good, tmp_path, capsys):
    damage(model)
    said = refusal(capsys, "predict", model, good / "images", "--out", tmp_path / "masks")
    assert all(word in said for word in words), said
    assert not (tmp_path / "masks").exists()


@pytest.mark.parametrize(
    ("images", "words"),
    [("nowhere", ("`images`", "does not exist")), (".", ("must hold files that end in", "'images', 'masks'"))],
)
def test_predict_without_images(images, words, trained, good, tmp_path, capsys):
    said = refusal(capsys, "predict", trained, good / images, "--out", tmp_path / "masks")
    assert all(word in said for word in words)


def test_masks_before_a_corrupt_image_stay(trained, tiny_folder, tmp_path, capsys):
    shorter("images", 0.5)(tiny_folder)
    said = refusal(capsys, "predict", trained, tiny_folder / "images", "--out", tmp_path / "out")
    assert "images/p03.png" in said
    assert sorted(path.name for path in (tmp_path / "out" / "masks").iterdir()) == ["p00.png", "p01.png", "p02.png"]


def test_two_images_that_would_share_a_mask(trained, tiny_folder, tmp_path, capsys):
    shutil.copy(tiny_folder / "images" / "p03.png", tiny_folder / "images" / "p03.bmp")
    said = refusal(capsys, "predict", trained, tiny_folder / "images", "--out", tmp_path / "out")
    assert "p03.png" in said
    assert "p03.bmp" in said


def test_predicted_masks_never_replace_those_of_the_data_set(trained, tiny_folder, capsys):
    before = {path: path.read_bytes() for path in (tiny_folder / "masks").iterdir()}
    said = refusal(capsys, "predict", trained, tiny_folder / "images", "--out", tiny_folder)
    assert "`out` must not be the data set itself" in said
    assert before == {path: path.read_bytes() for path in (tiny_folder / "masks").iterdir()}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "Run a diagnosis first"),
        ("{", "diagnosis.json"),
        ("[1, 2]", "diagnosis.json"),
        ('{"version": 99, "verdict": "It is."}', "99"),
    ],
)
def test_report_of_what_is_no_diagnosis(content, says, tmp_path, capsys):
    if content is not None:
        (tmp_path / "diagnosis.json").write_text(content)
    said = refusal(capsys, "report", tmp_path)
    assert says in said
    assert not (tmp_path / "report.html").exists()


# ---- where results cannot go ---------------------------------------------------------------------------------


@pytest.mark.parametrize("below", [".", "deeper/still"])
@pytest.mark.parametrize("verb", ["diagnose", "train", "predict"])
def test_out_that_cannot_be_a_folder(verb, below, good, trained, tmp_path, capsys):
    file = tmp_path / "results"
    file.write_text("mine")
    given = (trained, good / "images") if verb == "predict" else (good,)
    said = refusal(capsys, verb, *given, "--out", file / below)
    assert "`out`" in said
    assert str(file) in said
    assert file.read_text() == "mine"


def test_a_page_that_cannot_be_written(diagnosis, tmp_path, capsys):
    (tmp_path / "results").write_text("mine")
    said = refusal(capsys, "report", diagnosis, "--out", tmp_path / "results" / "report.html")
    assert str(tmp_path / "results") in said


def test_a_device_is_not_replaced_by_a_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OutputError, match=r"pipe' must be a plain file"):
        files.write_bytes(tmp_path / "pipe", b"x")
    assert (tmp_path / "pipe").is_fifo()


def test_half_a_file_is_never_left(tmp_path):
    with pytest.raises(OutputError, match=r"run the same command again"), small_files(64):
        files.write_bytes(tmp_path / "result", bytes(1000))
    assert list(tmp_path.iterdir()) == []


# ---- a disk that fills up ------------------------------------------------------------------------------------


@contextmanager
def small_files(most: int) -> Iterator[None]:
    """Within it the system refuses to let any file grow past `most` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def stamps(folder: Path) -> dict[str, int]:
    """When each finished training was written."""
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*.npz")}


@pytest.fixture(scope="module")
def filled(good: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, int]]:
    """The folder of a diagnosis whose disk was full from the third training on, and when the first two were kept."""
    out = tmp_path_factory.mktemp("filled") / "out"
    real, written = fits.save, []

    def save(outcome: fits.Fitted, path: Path) -> None:
        written.append(path)
        with small_files(64 if len(written) > 2 else resource.RLIM_INFINITY):
            real(outcome, path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fits, "save", save)
        with pytest.raises(OutputError) as caught:
            api.diagnose(good, out=out, size=48, steps=4, folds=2, thorough=True)
    assert "must be written; that gave: File too large" in str(caught.value)
    assert str(written[2]) in str(caught.value)
    return out, stamps(out / "fits")


@pytest.fixture(scope="module")
def diagnosis(filled: tuple[Path, dict[str, int]], good: Path) -> Path:
    """The same diagnosis once there was room again, asked for on the command line."""
    assert main(["diagnose", str(good), "--out", str(filled[0]), *QUICK]) == 0
    return filled[0]


def test_a_full_disk_keeps_what_is_finished_and_the_rerun_does_not_compute_it_again(filled, diagnosis):
    before, after = filled[1], stamps(diagnosis / "fits")
    assert len(before) == 2
    assert len(after) > 10
    assert before.items() <= after.items()
    assert {path.suffix for path in (diagnosis / "fits").iterdir()} == {".npz"}


@pytest.mark.parametrize("name", ["diagnosis.json", "report.html"])
def test_a_disk_full_at_the_end_keeps_every_training(name, diagnosis, good, capsys, monkeypatch):
    before = stamps(diagnosis / "fits")
    (diagnosis / name).unlink()
    with small_files((diagnosis / "diagnosis.json").stat().st_size + 1 if name == "report.html" else 4096):
        said = refusal(capsys, "diagnose", good, "--out", diagnosis, *QUICK)
    assert "File too large" in said
    assert main(["diagnose", str(good), "--out", str(diagnosis), *QUICK]) == 0
    assert stamps(diagnosis / "fits") == before
    assert (diagnosis / name).is_file()


def test_a_disk_full_during_a_training(good, tmp_path, capsys):
    out = tmp_path / "model"
    with small_files(4096):
        said = refusal(capsys, "train", good, "--out", out, *SMALL)
    assert str(out) in said
    assert "File too large" in said
    assert main(["train", str(good), "--out", str(out), *SMALL]) == 0


# ---- Ctrl-C, and trainings that cannot go on -----------------------------------------------------------------


def count_steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The steps that are trained from now on."""
    real, seen = FineTuning.training_step, []

    def step(self: FineTuning, batch: tuple[torch.Tensor, torch.Tensor, int], index: int) -> torch.Tensor:
        seen.append(batch[2])
        return real(self, batch, index)

    monkeypatch.setattr(FineTuning, "training_step", step)
    return seen


@pytest.fixture
def interrupted(good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """A training of four steps that Ctrl-C stopped at its second evaluation."""
    real, seen = FineTuning.on_validation_epoch_end, []

    def evaluate(self: FineTuning) -> None:
        seen.append(self)
        if len(seen) == 2:
            signal.raise_signal(signal.SIGINT)
        real(self)

    heard = signal.getsignal(signal.SIGINT)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FineTuning, "on_validation_epoch_end", evaluate)
        said = refusal(capsys, "train", good, "--out", tmp_path / "cut", *SMALL)
    assert said.startswith("Stopped.")
    assert "run the same command again" in said
    assert signal.getsignal(signal.SIGINT) is heard
    return tmp_path / "cut"


def test_an_interrupted_training_goes_on_and_ends_as_an_unbroken_one(interrupted, trained, good, monkeypatch):
    steps = count_steps(monkeypatch)
    assert main(["train", str(good), "--out", str(interrupted), *SMALL]) == 0
    assert steps == [1, 2, 3]
    assert (interrupted / LOG).read_text() == (trained / LOG).read_text()
    assert (interrupted / "model.safetensors").read_bytes() == (trained / "model.safetensors").read_bytes()


def test_another_training_does_not_go_on_from_it(interrupted, good, monkeypatch):
    steps = count_steps(monkeypatch)
    assert main(["train", str(good), "--out", str(interrupted), *SMALL, "--seed", "1"]) == 0
    assert steps == [0, 1, 2, 3]


def test_a_damaged_state_is_named(interrupted, good, capsys):
    state = next((interrupted / STATE).rglob("last.ckpt"))
    state.write_bytes(state.read_bytes()[:1000])
    said = refusal(capsys, "train", good, "--out", interrupted, *SMALL)
    assert str(state) in said
    assert "Delete it" in said


def test_a_loss_that_is_no_number(good, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("unplateau.training.losses.CompoundLoss.forward", lambda _, logits, __: logits.sum() * np.nan)
    said = refusal(capsys, "train", good, "--out", tmp_path / "out", *SMALL)
    assert "loss must stay finite" in said
    assert "`learning_rate`" in said


def test_more_weights_than_classes(good, tmp_path, capsys):
    said = refusal(capsys, "train", good, "--class-weights", "1,5", "--out", tmp_path / "out", *SMALL)
    assert "must be 1 positive numbers, one for each of 'class 1', but are [1.0, 5.0]" in said
    assert "`class_weights`" in said


def test_a_weight_for_a_class_that_is_nowhere(good, tmp_path, capsys):
    folder = shutil.copytree(good, tmp_path / "data")
    each_mask(folder, lambda mask: np.where(mask == 1, 2, 0).astype(np.uint8))
    rows = [f"p{index:02d},p{index:02d},{'test' if index > 7 else 'train'}" for index in range(12)]
    (folder / "groups.csv").write_text("\n".join(["stem,group,split", *rows]) + "\n")
    with Image.open(folder / "masks" / "p11.png") as picture:
        mask = np.array(picture)
    mask[:4] = 1
    Image.fromarray(mask).save(folder / "masks" / "p11.png")
    argv = ("train", folder, "--out", tmp_path / "out", *SMALL, "--class-weights")
    said = refusal(capsys, *argv, "1,5,1")
    assert "no pixel there is 'class 1'" in said
    assert main([*map(str, argv), "1,1,5"]) == 0


def test_a_training_that_the_system_ended(good, tmp_path, monkeypatch, capsys):
    def killed(*_: object, **__: object) -> Callable[[object], Iterator[None]]:
        def outcomes(_: object) -> Iterator[None]:
            raise TerminatedWorkerError("killed by SIGKILL")
            yield

        return outcomes

    monkeypatch.setattr(fits, "Parallel", killed)
    monkeypatch.setattr(fits, "workers", lambda: 2)
    said = refusal(capsys, "diagnose", good, "--out", tmp_path / "out", *QUICK)
    assert "fit in memory" in said
    assert "`size`" in said


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MemoryError(), ("memory", "`limit`")),
        (PermissionError(13, "Permission denied", "images/p03.png"), ("'images/p03.png'", "Permission denied")),
        (KeyboardInterrupt(), ("Stopped.",)),
        (UnplateauError("No."), ("No.",)),
    ],
)
def test_what_the_system_refuses(error, words, good, monkeypatch, capsys):
    def fails(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("unplateau.api.report", fails)
    said = refusal(capsys, "report", good)
    assert all(word in said for word in words)


def alive(group: int) -> list[str]:
    """Processes of a process group that still run, where the system lists them as files."""
    rows = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            rows.append(path.read_text())
    # pid (name) state parent group ...
    found = [(row, *row.rpartition(")")[2].split()[:3]) for row in rows]
    return [row for row, state, _, own in found if int(own) == group and state != "Z"]


def wait_until(condition: Callable[[], object], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end and not condition():
        time.sleep(0.05)
    return bool(condition())


def test_ctrl_c_stops_every_process_quietly_and_the_rerun_goes_on(good, tmp_path):
    out = tmp_path / "out"
    argv = ["diagnose", str(good), "--out", str(out), *SMALL, "--folds", "2"]
    command = [sys.executable, "-m", "unplateau", *argv]
    # A session of its own, so that the signal goes to all of it as a terminal sends it, and to nobody else.
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        assert wait_until(lambda: stamps(out / "fits") or process.poll() is not None, 240)
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)  # the impatient press it twice
        said = process.communicate(timeout=60)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    told = [line for line in said[1].splitlines() if not re.match(r"\d+ of \d+: trained ", line)]
    assert said[0] == ""
    assert told == ["Stopped. What is finished is kept: run the same command again to go on from there."]
    assert process.returncode == 2
    assert wait_until(lambda: not alive(process.pid), 10), alive(process.pid)
    before = stamps(out / "fits")
    assert before
    assert main(argv) == 0
    assert before.items() <= stamps(out / "fits").items()
    assert len(stamps(out / "fits")) > len(before)
