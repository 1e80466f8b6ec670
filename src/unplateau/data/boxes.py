"""Boxes: from a COCO JSON beside images/, or around the connected parts of masks.

folder/instances.json    "images": id, file_name; "annotations": image_id, category_id, bbox; "categories": id, name
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from unplateau.data.folder import some
from unplateau.data.parallel import in_parallel
from unplateau.data.sources import AbstractSource, ImageFolder
from unplateau.data.truths import ImageBoxes, columns, mask_ids, things
from unplateau.errors import DataError
from unplateau.types import Task

INSTANCES = "instances.json"

Boxes = NDArray[np.float32]
"""(M, 5): index of the class, then left, top, right and bottom in native pixels."""


# ---- from masks ----------------------------------------------------------------------------------------------


def boxes_of_masks(source: AbstractSource, positive: Sequence[int] | None) -> ImageBoxes:
    """A box around each connected part of a class; pixels that touch at a corner are connected.

    Raises:
        DataError: as in `mask_ids`, `things` and `ImageBoxes`.
    """
    task = things(set().union(*mask_ids(source)), positive, source, "boxes")

    def work(index: int) -> Boxes:
        mask = source.mask(index)
        return np.concatenate([_around(np.isin(mask, ids), place) for place, ids in enumerate(columns(task))])

    return ImageBoxes(task, in_parallel(work, range(len(source))))


def _around(inside: NDArray[np.bool_], index: int) -> Boxes:
    parts, _ = ndimage.label(inside, structure=np.ones((3, 3)))
    edges = [(index, x.start, y.start, x.stop, y.stop) for y, x in ndimage.find_objects(parts)]
    return np.array(edges, np.float32).reshape(-1, 5)


# ---- from COCO -----------------------------------------------------------------------------------------------


def boxes_of_json(source: ImageFolder) -> ImageBoxes:
    """The boxes that instances.json gives the images of a folder; a crowd is no thing and is left out.

    Raises:
        DataError: no such file, not of this form, or not of these images.
    """
    path = source.folder / INSTANCES
    content = _content(path)
    names = _names(content, path)
    _refuse_unpaired(path, names, source.names)
    _refuse_other_size(content, names, source, path)
    categories = _categories(content, path)
    boxes: dict[str, list[tuple[float, ...]]] = {name: [] for name in source.names}
    crowds = 0
    for annotation in content["annotations"]:
        if annotation.get("iscrowd"):
            crowds += 1
            continue
        name, box = _box(annotation, names, categories, path)
        boxes[name].append(box)
    task = Task((), tuple(categories), tuple(categories.values()), "boxes", exclusive=False)
    said = (f"{crowds} annotations of {path} are crowds and are left out.",) if crowds else ()
    return ImageBoxes(task, [np.array(boxes[name], np.float32).reshape(-1, 5) for name in source.names], said)


def _content(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise DataError(f"{path} must be JSON, but is not ({error}): export it again.") from None
    lists = ("images", "annotations", "categories")
    listed = isinstance(content, dict) and all(isinstance(content.get(each), list) for each in lists)
    if not listed or not all(isinstance(entry, dict) for each in lists for entry in content[each]):
        raise DataError(
            f"{path} must hold the lists {', '.join(map(repr, lists))} of objects, as COCO's files do, but does not: "
            "export it as COCO instances."
        )
    found: dict[str, Any] = content
    return found


def _names(content: Mapping[str, Any], path: Path) -> dict[Any, str]:
    """The stem of each image by its id."""
    try:
        return {entry["id"]: Path(entry["file_name"]).stem for entry in content["images"]}
    except (KeyError, TypeError) as error:
        raise DataError(
            f"Each image in {path} must have an 'id' and a 'file_name'; {error} is not there: add it."
        ) from None


def _categories(content: Mapping[str, Any], path: Path) -> dict[int, str]:
    """The name of each category by its id, in the order of the ids."""
    try:
        named = {int(entry["id"]): str(entry["name"]) for entry in content["categories"]}
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"Each category in {path} must have an 'id' and a 'name'; {error} is wrong: add it.") from None
    return dict(sorted(named.items()))


def _refuse_unpaired(path: Path, said: Mapping[Any, str], names: tuple[str, ...]) -> None:
    if strange := set(said.values()) - set(names):
        raise DataError(
            f"Each image that {path} names must be in images/, but {len(strange)} of {len(said)} are not "
            f"({some(strange)}): add them or take their entries out."
        )
    if missing := set(names) - set(said.values()):
        raise DataError(
            f"{path} must list each image, but lacks {len(missing)} of {len(names)} ({some(missing)}): list them "
            "under 'images', without annotations where nothing is to be found."
        )


def _refuse_other_size(content: Mapping[str, Any], names: Mapping[Any, str], source: ImageFolder, path: Path) -> None:
    """Boxes drawn on an image of another size lie elsewhere."""
    places = {name: index for index, name in enumerate(source.names)}
    for entry in content["images"]:
        name = names[entry["id"]]
        height, width = source.size(places[name])
        if (entry.get("height", height), entry.get("width", width)) != (height, width):
            raise DataError(
                f"{path} must give the sizes of the images, but says {entry['height']} x {entry['width']} pixels high "
                f"and wide of {name!r}, which has {height} x {width}: take the images that were annotated."
            )


def _box(
    annotation: Mapping[str, Any], names: Mapping[Any, str], categories: Mapping[int, str], path: Path
) -> tuple[str, tuple[float, ...]]:
    """The image and the row of one annotation."""
    said = f"Annotation {annotation.get('id', 'without an id')} of {path}"
    try:
        image, category = annotation["image_id"], int(annotation["category_id"])
        left, top, width, height = (float(each) for each in annotation["bbox"])
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{said} must have an 'image_id', a 'category_id' and a 'bbox' of four numbers; {error!r}: correct it."
        ) from None
    if image not in names:
        raise DataError(f"{said} must be of an image under 'images', but no image there has the id {image!r}: add it.")
    if category not in categories:
        raise DataError(f"{said} must be of a category under 'categories', but none has the id {category}: add it.")
    if not all(map(math.isfinite, (left, top, width, height))) or min(width, height) <= 0:
        raise DataError(f"{said} must have a width and a height above 0; its bbox is {annotation['bbox']}: correct it.")
    index = list(categories).index(category)
    return names[image], (index, left, top, left + width, top + height)
