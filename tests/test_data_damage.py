"""Masks that JPEG or interpolation has altered are refused; honest masks, dense or thin, are left alone."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from conftest import write_pairs
from unplateau.data import find_task, open_data, read_pictures, task_mask
from unplateau.data.checks import encoding_warnings, refuse_damaged, scan_mask
from unplateau.errors import DataError

Mask = NDArray[np.uint8]


def jpeg(quality: int) -> Callable[[Mask], Mask]:
    def damage(mask: Mask) -> Mask:
        file = io.BytesIO()
        Image.fromarray(mask).save(file, "JPEG", quality=quality)
        return np.asarray(Image.open(file))

    return damage


def resized(factor: float, how: Image.Resampling) -> Callable[[Mask], Mask]:
    def damage(mask: Mask) -> Mask:
        picture = Image.fromarray(mask)
        return np.asarray(picture.resize((int(picture.width * factor), int(picture.height * factor)), how))

    return damage


DAMAGES = {
    "jpeg 75": jpeg(75),
    "jpeg 95": jpeg(95),
    "half, bilinear": resized(0.5, Image.Resampling.BILINEAR),
    "larger, bilinear": resized(1.3, Image.Resampling.BILINEAR),
    "double, bicubic": resized(2, Image.Resampling.BICUBIC),
}


def disc(height: int = 80, width: int = 96) -> Mask:
    rows, columns = np.mgrid[:height, :width]
    return (np.hypot(rows - height / 2, columns - width / 2) < height / 3) * np.uint8(255)


def patchwork(classes: int, seed: int = 0, size: int = 160, patches: int = 80) -> Mask:
    """Patches of random ids with lines one pixel wide across them, as dense as street scenes."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:size, :size]
    tops, lefts = rng.uniform(0, size, (2, patches, 1, 1))
    ids = rng.integers(0, classes, patches).astype(np.uint8)
    mask = ids[np.argmin((rows - tops) ** 2 + (columns - lefts) ** 2, axis=0)]
    for column in rng.integers(0, size, 4):
        mask[:, column] = rng.integers(0, classes)
    return mask


def accepted(masks: list[Mask]) -> None:
    refuse_damaged([scan_mask(mask) for mask in masks], [f"masks/{i}.png" for i in range(len(masks))])


MASKS = {"two-valued": [disc()] * 3, "11 classes": [patchwork(11, i) for i in range(3)]}
MASKS["150 classes"] = [patchwork(150, i) for i in range(3)]


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("masks", MASKS.values(), ids=MASKS)
def test_damage_is_found(masks, damage):
    with pytest.raises(DataError, match=r"masks/\d\.png .*PNG, without"):
        accepted([damage(mask) for mask in masks])


@pytest.mark.parametrize("masks", MASKS.values(), ids=MASKS)
@pytest.mark.parametrize("factor", [0.25, 0.5, 1, 2])
def test_honest_masks_are_left_alone(masks, factor):
    accepted([resized(factor, Image.Resampling.NEAREST)(mask) for mask in masks])


def test_one_damaged_mask_among_many_is_named():
    masks = [patchwork(11, i) for i in range(6)]
    masks[4] = jpeg(75)(masks[4])
    with pytest.raises(DataError, match=r"masks/4\.png .*\(1 of 6 masks"):
        accepted(masks)


def test_one_small_anti_aliased_mask_among_clean_ones_is_named():
    small = resized(0.5, Image.Resampling.BILINEAR)(disc(16, 16))
    assert scan_mask(small).steps < 100
    with pytest.raises(DataError, match=r"masks/5\.png"):
        accepted([disc()] * 5 + [small])


def test_jpeg_of_high_quality_saved_as_png_is_found_by_its_values():
    with pytest.raises(DataError, match="lying between"):
        accepted([jpeg(100)(disc())] * 3)


def test_thin_nested_layers_are_no_damage():
    layers = np.repeat(np.array([0, 1, 2, 3, 4, 0], np.uint8), [30, 1, 1, 1, 1, 30])
    accepted([np.tile(layers, (64, 1))] * 4)


def test_a_photo_in_place_of_a_mask_is_found():
    photo = np.random.default_rng(0).integers(0, 256, (10, 10), dtype=np.uint8)
    with pytest.raises(DataError):
        accepted([resized(8, Image.Resampling.BICUBIC)(photo)] * 3)


@pytest.mark.parametrize("quality", [75, 95])
def test_the_door_refuses_a_folder_of_damaged_masks(tiny_folder, quality):
    for path in (tiny_folder / "masks").iterdir():
        with Image.open(path) as picture:
            mask = np.asarray(picture) * np.uint8(255)
        Image.fromarray(jpeg(quality)(mask)).save(path)
    with pytest.raises(DataError, match=r"masks/p\d\d\.png must hold exact class ids"):
        read_pictures(open_data(tiny_folder), size=32)


@pytest.mark.parametrize("name", ["camvid", "bubil_cells"])
def test_real_masks_are_left_alone_and_found_when_damaged(real, name):
    masks = [np.asarray(Image.open(io.BytesIO(p.read_bytes()))) for p in sorted((real(name) / "masks").iterdir())[::60]]
    masks = masks if name == "camvid" else [mask * np.uint8(255) for mask in masks]
    accepted(masks)
    for damage in DAMAGES.values():
        with pytest.raises(DataError):
            accepted([damage(mask) for mask in masks])


# ---- doubtful encodings --------------------------------------------------------------------------------------


def warned(*masks: list[list[int]], names: dict[int, str] | None = None) -> tuple[str, ...]:
    scans = [scan_mask(np.array(mask, np.uint8)) for mask in masks]
    return encoding_warnings(scans, [f"m{i}" for i in range(len(masks))], names or {})


def test_white_on_black_is_said():
    assert "255 is read as the positive class" in warned([[0, 255]], [[0, 0]])[0]
    black = encoding_warnings([scan_mask(np.array([[0, 255]], np.uint8))], ["m"], {}, positive=(0,))
    assert "255 is read as a class and not as 'not counted'" in black[0]


def test_255_stays_uncounted_when_there_is_a_class_besides():
    assert warned([[0, 255, 1]]) == ()


def test_two_encodings_of_one_class_are_said():
    said = warned([[0, 255]], [[0, 1]])
    assert "m1" in said[0]
    assert "m0" in said[0]


def test_grey_levels_made_for_the_eye_are_said():
    assert "0, 128, 255" in warned([[0, 128, 255]])[0]


def test_ids_without_a_name_are_said():
    assert "'7'" in warned([[0, 1, 7, 255]], names={0: "a", 1: "b"})[0]


def palette_pairs(folder: Path, *palettes: list[int]) -> Path:
    """Eight pairs whose palette masks hold 0 and 1, their palettes taken in turn."""
    write_pairs(folder, count=8)
    for index, path in enumerate(sorted((folder / "masks").iterdir())):
        with Image.open(path) as picture:
            shown = Image.fromarray(np.array(picture)).convert("P")
        shown.putdata(np.minimum(np.array(shown), 1).ravel().tolist())
        shown.putpalette(palettes[index % len(palettes)])
        shown.save(path)
    return folder


RED, GREEN = [0, 0, 0, 255, 0, 0], [0, 0, 0, 0, 255, 0]


def test_one_id_in_two_colours_is_said_with_both_files(tmp_path):
    said = read_pictures(open_data(palette_pairs(tmp_path, RED, GREEN)), size=48).warnings
    assert len(said) == 1
    for words in ("id 1", "#ff0000", "p00.png", "#00ff00", "p01.png", "colours.json"):
        assert words in said[0]


def test_palettes_that_agree_or_whose_colours_count_are_left_alone(tmp_path):
    assert read_pictures(open_data(palette_pairs(tmp_path / "same", RED)), size=48).warnings == ()
    (palette_pairs(tmp_path / "table", RED, GREEN) / "colours.json").write_text(
        '{"#000000": 0, "#ff0000": 1, "#00ff00": 1}'
    )
    assert read_pictures(open_data(tmp_path / "table"), size=48).warnings == ()


# ---- the task ------------------------------------------------------------------------------------------------


def test_zero_and_one_are_binary():
    task = find_task({0, 1, 255}, names={1: "fire"})
    assert (task.positive, task.classes, task.names, task.outputs) == ((1,), (0, 1), ("fire",), 1)


def test_more_ids_are_multi_class():
    task = find_task({0, 2, 8, 255}, names={2: "road"})
    assert (task.positive, task.classes, task.names) == ((), (0, 2, 8), ("class 0", "road", "class 8"))
    assert task.outputs == 3


def test_positive_ids_make_it_binary():
    task = find_task({0, 2, 8}, (8, 2), {2: "road"})
    assert (task.positive, task.names) == ((2, 8), ("road + class 8",))


def test_empty_positive_asks_for_multi_class():
    assert not find_task({0, 1}, ()).binary


@pytest.mark.parametrize("positive", [None, (1,), (255,)])
def test_white_on_black_is_binary_however_it_is_asked(positive):
    task = find_task({0, 255}, positive)
    assert task.positive == (255,)
    assert task.names == ("foreground",)
    assert task_mask(np.array([[0, 255]], np.uint8), task).tolist() == [[0, 1]]


def test_task_mask_keeps_255_and_indexes_classes():
    mask = np.array([[0, 2, 8, 255, 77]], np.uint8)
    assert task_mask(mask, find_task({0, 2, 8, 255})).tolist() == [[0, 1, 2, 255, 255]]
    assert task_mask(mask, find_task({0, 2, 8, 255}, (8,))).tolist() == [[0, 0, 1, 255, 255]]


@pytest.mark.parametrize(
    ("ids", "positive", "words"),
    [
        ({0, 1, 2}, (5,), "no mask holds 5: choose among 0, 1, 2"),
        ({0, 1, 255}, (255,), "255 is never counted"),
        ({0, 1}, (0, 1), "names all of 0, 1"),
        ({0}, None, "only the id 0"),
        ({0}, (1,), "only the id 0"),
        ({7, 255}, None, "besides 255"),
        ({255}, None, "only 255"),
    ],
)
def test_tasks_that_cannot_be(ids, positive, words):
    with pytest.raises(DataError) as caught:
        find_task(ids, positive)
    assert words in str(caught.value)
    assert ". " not in str(caught.value)
