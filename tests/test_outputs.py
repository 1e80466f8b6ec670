"""Every output of f on one extractor: overlapping masks, labels and boxes, read, trained, saved and written."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import binary_dilation

from conftest import write_pairs
from unplateau.cli import main
from unplateau.data.balance import class_weights
from unplateau.data.kinds import read_task
from unplateau.data.splits import split
from unplateau.decoders.catalogue import build_decoder, first_decoder
from unplateau.errors import DataError, UnplateauError
from unplateau.extractors.catalogue import build_extractor
from unplateau.extractors.frozen import freeze
from unplateau.model import SegmentationModel
from unplateau.scenes import scenes
from unplateau.scenes.base import Difficulty
from unplateau.scenes.catalogue import plant
from unplateau.scenes.context import mixture
from unplateau.scenes.folder import write_folder
from unplateau.training.assess import assess
from unplateau.training.losses import CompoundLoss
from unplateau.training.objectives import objective
from unplateau.training.predict import predict_images, score_map
from unplateau.training.recipe import Recipe
from unplateau.training.saved import FACTS, load_model
from unplateau.training.tiling import Inference
from unplateau.training.train import train_model
from unplateau.types import Pictures, Prediction, Sample

SIDE, COUNT = 48, 24
STEPS = {"multi-label": 40, "label": 40, "boxes": 80}
DECODER = {"multi-label": "linear", "label": "label", "boxes": "boxes"}
QUICK = Recipe(batch=6, evaluations=2, half_size=0.0, learning_rate=5e-3)
COLOURED = mixture({"fire": 1.0})
"""Orange discs, positive, among blue ones."""


def coloured(count: int = COUNT) -> list[Sample]:
    easy = Difficulty(noise=0.02, objects=4)
    return plant(COLOURED, count, name="discs", size=(SIDE, SIDE), seed=3, difficulty=easy)


def save(pixels: np.ndarray[Any, Any], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def layered(folder: Path) -> Path:
    """Discs, and a wider ring that overlaps each of them, a folder of masks for each; the second drawn in white."""
    for sample in coloured():
        wide = binary_dilation(sample.mask, iterations=4)
        save(sample.image, folder / "images" / f"{sample.name}.png")
        save(sample.mask, folder / "masks" / "disc" / f"{sample.name}.png")
        save(np.uint8(255) * wide, folder / "masks" / "wide" / f"{sample.name}.png")
    return folder


def labelled(folder: Path) -> Path:
    """Scenes of flames and scenes of grey shapes, told apart by a table."""
    rows = ["stem,label"]
    for kind in ("fire", "geometry"):
        for sample in scenes(kind, COUNT // 2, size=(SIDE, SIDE), seed=2):
            save(sample.image, folder / "images" / f"{sample.name}.png")
            rows.append(f"{sample.name},{kind}")
    (folder / "labels.csv").write_text("\n".join(rows))
    return folder


def boxed(folder: Path) -> Path:
    return write_folder(coloured(), folder)


MADE = {"multi-label": layered, "label": labelled, "boxes": boxed}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("outputs")
    return {kind: make(root / kind) for kind, make in MADE.items()}


@pytest.fixture(scope="module")
def pictures(folders) -> dict[str, Pictures]:
    return {kind: read_task(folder, kind, size=SIDE) for kind, folder in folders.items()}


@pytest.fixture(scope="module")
def trained(pictures, tmp_path_factory) -> dict[str, tuple[Path, dict[str, float]]]:
    """A model of each kind on the same extractor, and what it scored."""
    done = {}
    for kind, decoder in DECODER.items():
        folder, recipe = tmp_path_factory.mktemp(kind), replace(QUICK, steps=STEPS[kind])
        facts = train_model(
            pictures[kind], extractor="reach-33", decoder=decoder, frozen=False, recipe=recipe, seed=0, folder=folder
        )
        done[kind] = folder, facts
    return done


def test_overlapping_masks_train_above_chance(trained):
    facts = trained["multi-label"][1]
    assert facts["iou"] > 0.5, facts
    assert min(facts["iou of disc"], facts["iou of wide"]) > 0.4


def test_labels_train_above_chance(trained):
    facts = trained["label"][1]
    assert facts["accuracy"] > facts["commonest"] + 0.2, facts
    assert facts["average_precision"] > 0.8


def test_boxes_train_above_chance(trained):
    facts = trained["boxes"][1]
    assert facts["ap50"] > 0.3, facts
    assert 0 < facts["map"] <= facts["ap50"]


# ---- the same c, another f -----------------------------------------------------------------------------------

KINDS = ("mask", *DECODER)


@pytest.mark.parametrize("frozen", [False, True])
def test_one_extractor_serves_every_decoder(frozen):
    """The same object, not a copy: each f reads it, and what it gives stays the same to the bit."""
    extractor = build_extractor("test_resnet").eval()
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before = extractor(images).levels
    for kind in KINDS:
        decoder = build_decoder(first_decoder(kind), extractor.gives, 3, kind)
        model = SegmentationModel(freeze(extractor) if frozen else extractor, decoder).eval()
        with torch.no_grad():
            said = model(images)
        assert said.logits.shape[-1 if kind in ("label", "boxes") else 1] == 3
        assert decoder.gives == ("mask" if kind == "multi-label" else kind)
    with torch.no_grad():
        assert all(torch.equal(old, new) for old, new in zip(before, extractor(images).levels, strict=True))


def test_an_extractor_trained_for_one_answer_is_read_by_another(trained):
    """The extractor that learned boxes, frozen, under a decoder of labels: its weights do not move."""
    extractor = load_model(trained["boxes"][0]).model.extractor
    before = {name: each.clone() for name, each in extractor.state_dict().items()}
    model = SegmentationModel(freeze(extractor), build_decoder("label", extractor.gives, 2, "label")).train()
    optimizer = torch.optim.SGD([each for each in model.parameters() if each.requires_grad], lr=0.1)
    model(torch.rand(2, 3, SIDE, SIDE)).logits.square().mean().backward()
    optimizer.step()
    assert all(torch.equal(each, before[name]) for name, each in extractor.state_dict().items())


@pytest.mark.parametrize(("kind", "decoder"), [("label", "unet"), ("boxes", "linear"), ("mask", "label")])
def test_a_decoder_of_another_task_is_refused(kind, decoder, tmp_path, capsys):
    assert main(["train", str(tmp_path), "--task", kind, "--decoder", decoder]) == 2
    assert f"got '{decoder}'" in capsys.readouterr().err


# ---- saved, loaded, predicted --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", DECODER)
def test_a_saved_model_says_the_same_again(kind, trained, pictures):
    folder, facts = trained[kind]
    saved = load_model(folder)
    assert saved.task == pictures[kind].task
    assert saved.native == (SIDE, SIDE)
    fold = split(pictures[kind], seed=0)[0]
    again = assess(saved.model, pictures[kind], fold)
    assert again == pytest.approx(facts)
    kept = json.loads((folder / "model.json").read_text())
    assert kept["task"]["kind"] == kind
    assert {name: kept[name] for name in facts} == pytest.approx(facts)


def written(kind: str, trained: Any, folders: Any, out: Path) -> list[Path]:
    images = sorted((folders[kind] / "images").iterdir())
    return list(predict_images(load_model(trained[kind][0]), images, out))


def test_overlapping_masks_are_written_as_they_were_read(trained, folders, tmp_path):
    paths = written("multi-label", trained, folders, tmp_path)
    assert len(paths) == 2 * COUNT
    hits = union = 0
    for path in paths:
        with Image.open(path) as picture:
            mask = np.array(picture)
        assert mask.shape == (SIDE, SIDE)
        assert set(np.unique(mask)) <= {0, 1}
        with Image.open(folders["multi-label"] / path.relative_to(tmp_path)) as picture:
            true = np.array(picture) > 0
        hits, union = hits + int((mask & true).sum()), union + int((mask | true).sum())
    assert hits / union > 0.5
    for name in ("disc", "wide"):
        assert len(list((tmp_path / "scores" / name).iterdir())) == COUNT


def test_labels_are_written_as_they_were_read(trained, folders, tmp_path):
    labels, scores = written("label", trained, folders, tmp_path)
    with labels.open() as said, (folders["label"] / "labels.csv").open() as true:
        ours = {row["stem"]: row["label"] for row in csv.DictReader(said)}
        theirs = {row["stem"]: row["label"] for row in csv.DictReader(true)}
    assert ours.keys() == theirs.keys()
    assert sum(ours[stem] == theirs[stem] for stem in ours) > 0.8 * len(ours)
    with scores.open() as said:
        for row in csv.DictReader(said):
            assert float(row["fire"]) + float(row["geometry"]) == pytest.approx(1, abs=1e-5)
            assert (float(row["fire"]) > 0.5) == (ours[row["stem"]] == "fire")


def test_boxes_are_written_in_the_form_in_which_they_are_read(trained, folders, pictures, tmp_path):
    (path,) = written("boxes", trained, folders, tmp_path)
    content = json.loads(path.read_text())
    assert [each["name"] for each in content["categories"]] == list(pictures["boxes"].task.names)
    assert len(content["images"]) == COUNT
    for each in content["annotations"]:
        left, top, width, height = each["bbox"]
        assert min(left, top) >= 0
        assert min(width, height) > 0
        assert max(left + width, top + height) <= SIDE + 0.01
        assert 0 < each["score"] <= 1
    sure = {**content, "annotations": [each for each in content["annotations"] if each["score"] > 0.3]}
    (tmp_path / "images").symlink_to(folders["boxes"] / "images")
    path.write_text(json.dumps(sure))
    again = read_task(tmp_path, "boxes", size=SIDE)
    assert again.task.outputs == 1
    assert int((again.truth[..., 0] >= 0).sum()) == len(sure["annotations"])


def test_boxes_of_an_image_of_another_size_lie_on_its_things(trained, folders, tmp_path):
    """An image of twice the size has the same boxes, twice as large."""
    first = sorted((folders["boxes"] / "images").iterdir())[0]
    with Image.open(first) as picture:
        picture.resize((2 * SIDE, 2 * SIDE), Image.Resampling.NEAREST).save(tmp_path / "large.png")
        picture.save(tmp_path / "plain.png")
    saved = load_model(trained["boxes"][0])
    (path,) = predict_images(saved, [tmp_path / "large.png", tmp_path / "plain.png"], tmp_path / "out")
    content = json.loads(path.read_text())["annotations"]
    best = {
        image: max((each for each in content if each["image_id"] == image), key=lambda a: a["score"])
        for image in (1, 2)
    }
    assert np.array(best[1]["bbox"]) == pytest.approx(2 * np.array(best[2]["bbox"]), abs=2)


def test_answers_before_a_corrupt_image_stay(trained, folders, tmp_path):
    images = sorted((folders["label"] / "images").iterdir())[:2]
    bad = tmp_path / "bad.png"
    bad.write_bytes(images[0].read_bytes()[:1000])
    with pytest.raises(DataError, match=r"bad\.png cannot be decoded"):
        list(predict_images(load_model(trained["label"][0]), [*images, bad], tmp_path / "out"))
    assert len((tmp_path / "out" / "labels.csv").read_text().splitlines()) == 3


def test_predicted_tables_never_replace_those_of_the_data_set(trained, folders, capsys):
    before = (folders["label"] / "labels.csv").read_bytes()
    assert (
        main(["predict", str(trained["label"][0]), str(folders["label"] / "images"), "--out", str(folders["label"])])
        == 2
    )
    assert "labels.csv, which would be overwritten" in capsys.readouterr().err
    assert (folders["label"] / "labels.csv").read_bytes() == before


# ---- by the command line -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "says", "writes"),
    [
        ("multi-label", "of wide 0.", "48 masks: "),
        ("label", "for always the commonest answer, average precision", "labels.csv and scores.csv: "),
        ("boxes", "AP50 ", "instances.json: "),
    ],
)
def test_train_and_predict_from_the_command_line(kind, says, writes, folders, tmp_path, capsys):
    small = ("--size", str(SIDE), "--steps", "2", "--extractor", "reach-5")
    assert main(["train", str(folders[kind]), "--task", kind, "--out", str(tmp_path / "model"), *small]) == 0
    assert says in capsys.readouterr().out
    images = str(folders[kind] / "images")
    assert main(["predict", str(tmp_path / "model"), images, "--out", str(tmp_path / "out")]) == 0
    assert writes in capsys.readouterr().out
    if kind != "multi-label":
        assert main(["predict", str(tmp_path / "model"), images, "--flips", "--out", str(tmp_path / "out")]) == 2
        assert f"are for masks, and the model's task is '{kind}'" in capsys.readouterr().err
    assert (
        main(["diagnose", str(folders["boxes"]), "--model", str(tmp_path / "model"), "--out", str(tmp_path / "d")]) == 2
    )
    said = capsys.readouterr().err
    assert (
        f"A diagnosis is of masks with one class a pixel; the model in '{tmp_path / 'model'}' answers '{kind}'" in said
    )
    assert said.count("\n") == 1


def test_a_task_that_there_is_none_of(tmp_path, capsys):
    assert main(["train", str(tmp_path), "--task", "lable"]) == 2
    assert "`task` must be one of 'mask', 'multi-label', 'label', 'boxes'; got 'lable': did you mean 'label'" in (
        capsys.readouterr().err
    )


# ---- settings ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "recipe"),
    [
        ("label", Recipe(loss="ce")),
        ("boxes", Recipe(class_weights="auto")),
        ("label", Recipe(crop=(16, 16))),
        ("multi-label", Recipe(positive_rate=0.5)),
    ],
)
def test_a_setting_that_would_do_nothing_is_refused(kind, recipe, pictures):
    task = pictures[kind].task
    with pytest.raises(UnplateauError, match=rf"means nothing for the task '{kind}'.*Leave it out"):
        objective(task, torch.ones(task.outputs), recipe)


def test_each_overlapping_class_is_weighed_by_its_own_share(pictures):
    weights = class_weights(pictures["multi-label"], range(COUNT), "auto")
    areas = (pictures["multi-label"].masks == 1).sum((0, 2, 3)).double()
    expected = ((COUNT * SIDE * SIDE - areas) / areas).sqrt()
    assert torch.allclose(weights.double(), expected, rtol=1e-5)


def test_the_loss_of_overlapping_classes_is_the_mean_of_their_binary_losses(pictures):
    task, generator = pictures["multi-label"].task, torch.Generator().manual_seed(0)
    logits = torch.randn(3, 2, SIDE, SIDE, generator=generator)
    masks = pictures["multi-label"].masks[:3]
    said = objective(task, torch.tensor([2.0, 3.0]), QUICK).loss(None, Prediction(logits), masks)
    each = [
        CompoundLoss(1, torch.tensor([weight]))(logits[:, place : place + 1], masks[:, place])
        for place, weight in enumerate((2.0, 3.0))
    ]
    assert float(said) == pytest.approx(float(sum(each)) / 2)


def test_an_image_of_16_bits_is_read_on_the_scale_of_the_training_also_alone(tmp_path):
    """A dark one tells nothing of the range: by itself it would come out four times as bright."""
    data = write_pairs(tmp_path / "data")
    for place, path in enumerate(sorted((data / "images").iterdir())):
        grey = np.asarray(Image.open(path).convert("L")).astype(np.uint16) * (4 if place == 0 else 12)
        Image.fromarray(grey).save(path)
    small = ("--size", "32", "--steps", "2", "--extractor", "reach-5", "--out", str(tmp_path / "model"))
    assert main(["train", str(data), *small]) == 0
    assert json.loads((tmp_path / "model" / FACTS).read_text())["white"] == 4095
    for name, asked in {"all": data / "images", "alone": data / "images" / "p00.png"}.items():
        assert main(["predict", str(tmp_path / "model"), str(asked), "--out", str(tmp_path / name)]) == 0
    alone, among = ((tmp_path / name / "scores" / "p00.png").read_bytes() for name in ("alone", "all"))
    assert alone == among


# ---- tiles and flips -----------------------------------------------------------------------------------------


def test_tiles_keep_the_scale_of_the_training(trained, folders):
    """Four images side by side, twice as large as any in training: in tiles, each answers as it did alone."""
    saved = load_model(trained["multi-label"][0])
    names = sorted((folders["multi-label"] / "images").iterdir())[:4]
    parts = [np.array(Image.open(name)) for name in names]
    large = np.concatenate([np.concatenate(parts[:2], 1), np.concatenate(parts[2:], 1)], 0)
    tiled = score_map(saved, large, Inference(tile=(SIDE, SIDE), overlap=0.0))
    for place, part in enumerate(parts):
        top, left = place // 2 * SIDE, place % 2 * SIDE
        alone = score_map(saved, part)
        assert np.abs(tiled[:, top : top + SIDE, left : left + SIDE] - alone).max() < 1e-4
    assert np.abs(tiled - score_map(saved, large)).max() > 0.1


def test_flips_average_with_the_mirrored_image(trained, folders):
    saved = load_model(trained["multi-label"][0])
    image = np.array(Image.open(sorted((folders["multi-label"] / "images").iterdir())[0]))
    both = (score_map(saved, image) + score_map(saved, np.ascontiguousarray(image[:, ::-1]))[..., ::-1]) / 2
    assert np.abs(score_map(saved, image, Inference(flips=("horizontal",))) - both).max() < 1e-5


def test_tile_and_flips_change_what_predict_writes(trained, folders, tmp_path):
    model = str(trained["multi-label"][0])
    images = str(sorted((folders["multi-label"] / "images").iterdir())[0])
    scores = {}
    for name, given in {"plain": (), "tiled": ("--tile", "24"), "flipped": ("--flips",)}.items():
        assert main(["predict", model, images, *given, "--out", str(tmp_path / name)]) == 0
        scores[name] = np.array(Image.open(sorted((tmp_path / name / "scores" / "disc").iterdir())[0])).astype(int)
    assert 0 < np.abs(scores["tiled"] - scores["plain"]).mean() < 60
    assert 0 < np.abs(scores["flipped"] - scores["plain"]).mean() < 60


def test_tiles_need_a_model_that_knows_its_scale(trained, folders, tmp_path, capsys):
    model = tmp_path / "old"
    shutil.copytree(trained["multi-label"][0], model)
    facts = json.loads((model / "model.json").read_text())
    del facts["native"]
    (model / "model.json").write_text(json.dumps(facts))
    asked = ["predict", str(model), str(folders["multi-label"] / "images"), "--out", str(tmp_path / "out")]
    assert main([*asked, "--tile", "24"]) == 2
    assert (
        "`tile` needs a model that says how large its training images were; train it again." in capsys.readouterr().err
    )
    assert main([*asked, "--tile", "-1"]) == 2
    assert "`tile` must be at least 0" in capsys.readouterr().err
    assert main([*asked, "--tile", "3"]) == 2
    assert "`tile` must be at least 16 pixels a side" in capsys.readouterr().err
    assert main(asked) == 0
