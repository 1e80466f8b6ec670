"""Image labels: from labels.csv beside images/, or from masks: does the class occur in the image?

folder/labels.csv        stem,label; several rows for an image with several labels, an empty label for none
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from unplateau.data.folder import SUFFIXES, some
from unplateau.data.sources import AbstractSource, ImageFolder
from unplateau.data.truths import ImageLabels, columns, mask_ids, things
from unplateau.errors import DataError
from unplateau.types import IGNORE, Task

LABELS = "labels.csv"


def labels_of_masks(source: AbstractSource, positive: Sequence[int] | None) -> ImageLabels:
    """Which classes occur in each mask of a source; not known where no pixel of the mask is counted.

    Raises:
        DataError: as in `mask_ids`, `things` and `ImageLabels`.
    """
    ids = mask_ids(source)
    task = things(set().union(*ids), positive, source, "label")
    table = np.array([[bool(set(wanted) & seen) for wanted in columns(task)] for seen in ids], np.uint8)
    if IGNORE not in task.positive:
        table[[seen == {IGNORE} for seen in ids]] = IGNORE
    return ImageLabels(task, table)


def labels_of_table(source: ImageFolder) -> ImageLabels:
    """What labels.csv says of each image of a folder.

    The labels exclude each other where each image has just one.

    Raises:
        DataError: no such table, a row for no image, an image without a row, or nothing to tell apart.
    """
    path = source.folder / LABELS
    said = _read(path)
    _refuse_unpaired(path, said, source.names)
    names = tuple(sorted(set().union(*said.values())))
    if not names:
        raise DataError(f"{path} must name a label for some image, but every label is empty: fill them in.")
    single = all(len(said[stem]) == 1 for stem in source.names) and len(names) > 1
    table = np.array([[name in said[stem] for name in names] for stem in source.names], np.uint8)
    return ImageLabels(Task((), tuple(range(len(names))), names, "label", exclusive=single), table)


def _read(path: Path) -> dict[str, set[str]]:
    """The labels of each stem."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            found = reader.fieldnames or ()
            if not {"stem", "label"} <= set(found):
                raise DataError(
                    f"{path} must begin with the line stem,label, but its columns are {some(found, 5) or 'none'}: "
                    "add that first line and use commas."
                )
            said: dict[str, set[str]] = {}
            for row in reader:
                stem, label = ((row[column] or "").strip() for column in ("stem", "label"))
                said.setdefault(_bare(stem), set()).update({label} - {""})
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} must be a CSV file in UTF-8, but reading it says: {error}: save it so.") from error
    return said


def _bare(stem: str) -> str:
    ending = Path(stem).suffix
    return stem[: -len(ending)] if ending.lower() in SUFFIXES else stem


def _refuse_unpaired(path: Path, said: dict[str, set[str]], names: tuple[str, ...]) -> None:
    if strange := said.keys() - set(names):
        raise DataError(
            f"Each row of {path} must be of an image, but {len(strange)} of {len(said)} stems ({some(strange)}) have "
            "none in images/: add the images or take the rows out."
        )
    if missing := set(names) - said.keys():
        raise DataError(
            f"{path} must have a row for each image, but lacks {len(missing)} of {len(names)} ({some(missing)}): add "
            "them, with an empty label where none holds."
        )
