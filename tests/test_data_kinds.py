"""What is read for each kind of task, and what is refused in one sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import write_pairs
from unplateau.cli import main
from unplateau.data.balance import class_areas, class_weights
from unplateau.data.kinds import read_task
from unplateau.data.splits import split
from unplateau.data.transforms import NONE, STANDARD, Augmentation, augment, augment_boxes
from unplateau.errors import DataError
from unplateau.types import Pictures, Sample

HEIGHT, WIDTH = 40, 48


def pixels(path: Path) -> np.ndarray[Any, Any]:
    with Image.open(path) as picture:
        return np.array(picture)


def sample(index: int, mask: np.ndarray[Any, Any]) -> Sample:
    image = np.random.default_rng(index).integers(0, 255, (*mask.shape, 3), dtype=np.uint8)
    return Sample(f"s{index:02d}", image, mask, group=f"s{index:02d}")


def squares(*corners: tuple[int, int, int], side: int = 8) -> np.ndarray[Any, Any]:
    """A mask with squares of 8 pixels: id, top, left."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    for each, top, left in corners:
        mask[top : top + side, left : left + side] = each
    return mask


def layers(folder: Path) -> Path:
    """The discs of `write_pairs` as one class, and the left half of the image as another."""
    write_pairs(folder)
    for path in sorted((folder / "masks").iterdir()):
        half = np.zeros((HEIGHT, WIDTH), np.uint8)
        half[:, : WIDTH // 2] = 255
        for name, mask in {"disc": pixels(path), "left half": half}.items():
            (folder / "masks" / name).mkdir(exist_ok=True)
            Image.fromarray(mask).save(folder / "masks" / name / path.name)
        path.unlink()
    return folder


def table(folder: Path, rows: Callable[[int], list[str]] = lambda index: [f"{index % 3}"]) -> Path:
    write_pairs(folder)
    said = [f"p{index:02d}.png,{label}" for index in range(12) for label in rows(index)]
    (folder / "labels.csv").write_text("\n".join(["stem,label", *said]))
    return folder


def coco(folder: Path) -> dict[str, Any]:
    """Two boxes an image; of the last image none."""
    write_pairs(folder)
    images = [{"id": 100 + i, "file_name": f"p{i:02d}.png", "height": HEIGHT, "width": WIDTH} for i in range(12)]
    boxes = [(7, [2, 3, 10, 20]), (9, [20.5, 10, 12, 8])]
    annotations = [
        {"id": 2 * i + k, "image_id": 100 + i, "category_id": category, "bbox": box, "iscrowd": 0}
        for i in range(11)
        for k, (category, box) in enumerate(boxes)
    ]
    return {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 9, "name": "cat"}, {"id": 7, "name": "dog"}],
    }


def written(folder: Path, content: Any) -> Path:
    (folder / "instances.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


# ---- multi-label ---------------------------------------------------------------------------------------------


def test_a_folder_of_masks_for_each_class_may_overlap(tmp_path):
    pictures = read_task(layers(tmp_path / "d"), "multi-label", size=WIDTH)
    assert (pictures.task.kind, pictures.task.names, pictures.task.exclusive) == (
        "multi-label",
        ("disc", "left half"),
        False,
    )
    assert tuple(pictures.masks.shape) == (12, 2, HEIGHT, WIDTH)
    for row, name in enumerate(pictures.names):
        assert np.array_equal(pictures.masks[row, 0].numpy(), pixels(tmp_path / "d" / "masks" / "disc" / f"{name}.png"))
    assert (pictures.masks[:, 1, :, : WIDTH // 2] == 1).all()
    assert (pictures.masks[:, 1, :, WIDTH // 2 :] == 0).all()
    assert (pictures.masks == 1).all(1).any()
    assert np.array_equal(class_areas(pictures), (pictures.masks == 1).flatten(2).sum(2).numpy())


def test_what_is_not_counted_in_one_class_is_counted_in_another(tmp_path):
    folder = layers(tmp_path / "d")
    path = folder / "masks" / "disc" / "p00.png"
    mask = pixels(path)
    mask[:4] = 255
    Image.fromarray(mask).save(path)
    masks = read_task(folder, "multi-label", size=WIDTH).masks[0]
    assert (masks[0, :4] == 255).all()
    assert (masks[1] != 255).all()


# ---- labels --------------------------------------------------------------------------------------------------


def test_one_label_for_each_image_is_exclusive_and_several_are_not(tmp_path):
    single = read_task(table(tmp_path / "one"), "label", size=WIDTH)
    assert (single.task.names, single.task.exclusive, single.task.outputs) == (("0", "1", "2"), True, 3)
    assert single.truth.tolist() == [[index % 3 == each for each in range(3)] for index in range(12)]
    several = read_task(table(tmp_path / "more", lambda i: [["a"], ["a", "b"], [""]][i % 3]), "label", size=WIDTH)
    assert (several.task.names, several.task.exclusive) == (("a", "b"), False)
    assert several.truth[:3].tolist() == [[1, 0], [1, 1], [0, 0]]
    assert torch.allclose(class_weights(several, range(12), "auto"), torch.tensor([0.5**0.5, 2**0.5]))
    assert torch.allclose(class_weights(single, range(12), "auto"), torch.ones(3))


@pytest.mark.parametrize(
    ("positive", "names", "first"),
    [(None, ("class 1", "class 2"), [[1, 0], [1, 1], [0, 1]]), ([2], ("class 2",), [[0], [1], [1]])],
)
def test_a_label_from_masks_says_which_classes_occur(positive, names, first):
    masks = [squares((1, 0, 0)), squares((1, 0, 0), (2, 20, 20)), squares((2, 20, 20))]
    pictures = read_task([sample(i, masks[i % 3]) for i in range(12)], "label", positive=positive, size=WIDTH)
    assert pictures.task.names == names
    assert pictures.task.outputs == len(names)
    assert pictures.truth[:3].tolist() == first
    assert not pictures.task.binary


def test_the_label_of_an_image_of_which_nothing_is_counted_is_not_known():
    masks = [squares((1, 0, 0)), squares(), np.full((HEIGHT, WIDTH), 255, np.uint8)]
    pictures = read_task([sample(i, masks[i % 3]) for i in range(12)], "label", size=WIDTH)
    assert pictures.truth[:3, 0].tolist() == [1, 0, 255]


def test_labels_are_spread_over_the_parts(tmp_path):
    pictures = read_task(table(tmp_path), "label", size=WIDTH)
    for fold in split(pictures, seed=0):
        assert (pictures.truth[list(fold.report)].sum(0) > 0).all()


# ---- boxes ---------------------------------------------------------------------------------------------------


def test_boxes_of_a_coco_file_are_read_in_pixels_of_the_grid(tmp_path):
    folder = tmp_path / "d"
    pictures = read_task(written(folder, coco(folder)), "boxes", size=WIDTH)
    assert (pictures.task.classes, pictures.task.names) == ((7, 9), ("dog", "cat"))
    assert pictures.truth[0].tolist() == [[0, 2, 3, 12, 23], [1, 20.5, 10, 32.5, 18]]
    assert (pictures.truth[11, :, 0] == -1).all()
    assert class_areas(pictures)[[0, 11]].tolist() == [[1, 1], [0, 0]]
    half = read_task(folder, "boxes", size=WIDTH // 2)
    # The sides of the grid are multiples of 8: 16 for 40 pixels, 24 for 48.
    assert half.size == (16, 24)
    expected = torch.tensor([[0, 1, 1.2, 6, 9.2], [1, 10.25, 4, 16.25, 7.2]])
    assert torch.allclose(half.truth[0], expected)


def test_a_box_from_masks_is_around_each_connected_part():
    mask = squares((1, 0, 0), (1, 8, 8), (1, 24, 30), (2, 30, 2))
    pictures = read_task([sample(i, mask) for i in range(9)], "boxes", size=WIDTH)
    assert pictures.task.names == ("class 1", "class 2")
    # The first two squares touch at a corner.
    assert sorted(pictures.truth[0].tolist()) == [[0, 0, 0, 16, 16], [0, 30, 24, 38, 32], [1, 2, 30, 10, 38]]


def test_boxes_too_small_for_the_grid_and_crowds_are_left_out_and_counted(tmp_path):
    folder = tmp_path / "d"
    content = coco(folder)
    content["annotations"][0]["bbox"] = [5, 5, 1, 9]
    content["annotations"][1]["iscrowd"] = 1
    pictures = read_task(written(folder, content), "boxes", size=WIDTH)
    assert (pictures.truth[0, :, 0] == -1).all()
    assert any("1 of 21 boxes are below 2 pixels" in each for each in pictures.warnings)
    assert any("1 annotations" in each and "crowds" in each for each in pictures.warnings)


def test_boxes_of_a_padded_image_lie_where_the_image_lies(tmp_path):
    folder = tmp_path / "d"
    content = coco(folder)
    Image.new("RGB", (WIDTH, 12)).save(folder / "images" / "p00.png")
    content["images"][0]["height"] = 12
    content["annotations"] = [{**content["annotations"][2], "image_id": 100, "bbox": [0, 0, WIDTH, 12]}]
    pictures = read_task(written(folder, content), "boxes", size=WIDTH)
    assert pictures.truth[0].tolist() == [[0, 0, 14, WIDTH, 26]]


# ---- augmentation --------------------------------------------------------------------------------------------


def bright(boxes: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    images = torch.zeros(len(boxes), 3, *size)
    for image, ((_, left, top, right, bottom),) in zip(images, boxes.tolist(), strict=True):
        image[:, int(top) : int(bottom), int(left) : int(right)] = 1
    return images


@pytest.mark.parametrize("change", [Augmentation(contrast=0, brightness=0, colour=0), Augmentation(flip=1.0), STANDARD])
def test_boxes_move_with_the_pixels(change):
    generator = torch.Generator().manual_seed(0)
    boxes = torch.tensor([[[0.0, 20, 12, 36, 28]]]).repeat(30, 1, 1)
    images, moved = augment_boxes(bright(boxes, (48, 64)), boxes, change, generator)
    seen = 0
    for image, (box,) in zip(images, moved, strict=True):
        inside = image[0] > image[0].max() / 2
        rows, columns = torch.where(inside)
        if box[0] < 0:
            continue
        found = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert torch.tensor(found).float().tolist() == pytest.approx(box[1:].tolist(), abs=1.6)
        seen += 1
    assert seen > 20


def test_boxes_and_masks_see_the_same_augmentation():
    boxes = torch.tensor([[[0.0, 20, 12, 36, 28]]]).repeat(5, 1, 1)
    images, masks = bright(boxes, (48, 64)), torch.zeros(5, 48, 64, dtype=torch.uint8)
    first, _ = augment_boxes(images, boxes, STANDARD, torch.Generator().manual_seed(3))
    second, _ = augment(images, masks, STANDARD, torch.Generator().manual_seed(3))
    assert torch.equal(first, second)
    assert augment_boxes(images, boxes, NONE, torch.Generator())[1] is boxes


@pytest.mark.parametrize("change", [STANDARD, NONE])
@pytest.mark.parametrize("crop", [None, (16, 24)])
def test_masks_of_several_classes_move_as_each_would_alone(change, crop):
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(4, 3, 32, 40, generator=generator)
    masks = torch.randint(0, 2, (4, 3, 32, 40), generator=generator, dtype=torch.uint8)
    together, layered = augment(images, masks, change, torch.Generator().manual_seed(2), crop)
    for place in range(3):
        alone, mask = augment(images, masks[:, place], change, torch.Generator().manual_seed(2), crop)
        assert torch.equal(alone, together)
        assert torch.equal(mask, layered[:, place])


# ---- bad input -----------------------------------------------------------------------------------------------


def with_coco(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        content = coco(folder)
        changed = change(content)
        return written(folder, content if changed is None else changed)

    return make


def with_rows(*rows: str, drop: int = 0) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = table(folder) / "labels.csv"
        lines = path.read_text().splitlines()
        path.write_text("\n".join([*lines[: len(lines) - drop], *rows]))
        return folder

    return make


def with_layers(change: Callable[[Path], Any]) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        change(layers(folder) / "masks" / "disc")
        return folder

    return make


def replaced(text: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (table(folder) / "labels.csv").write_text(text)
        return folder

    return make


def three(folder: Path) -> None:
    for path in folder.iterdir():
        Image.fromarray(pixels(path) * np.uint8(3)).save(path)


def none(folder: Path) -> None:
    for path in folder.iterdir():
        Image.fromarray(pixels(path) * np.uint8(0)).save(path)


def without_masks(folder: Path) -> Path:
    for path in (write_pairs(folder) / "masks").iterdir():
        path.unlink()
    (folder / "masks").rmdir()
    return folder


HEAD = ["stem,label"]
BAD: dict[str, tuple[str, Callable[[Path], Path], str]] = {
    "json names an absent image": (
        "boxes",
        with_coco(lambda c: c["images"].append({"id": 1, "file_name": "gone.jpg"})),
        "instances.json names must be in images/, but 1 of 13 are not ('gone'): add them",
    ),
    "json lacks an image": (
        "boxes",
        with_coco(lambda c: c.update(images=c["images"][:-1])),
        "lacks 1 of 12 ('p11'): list them under",
    ),
    "json of another size": (
        "boxes",
        with_coco(lambda c: c["images"][3].update(width=480)),
        "says 40 x 480 pixels high and wide of 'p03', which has 40 x 48",
    ),
    "annotation of no image": (
        "boxes",
        with_coco(lambda c: c["annotations"][5].update(image_id=3)),
        "Annotation 5 of",
    ),
    "annotation of no category": (
        "boxes",
        with_coco(lambda c: c["annotations"][5].update(category_id=3)),
        "none has the id 3: add it",
    ),
    "a box without a width": (
        "boxes",
        with_coco(lambda c: c["annotations"][5].update(bbox=[1, 2, 0, 4])),
        "must have a width and a height above 0; its bbox is [1, 2, 0, 4]",
    ),
    "a box of three numbers": (
        "boxes",
        with_coco(lambda c: c["annotations"][5].update(bbox=[1, 2, 3])),
        "a 'bbox' of four numbers",
    ),
    "no boxes": ("boxes", with_coco(lambda c: c["annotations"].clear()), "There must be boxes to learn from"),
    "boxes too small": (
        "boxes",
        with_coco(lambda c: [each.update(bbox=[1, 1, 1, 1]) for each in c["annotations"]] and None),
        "No box has a side of 2 pixels on the working grid: raise `size`.",
    ),
    "no json": ("boxes", with_coco(lambda c: "{"), "instances.json must be JSON, but is not"),
    "another json": ("boxes", with_coco(lambda c: {"images": 3}), "must hold the lists 'images', 'annotations'"),
    "category without a name": (
        "boxes",
        with_coco(lambda c: c["categories"][0].pop("name") and None),
        "'id' and a 'name'",
    ),
    "neither json nor masks": ("boxes", without_masks, "must hold instances.json, or masks/ that tell the same"),
    "a label of no image": ("label", with_rows("p77,1"), "13 stems ('p77') have none in images/: add the images"),
    "an image without a label": ("label", with_rows(drop=2), "lacks 2 of 12 ('p10', 'p11'): add them, with an empty"),
    "one label for all": (
        "label",
        replaced("stem,label\n" + "\n".join(f"p{i:02d},x" for i in range(12))),
        "'x' holds for",
    ),
    "no label at all": (
        "label",
        replaced("stem,label\n" + "\n".join(f"p{i:02d}," for i in range(12))),
        "every label is empty",
    ),
    "no header": (
        "label",
        replaced("p00,1\np01,2"),
        "must begin with the line stem,label, but its columns are '1', 'p00'",
    ),
    "neither labels nor masks": ("label", without_masks, "must hold labels.csv, or masks/ that tell the same"),
    "every mask holds the class": ("label", write_pairs, "'class 1' holds for all or for none: add images"),
    "a class without a mask": (
        "multi-label",
        with_layers(lambda folder: (folder / "p03.png").unlink()),
        "must hold a mask for each image, but lacks 1 of 12 ('p03'): add them, all zero",
    ),
    "a mask without an image": (
        "multi-label",
        with_layers(lambda folder: Image.new("L", (4, 4)).save(folder / "p99.png")),
        "'p99.png'",
    ),
    "class ids in a binary mask": (
        "multi-label",
        with_layers(three),
        "class 'disc' must hold 0 and 1, or 0 and 255, and both",
    ),
    "a class that is nowhere": ("multi-label", with_layers(none), "they hold 0: export one binary mask for each class"),
    "a mask of another size": (
        "multi-label",
        with_layers(lambda folder: Image.new("L", (4, 4)).save(folder / "p03.png")),
        "must be as large as its image",
    ),
    "plain masks": ("multi-label", write_pairs, "masks must hold a folder for each class"),
}


@pytest.mark.parametrize(("kind", "make", "says"), BAD.values(), ids=BAD)
def test_data_out_of_order_get_one_sentence(kind, make, says, tmp_path, capsys):
    folder = make(tmp_path / "data")
    assert main(["train", str(folder), "--task", kind, "--size", "48", "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert says in said
    assert said.count("\n") == 1
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("kind", "make"), [("boxes", lambda d: written(d, coco(d))), ("label", table), ("multi-label", layers)]
)
def test_positive_is_for_masks(kind, make, tmp_path):
    with pytest.raises(DataError, match=r"`positive` is for masks.*leave it out"):
        read_task(make(tmp_path / "d"), kind, positive=[1], size=WIDTH)


def test_overlapping_masks_need_a_folder():
    with pytest.raises(DataError, match="samples hold one mask each"):
        read_task([sample(0, squares())], "multi-label")


def test_the_mask_task_is_read_as_ever(tmp_path):
    pictures: Pictures = read_task(write_pairs(tmp_path / "d"), "mask", size=WIDTH)
    assert repr(pictures.task) == "Task(positive=(1,), classes=(0, 1), names=('class 1',))"
    assert pictures.truth is pictures.masks
