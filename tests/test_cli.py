"""The command line is the Python API said aloud, and both do what they say from end to end."""

from __future__ import annotations

import inspect
import json
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from PIL import Image

from conftest import write_pairs
from unplateau import api, cli
from unplateau.cli import main
from unplateau.errors import Doubt
from unplateau.story import demo
from unplateau.types import Sample

PYTHON_ONLY = {"told", "colours", "progress", "console"}
"""Arguments that only a program can give: functions, mappings, and what the command line decides by itself."""

SAME_AS_NONE: dict[str, object] = {"positive": "", "decoder": "", "extractor": "", "limit": 0}
"""What stands on the command line for None."""

VERBS = {
    "diagnose": api.diagnose,
    "curve": api.curve,
    "train": api.train,
    "compare": api.compare,
    "pretrain": api.pretrain,
    "upgrade": api.upgrade,
    "distil": api.distil,
    "extractors": api.extractors,
    "eyechart": api.eyechart,
    "rank": api.rank,
    "calibrate": api.calibrate,
    "predict": api.predict,
    "report": api.report,
    "demo": demo,
}

SMALL = ("--size", "48", "--steps", "4")
QUICK = (*SMALL, "--folds", "2", "--thorough")
MORE = ("--recipe", "ema=0.9", "--loss", "ce", "--devices", "2")
HEIGHT, WIDTH = 40, 48


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("data") / "tiny", height=HEIGHT, width=WIDTH)


@pytest.fixture(scope="module")
def model(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trained") / "model"
    assert main(["train", str(folder), "--out", str(out), *SMALL]) == 0
    return out


# ---- the same words ------------------------------------------------------------------------------------------


def arguments(function: Any) -> dict[str, Any]:
    """Names and defaults; `inspect.Parameter.empty` where an argument must be given."""
    return {name: each.default for name, each in inspect.signature(function).parameters.items()}


def test_each_verb_of_one_is_a_verb_of_the_other():
    assert {command.callback.__name__ for command in cli.command_line().registered_commands} == set(VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_takes_the_same_arguments_in_the_same_order(verb):
    python = [name for name in arguments(VERBS[verb]) if name not in PYTHON_ONLY]
    assert sorted(arguments(getattr(cli, verb))) == sorted(python)


@pytest.mark.parametrize("verb", VERBS)
def test_what_is_not_given_means_the_same(verb):
    spoken = arguments(getattr(cli, verb))
    for name, default in arguments(VERBS[verb]).items():
        if name in PYTHON_ONLY:
            continue
        given = spoken[name]
        if default is None and name in SAME_AS_NONE:
            assert given == SAME_AS_NONE[name]
        else:
            assert given == (Path(default) if isinstance(given, Path) else default), name


@pytest.mark.parametrize("verb", [(), *((verb,) for verb in VERBS)])
def test_help_is_quick_for_it_loads_nothing_heavy(verb):
    code = (
        "import sys; from unplateau.cli import main; code = main(sys.argv[1:]); "
        "print([each for each in ('torch', 'lightning', 'numpy', 'timm') if each in sys.modules], file=sys.stderr); "
        "sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code, *verb, "--help"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "[]\n")
    for name in arguments(VERBS[verb[0]]) if verb else VERBS:
        assert name in PYTHON_ONLY or name.replace("_", "-") in done.stdout


@pytest.mark.parametrize("verb", VERBS)
def test_each_option_says_what_it_is(verb, capsys):
    options = typer.main.get_command(cli.command_line()).commands[verb].params
    assert all(each.help for each in options)
    assert main([verb, "--help"]) == 0
    assert cli.command_line().registered_commands
    assert getattr(cli, verb).__doc__.splitlines()[0].split(";")[0].split(":")[0] in capsys.readouterr().out


def test_without_a_verb_the_help_is_shown(capsys):
    assert main([]) == 2
    shown, said = capsys.readouterr()
    assert "diagnose" in shown
    assert said == ""


# ---- train, predict ------------------------------------------------------------------------------------------


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.array(picture)


def test_masks_have_the_class_ids_and_the_size_of_the_images(model, folder, tmp_path, capsys):
    Image.new("RGB", (97, 61), "grey").save(tmp_path / "wide.jpg")
    assert main(["predict", str(model), str(folder / "images"), "--out", str(tmp_path / "all")]) == 0
    assert main(["predict", str(model), str(tmp_path / "wide.jpg"), "--out", str(tmp_path / "all")]) == 0
    assert f"12 masks: {tmp_path / 'all'}" in capsys.readouterr().out
    ids = set()
    for path in (tmp_path / "all" / "masks").iterdir():
        mask = pixels(path)
        assert mask.shape == ((61, 97) if path.stem == "wide" else (HEIGHT, WIDTH))
        assert pixels(tmp_path / "all" / "scores" / path.name).shape == mask.shape
        ids |= set(np.unique(mask).tolist())
    assert ids <= {0, 1}


@pytest.mark.parametrize("positive", ["", "20", "20,30"])
def test_masks_keep_the_ids_of_the_training_masks(positive, tmp_path, capsys):
    data = write_pairs(tmp_path / "ids", height=HEIGHT, width=WIDTH)
    for path in (data / "masks").iterdir():
        mask = pixels(path) * np.uint8(20) + np.uint8(10)
        mask[:4] = 20
        Image.fromarray(mask).save(path)
    out = tmp_path / "model"
    assert main(["train", str(data), "--positive", positive, "--out", str(out), *SMALL]) == 0
    assert ("at threshold" in capsys.readouterr().out) == bool(positive)
    masks = api.predict(out, data / "images", out=tmp_path / "masks")
    found = {value for path in masks for value in np.unique(pixels(path)).tolist()}
    assert found <= ({10, 20, 30} if positive != "20" else {10, 20})
    assert (tmp_path / "masks" / "scores").exists() == bool(positive)


@pytest.mark.parametrize(
    "verb", [("train",), ("compare", "--folds", "2", "--seeds", "1", "--recipes", "baseline", "ema=0.9")]
)
def test_what_is_odd_about_the_data_is_said_once(verb, tmp_path):
    """255 is read as the class or not at all: who is not told reads the IoU of another question."""
    data = write_pairs(tmp_path / "data")
    for place, path in enumerate(sorted((data / "masks").iterdir())):
        Image.fromarray(np.asarray(Image.open(path)) * np.uint8(255 if place % 2 else 1)).save(path)
    argv = [verb[0], str(data), *verb[1:], "--size", "48", "--steps", "2", "--out", str(tmp_path / "out")]
    with pytest.warns(Doubt, match=r"^No mask holds both 1 and 255 \(6 hold 1, as .* not counted\.$") as said:
        assert main([*argv, "--extractor", "reach-5"]) == 0
    assert len(said) == 1


def test_a_doubt_is_shown_as_a_sentence_and_a_warning_of_others_with_its_place(monkeypatch, capsys):
    def both(*_: object, **__: object) -> str:
        return "".join(warnings.formatwarning("odd", kind, "there.py", 7) for kind in (Doubt, UserWarning))

    before = warnings.formatwarning
    monkeypatch.setattr("unplateau.api.report", both)
    assert main(["report", "somewhere"]) == 0
    assert capsys.readouterr().out.splitlines() == ["Report: odd", "there.py:7: UserWarning: odd", ""]
    assert warnings.formatwarning is before


def test_workers_that_are_renewed_are_not_warned_of(monkeypatch):
    def renewed(*_: object, **__: object) -> str:
        warnings.warn("A worker stopped while some jobs were given to the executor.", UserWarning, stacklevel=1)
        warnings.warn("Something else.", UserWarning, stacklevel=1)
        return "page"

    monkeypatch.setattr("unplateau.api.report", renewed)
    with pytest.warns(UserWarning, match=r"^Something else\.$") as said:
        assert main(["report", "somewhere"]) == 0
    assert len(said) == 1


def samples(folder: Path) -> Iterator[Sample]:
    for path in sorted((folder / "images").iterdir()):
        image, mask = (pixels(folder / part / path.name) for part in ("images", "masks"))
        yield Sample(path.stem, image, mask, group=path.stem)


class Indexed(torch.utils.data.Dataset[tuple[str, Any, Any]]):
    """A torch data set: it has a length and items, and no iterator."""

    def __init__(self, folder: Path) -> None:
        self.items = [(each.name, each.image, each.mask) for each in samples(folder)]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> tuple[str, Any, Any]:
        return self.items[index]


@pytest.mark.parametrize("kind", ["generator", "tuple", "data set"])
def test_any_iterable_of_samples_is_data(kind, folder, model, tmp_path):
    given = {"generator": samples(folder), "tuple": tuple(samples(folder)), "data set": Indexed(folder)}
    facts = api.train(given[kind], out=tmp_path, size=48, steps=4)
    assert facts["iou"] == json.loads((model / "model.json").read_text())["iou"]
    assert (tmp_path / "model.safetensors").read_bytes() == (model / "model.safetensors").read_bytes()


def test_every_argument_of_train_arrives(folder, tmp_path, monkeypatch):
    seen: dict[str, Any] = {}
    monkeypatch.setattr(api, "train", lambda *_, **given: seen.update(given) or {"iou": 0.5, "threshold": 0.5})
    given = (
        "--task boxes --positive 3,4 --extractor e --decoder d --teacher t --out o --frozen --size 1 --steps 2 "
        "--class-weights auto"
    )
    assert main(["train", str(folder), *given.split(), "--patience", "3", "--seed", "4", *MORE]) == 0
    assert seen == {
        "task": "boxes",
        "positive": [3, 4],
        "extractor": "e",
        "decoder": "d",
        "teacher": Path("t"),
        "out": Path("o"),
        "frozen": True,
        "size": 1,
        "steps": 2,
        "class_weights": "auto",
        "patience": 3,
        "seed": 4,
        "progress": sys.stderr.isatty(),
        "recipe": "ema=0.9",
        "loss": "ce",
        "devices": 2,
    }


# ---- diagnose, report ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def diagnosis(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("diagnosed") / "one"
    assert main(["diagnose", str(folder), "--out", str(out), *QUICK]) == 0
    return out


def documented() -> dict[str, tuple[str, ...]]:
    """The keys of diagnosis.json, and the keys inside each, as docs/diagnosis_json.md has them."""
    text = (Path(__file__).resolve().parents[1] / "docs" / "diagnosis_json.md").read_text()
    rows = re.findall(r"^\| `(\w+)(?:\[\])?` \| (.*) \|$", text, re.M)
    return {key: tuple(re.findall(r"`(\w+)(?:\[\])?`", what)) for key, what in rows}


def test_the_diagnosis_has_the_keys_that_are_documented(diagnosis):
    content = json.loads((diagnosis / "diagnosis.json").read_text())
    assert set(documented()) <= set(content)
    assert content["version"] == 1
    assert content["data"]["images"] == 12
    for key, inner in documented().items():
        value = content[key][0] if isinstance(content[key], list) and content[key] else content[key]
        if isinstance(value, dict) and key != "findings":
            assert {each for each in inner if not each.startswith("types")} <= deep_keys(value), key


def deep_keys(value: Any) -> set[str]:
    if isinstance(value, list):
        return set().union(*map(deep_keys, value))
    return set(value).union(*map(deep_keys, value.values())) if isinstance(value, dict) else set()


def test_the_report_and_its_pictures_are_there(diagnosis):
    content = json.loads((diagnosis / "diagnosis.json").read_text())
    assert "<html" in (diagnosis / "report.html").read_text()
    assert content["worst"]
    assert all((diagnosis / each["file"]).is_file() for each in content["worst"])


def test_the_report_can_be_drawn_again(diagnosis, tmp_path, capsys):
    assert main(["report", str(diagnosis), "--out", str(tmp_path / "page.html")]) == 0
    assert str(tmp_path / "page.html") in capsys.readouterr().out
    assert (tmp_path / "page.html").read_bytes() == (diagnosis / "report.html").read_bytes()


def test_the_same_seed_gives_the_same_diagnosis_in_python_too(diagnosis, folder, tmp_path):
    told: list[tuple[int, int, str]] = []
    content = api.diagnose(
        folder,
        out=tmp_path,
        size=48,
        steps=4,
        folds=2,
        thorough=True,
        told=lambda done, total, name: told.append((done, total, name)),
    )
    first, again = (json.loads((each / "diagnosis.json").read_text()) for each in (diagnosis, tmp_path))
    assert content == again
    assert first.pop("seconds") > 0
    assert again.pop("seconds") > 0
    assert first == again
    assert [done for done, _, _ in told] == list(range(1, told[0][1] + 1))


def test_a_finished_diagnosis_is_not_computed_again_and_says_the_verdict(diagnosis, folder, capsys):
    kept = {path: path.stat().st_mtime_ns for path in (diagnosis / "fits").iterdir()}
    assert main(["diagnose", str(folder), "--out", str(diagnosis), *QUICK]) == 0
    assert {path: path.stat().st_mtime_ns for path in (diagnosis / "fits").iterdir()} == kept
    said = capsys.readouterr().out
    assert "Report: " in said
    assert str(diagnosis / "report.html") in said.replace("\n", "")


def test_every_argument_of_diagnose_arrives(folder, monkeypatch, diagnosis):
    seen: dict[str, Any] = {}
    content = json.loads((diagnosis / "diagnosis.json").read_text())
    monkeypatch.setattr(api, "diagnose", lambda *_, **given: seen.update(given) or content)
    given = "--positive 8 --extractor e --model m --out o --baseline b --size 1 --steps 2 --folds 3 --limit 0 --seed 4"
    saved = "--thorough --predictions p --threshold 0.4 --reported 0.3 --log l"
    assert main(["diagnose", str(folder), *given.split(), *saved.split()]) == 0
    seen.pop("told")
    assert seen == {
        "positive": [8],
        "extractor": "e",
        "model": Path("m"),
        "out": Path("o"),
        "baseline": "b",
        "size": 1,
        "steps": 2,
        "folds": 3,
        "limit": None,
        "seed": 4,
        "thorough": True,
        "predictions": Path("p"),
        "threshold": 0.4,
        "reported": 0.3,
        "log": Path("l"),
    }
