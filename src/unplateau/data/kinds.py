"""From data to `Pictures` for each kind of task: what is read where.

mask          folder/masks/NAME.png, class ids
multi-label   folder/masks/CLASS/NAME.png, one binary mask for each class
label         folder/labels.csv, or else from masks: does the class occur?
boxes         folder/instances.json, or else from masks: around each connected part
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from unplateau.data.boxes import INSTANCES, boxes_of_json, boxes_of_masks
from unplateau.data.folder import Colours, some
from unplateau.data.labels import LABELS, labels_of_masks, labels_of_table
from unplateau.data.pictures import read_pictures, read_targets
from unplateau.data.sources import AbstractSource, FolderSource, ImageFolder, open_data
from unplateau.data.truths import AbstractTruth, LayeredMasks
from unplateau.errors import DataError, nearest
from unplateau.types import KINDS, Pictures

Data = str | Path | AbstractSource | Iterable[Any]


def read_task(
    data: Data,
    kind: str,
    *,
    positive: Sequence[int] | None = None,
    size: int = 128,
    seed: int = 0,
    colours: Colours | None = None,
) -> Pictures:
    """The data set at its working size, with the truth of a task of this kind, one of `KINDS`.

    `positive` makes one class of these ids, for masks and for what is told from them.

    Raises:
        DataError: no such kind, or the data break a rule.
    """
    refuse_kind(kind)
    if kind == "mask":
        return read_pictures(open_data(data, colours=colours), positive=positive, size=size, seed=seed)
    if kind == "multi-label":
        return read_targets(*_layers(data, positive), size=size)
    return read_targets(*_told(data, kind, positive, colours), size=size)


def refuse_kind(kind: str) -> None:
    """Refuse a task that there is none of.

    Raises:
        DataError: `kind` is not one of `KINDS`.
    """
    if kind not in KINDS:
        raise DataError(f"`task` must be one of {', '.join(map(repr, KINDS))}; got {kind!r}: {nearest(kind, KINDS)}")


def _told(
    data: Data, kind: str, positive: Sequence[int] | None, colours: Colours | None
) -> tuple[AbstractSource, AbstractTruth]:
    """Images with labels or boxes: those of the folder's own table, or else those that its masks tell."""
    table = LABELS if kind == "label" else INSTANCES
    if isinstance(data, str | Path) and (Path(data) / table).is_file():
        if positive is not None:
            raise DataError(f"`positive` is for masks, but {Path(data) / table} names the classes: leave it out.")
        folder = ImageFolder(Path(data))
        return folder, labels_of_table(folder) if kind == "label" else boxes_of_json(folder)
    if isinstance(data, str | Path) and Path(data).is_dir() and not (Path(data) / "masks").is_dir():
        raise DataError(f"{data} must hold {table}, or masks/ that tell the same, but has neither: add one of them.")
    source = open_data(data, colours=colours)
    truth = labels_of_masks if kind == "label" else boxes_of_masks
    return source, truth(source, positive)


def _layers(data: Data, positive: Sequence[int] | None) -> tuple[AbstractSource, AbstractTruth]:
    if not isinstance(data, str | Path):
        raise DataError("The task 'multi-label' needs a folder with masks/CLASS/NAME.png; samples hold one mask each.")
    if positive is not None:
        raise DataError("`positive` is for masks of class ids, but each class has masks of its own: leave it out.")
    source, masks = ImageFolder(Path(data)), Path(data) / "masks"
    names = sorted(each.name for each in masks.iterdir() if each.is_dir()) if masks.is_dir() else []
    if not names:
        raise DataError(
            f"{masks} must hold a folder for each class with a binary mask for each image, but holds none: make "
            "masks/CLASS/NAME.png, or ask for the task 'mask'."
        )
    for name in names:
        _refuse_unpaired(source, masks / name)
    layers = [FolderSource(Path(data), masks=f"masks/{name}") for name in names]
    return source, LayeredMasks(tuple(names), layers)


def _refuse_unpaired(source: ImageFolder, masks: Path) -> None:
    held = {each.stem for each in masks.iterdir() if each.is_file() and not each.name.startswith(".")}
    if missing := set(source.names) - held:
        raise DataError(
            f"{masks} must hold a mask for each image, but lacks {len(missing)} of {len(source)} ({some(missing)}): "
            "add them, all zero where the class is not to be found."
        )
