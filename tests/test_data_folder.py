"""Every way a folder can be wrong gets one clear sentence; every way it can be right is read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unplateau.data import FolderSource, SampleSource, open_data, read_pictures
from unplateau.errors import DataError
from unplateau.types import Sample


def sentence(folder: Path | list, **how: object) -> str:
    """What the door says to this data set: exactly one sentence."""
    with pytest.raises(DataError) as caught:
        read_pictures(open_data(folder), size=32, **how)
    said = str(caught.value)
    assert said.endswith(".")
    assert ". " not in said
    assert "\n" not in said
    return said


def groups_csv(folder: Path, text: str) -> Path:
    (folder / "groups.csv").write_text(text, encoding="utf-8")
    return folder


# ---- layout --------------------------------------------------------------------------------------------------


def test_missing_folder(tmp_path):
    assert "nowhere does not exist" in sentence(tmp_path / "nowhere")


def test_file_instead_of_folder(tmp_path):
    (tmp_path / "data.zip").write_bytes(b"PK")
    assert "data.zip is a file" in sentence(tmp_path / "data.zip")


@pytest.mark.parametrize("gone", ["images", "masks"])
def test_missing_subfolder(tiny_folder, gone):
    shutil.rmtree(tiny_folder / gone)
    assert f"has no {gone}/" in sentence(tiny_folder)


def test_subfolder_without_pictures(tiny_folder):
    for path in (tiny_folder / "masks").iterdir():
        path.rename(path.with_suffix(".npy"))
    said = sentence(tiny_folder)
    assert "masks" in said
    assert "'p00.npy'" in said


def test_no_pairs(tiny_folder):
    for path in (tiny_folder / "masks").iterdir():
        path.rename(path.with_stem(path.stem + "_mask"))
    said = sentence(tiny_folder)
    assert "'p00'" in said
    assert "'p00_mask'" in said


@pytest.mark.parametrize(("gone", "noun"), [("masks", "image"), ("images", "mask")])
def test_unpaired_names_three_and_counts_all(tiny_folder, gone, noun):
    for index in range(5):
        (tiny_folder / gone / f"p{index:02d}.png").unlink()
    said = sentence(tiny_folder)
    assert f"Each {noun}" in said
    assert "5 of 12" in said
    assert "'p00.png', 'p01.png', 'p02.png' and 2 more" in said


def test_two_files_of_one_stem(tiny_folder):
    shutil.copy(tiny_folder / "images" / "p03.png", tiny_folder / "images" / "p03.JPG")
    said = sentence(tiny_folder)
    assert "'p03.JPG'" in said
    assert "'p03.png'" in said


def test_hidden_and_foreign_files_are_passed_over(tiny_folder):
    (tiny_folder / "images" / ".p99.png").write_bytes(b"")
    (tiny_folder / "images" / "Thumbs.db").write_bytes(b"")
    assert len(FolderSource(tiny_folder)) == 12


def test_endings_in_capitals(tiny_folder):
    path = tiny_folder / "images" / "p00.png"
    path.rename(path.with_suffix(".PNG"))
    assert FolderSource(tiny_folder).names[0] == "p00"


def test_fewer_than_eight_images(tiny_folder):
    for part in ("images", "masks"):
        for index in range(5):
            (tiny_folder / part / f"p{index:02d}.png").unlink()
    assert "at least 8" in sentence(tiny_folder)


# ---- groups.csv and json -------------------------------------------------------------------------------------


def test_without_groups_each_image_is_its_own(tiny_folder):
    source = FolderSource(tiny_folder)
    assert source.groups == source.names
    assert set(source.splits) == {""}


def test_groups_and_splits_are_read_under_their_one_name(tiny_folder):
    rows = "".join(f"p{i:02d}.png,v{i % 3},{('Training', 'valid', 'test')[i % 3]}\n" for i in range(12))
    source = FolderSource(groups_csv(tiny_folder, "\ufeffstem,group,split\n" + rows + "other,v9,train\n"))
    assert source.groups[:3] == ("v0", "v1", "v2")
    assert source.splits[:3] == ("train", "val", "test")


def test_groups_in_another_encoding_are_said_in_one_sentence(tiny_folder):
    (tiny_folder / "groups.csv").write_bytes("stem,group\np00,Straße\n".encode("latin-1"))
    with pytest.raises(DataError, match="must be text in UTF-8, but its byte 19 is not"):
        FolderSource(tiny_folder)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("stem,group\nimages/p00,a\n", "lacks 12 of 12 ('p00', 'p01', 'p02' and 9 more; its rows are of 'images/p00')"),
        ("stem,group\np00,a\n", "lacks 11 of 12 ('p01', 'p02', 'p03' and 8 more)"),
        ("stem;group\np00;a\n", "its columns are 'stem;group'"),
        ("stem,group\np00,\n", "Line 2"),
        ("stem,group\np00,a\np00,b\n", "disagree on 'p00'"),
    ],
)
def test_bad_groups(tiny_folder, text, words):
    said = sentence(groups_csv(tiny_folder, text))
    assert "groups.csv" in said
    assert words in said


@pytest.mark.parametrize(("split", "words"), [("holdout", "'holdout'"), ("", "1 of 12 have none")])
def test_bad_splits(tiny_folder, split, words):
    rows = "".join(f"p{i:02d},a,{split if i == 0 else 'train'}\n" for i in range(12))
    assert words in sentence(groups_csv(tiny_folder, "stem,group,split\n" + rows))


def test_class_names_come_from_the_folder(tiny_folder):
    (tiny_folder / "about.json").write_text('{"classes": {"0": "ground", "1": "disc"}}')
    assert read_pictures(open_data(tiny_folder)).task.names == ("disc",)
    (tiny_folder / "classes.json").write_text('{"classes": {"0": "ground", "1": "coin"}}')
    assert read_pictures(open_data(tiny_folder)).task.names == ("coin",)


@pytest.mark.parametrize("text", ["{", "[]", '{"classes": ["a"]}', '{"classes": {"sky": 0}}'])
def test_bad_class_names(tiny_folder, text):
    (tiny_folder / "classes.json").write_text(text)
    assert "classes.json" in sentence(tiny_folder)


@pytest.mark.parametrize(
    "text", ['{"red": 1}', '{"1,2": 1}', '{"1,2,300": 1}', '{"#ff0000": 256}', '{"#ff0000": null}']
)
def test_bad_colour_table(tiny_folder, text):
    (tiny_folder / "colours.json").write_text(text)
    assert "colours.json" in sentence(tiny_folder)


# ---- samples -------------------------------------------------------------------------------------------------


def arrays(count: int = 8) -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(0)
    return [(rng.integers(0, 256, (32, 40, 3), dtype=np.uint8), np.eye(32, 40) > 0) for _ in range(count)]


def test_tuples_generators_and_samples_give_the_same_pictures():
    pairs = arrays()
    samples = [Sample(f"{i:05d}", image, mask.astype(np.uint8), f"{i:05d}") for i, (image, mask) in enumerate(pairs)]
    named = ((f"{i:05d}", image, mask, f"{i:05d}") for i, (image, mask) in enumerate(pairs))
    first, *others = (read_pictures(open_data(data), size=32) for data in (pairs, samples, named))
    for other in others:
        assert other.names == first.names
        assert (other.images == first.images).all()
        assert (other.masks == first.masks).all()


def test_open_data_leaves_a_source_alone(tiny_folder):
    source = FolderSource(tiny_folder)
    assert open_data(source) is source
    assert isinstance(open_data(str(tiny_folder)), FolderSource)


@pytest.mark.parametrize(
    ("item", "words"),
    [
        ("p00.png", "a str"),
        ((np.zeros((4, 4, 3)), np.zeros((4, 4))), "float64 (4, 4, 3)"),
        ((np.zeros((3, 4, 4), np.uint8), np.zeros((4, 4))), "uint8 (3, 4, 4)"),
        ((np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4, 1))), "(4, 4, 1)"),
        ((np.zeros((4, 4, 3), np.uint8), np.full((4, 4), 0.5)), "0.5"),
        ((np.zeros((4, 4, 3), np.uint8), np.full((4, 4), 300)), "300"),
        ((np.zeros((4, 4, 3), np.uint8), np.full((4, 4), np.nan)), "nan"),
    ],
)
def test_bad_samples_are_numbered(item, words):
    said = sentence([*arrays(), item])
    assert said.startswith("Sample 8")
    assert words in said


def test_samples_of_one_name():
    image, mask = arrays(1)[0]
    assert "'a' occurs twice" in sentence([("a", image, mask)] * 8)


def test_samples_take_no_colours():
    with pytest.raises(DataError, match="for the masks of a folder"):
        open_data(arrays(), colours={(0, 0, 0): 0})


def test_a_sequence_is_not_held_in_memory():
    pairs = arrays()
    assert SampleSource(pairs)._items is pairs


# ---- one sentence a broken file ------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["images", "masks"])
def test_empty_file(tiny_folder, part):
    (tiny_folder / part / "p04.png").write_bytes(b"")
    said = sentence(tiny_folder)
    assert f"{part}/p04.png is empty" in said


@pytest.mark.parametrize("part", ["images", "masks"])
def test_text_called_png(tiny_folder, part):
    (tiny_folder / part / "p04.png").write_text("hello")
    said = sentence(tiny_folder)
    assert f"{part}/p04.png is not an image" in said
    assert "hello" in said


@pytest.mark.parametrize("part", ["images", "masks"])
def test_truncated_file(tiny_folder, part):
    path = tiny_folder / part / "p04.png"
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    assert f"{part}/p04.png cannot be decoded" in sentence(tiny_folder)


def test_truncated_jpeg(tiny_folder):
    old = tiny_folder / "images" / "p04.png"
    path = old.with_suffix(".jpg")
    Image.open(old).save(path)
    old.unlink()
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert "images/p04.jpg cannot be decoded" in sentence(tiny_folder)


def test_tiff_of_several_pages(tiny_folder):
    path = tiny_folder / "masks" / "p04.png"
    page = Image.open(path)
    page.load()
    path.unlink()
    page.save(path.with_suffix(".tif"), save_all=True, append_images=[page, page])
    assert "p04.tif must hold one image, but has 3 pages" in sentence(tiny_folder)


def test_other_size(tiny_folder):
    Image.new("L", (20, 24)).save(tiny_folder / "masks" / "p04.png")
    said = sentence(tiny_folder)
    assert "masks/p04.png" in said
    assert "40 x 48" in said
    assert "24 x 20" in said
    with pytest.raises(DataError, match="24 x 20"):
        FolderSource(tiny_folder).sample(4)


def test_mask_drawn_before_the_exif_turn(tiny_folder):
    path = tiny_folder / "images" / "p04.png"
    picture = Image.open(path)
    picture.load()
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save(path, exif=exif)
    said = sentence(tiny_folder)
    assert "masks/p04.png" in said
    assert "EXIF" in said


def test_json_of_the_real_kind_is_read(tiny_folder):
    (tiny_folder / "about.json").write_text(json.dumps({"name": "x", "classes": {"0": "a", "1": "b"}, "pairs": 12}))
    assert FolderSource(tiny_folder).class_names == {0: "a", 1: "b"}
