"""Saved answers of a model from elsewhere: one file of probabilities an image, matched by stem.

Axes: C channels of a file, O outputs of the task (1 when binary), h w pixels of the file, H W pixels of the grid.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image

from unplateau.data.decode import opened
from unplateau.data.folder import some
from unplateau.data.grid import SQUASH, place
from unplateau.errors import DataError, nearest
from unplateau.measures.scoring import score_images
from unplateau.measures.thresholds import BINS, ScoreTable, join
from unplateau.types import Pictures, Size, Task

SUFFIXES = (".npy", ".npz", ".png")
"""Files that can hold a probability map."""

ARRAYS = ("probabilities", "probability", "probs", "prob", "scores", "score", "prediction", "pred", "arr_0")
"""Names by which the map of an `.npz` with several arrays is known."""

ROUNDING = 2e-3
"""How far below 0 or above 1 half precision and resizing may push a probability."""

FAINT = 0.02
"""A set of maps whose highest probability is below this was most likely scaled wrongly."""

Values = NDArray[np.float32]


@dataclass(frozen=True)
class Answers:
    """Saved answers on the working grid.

    `maps` are the scores uint8 (N, O, H, W) in steps of 1 / BINS, `table` their counts against the masks, `size` the
    median height and width of the files, `warnings` what is odd but not wrong.
    """

    maps: NDArray[np.uint8]
    table: ScoreTable
    size: Size
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Read:
    """One file as it came: probabilities float32 (O, h, w), and the value that stood for 1 (1.0 for floats)."""

    values: Values
    full: float


# ---- which files ---------------------------------------------------------------------------------------------


def find_answers(folder: Path, names: Sequence[str]) -> dict[str, Path]:
    """The file of each image that has one, by the name (stem) of the image.

    Raises:
        DataError: no such folder, no map in it, two maps of one image, or a map whose image is not in the data.
    """
    if not folder.is_dir():
        raise DataError(f"`predictions` must be a folder of probability maps; {str(folder)!r} is none. Check the path.")
    listed = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    files = [path for path in listed if path.suffix.lower() in SUFFIXES and path.is_file()]
    if not files:
        held = some((path.name for path in listed), 4) or "nothing"
        raise DataError(
            f"`predictions` must hold one {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]} file an image; {str(folder)!r} "
            f"holds {held}. Give the folder that holds the maps themselves."
        )
    found: dict[str, Path] = {}
    for path in files:
        if (twin := found.setdefault(path.stem, path)) != path:
            raise DataError(
                f"`predictions` must hold one map an image; {str(folder)!r} holds both {twin.name!r} and "
                f"{path.name!r}. Take one of them out."
            )
    _refuse_strangers(found, names, folder)
    return found


def _refuse_strangers(found: Mapping[str, Path], names: Sequence[str], folder: Path) -> None:
    strangers = sorted(set(found) - set(names))
    if strangers:
        raise DataError(
            f"Each map in `predictions` must be named as its image; {len(strangers)} of {len(found)} in "
            f"{str(folder)!r} name none, as {found[strangers[0]].name!r}: {nearest(strangers[0], names)} "
            "Rename the maps, or take these out."
        )


# ---- one file ------------------------------------------------------------------------------------------------


def read_answer(path: Path, task: Task, native: Size) -> Read:
    """The probabilities of one file: float32 (O, h, w) in 0..1.

    A file holds (h, w), (C, h, w) or (h, w, C): floats in 0..1, booleans, or uint8 / uint16 whose full range stands
    for 1. For a binary task C is 1, 2 (the second is the class), or one channel a class id, of which the positive ones
    are added; for many classes one channel a class, in the order of the ids, or one an id. Where both ends of the
    shape could be the channels, the one that leaves the aspect of the mask (`native`) is taken.

    Raises:
        DataError: the file cannot be read, has another shape or number of channels, or holds values that are no
            probabilities; the sentence names the file.
    """
    array = _png(path) if path.suffix.lower() == ".png" else _numpy(path)
    scaled, full = _scaled(array, path)
    stacked, rule = _channels_first(scaled, task, native, path)
    added = np.stack([stacked[channels].sum(0) for channels in rule])
    return Read(np.ascontiguousarray(added.clip(0, 1), dtype=np.float32), full)


def _png(path: Path) -> NDArray[np.generic]:
    with opened(path) as picture:
        if picture.mode == "1":
            return np.asarray(picture)
        if picture.mode in ("L", "I", "I;16", "I;16B", "I;16L"):
            values = np.asarray(picture)
            return values if picture.mode == "L" else values.astype(np.uint16)
        return _one_grey(picture, path)


def _one_grey(picture: Image.Image, path: Path) -> NDArray[np.generic]:
    bands = np.asarray(picture.convert("RGBA").convert("RGB"))
    if picture.mode in ("RGB", "RGBA", "LA") and (bands == bands[..., :1]).all():
        return bands[..., 0]
    raise DataError(
        f"{str(path)!r} must hold grey levels, 0..255 or 0..65535 for a probability of 0..1; it holds colours "
        f"(mode {picture.mode}). Save the probability itself, or many classes as .npy (C, height, width)."
    )


def _numpy(path: Path) -> NDArray[np.generic]:
    try:
        with path.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            return loaded if isinstance(loaded, np.ndarray) else np.asarray(loaded[_array_of(loaded.files, path)])
    except (OSError, EOFError, ValueError, BadZipFile, zlib.error) as error:
        raise DataError(
            f"{str(path)!r} must be an array of numbers as numpy saves it; reading it gave: {str(error)[:120]}. "
            "Save it again."
        ) from error


def _array_of(names: list[str], path: Path) -> str:
    known = [name for name in ARRAYS if name in names]
    if len(names) == 1 or known:
        return known[0] if known else names[0]
    raise DataError(
        f"{str(path)!r} must hold one array, or one called {ARRAYS[0]!r}; it holds {some(names, 5) or 'none'}. "
        "Save the probabilities alone."
    )


def _scaled(array: NDArray[np.generic], path: Path) -> tuple[Values, float]:
    """Probabilities of whatever type was saved, and the value that stands for 1."""
    if array.dtype == np.bool_:
        return array.astype(np.float32), 1.0
    if array.dtype in (np.uint8, np.uint16):
        full = 255.0 if array.dtype == np.uint8 else 65535.0
        return array.astype(np.float32) / np.float32(full), full
    if array.dtype.kind != "f":
        raise DataError(
            f"{str(path)!r} must hold floats in 0..1, or uint8 or uint16 over their full range; it holds "
            f"{array.dtype}. Save the probabilities as float32."
        )
    values = array.astype(np.float32)
    _refuse_no_probability(values, path)
    return values, 1.0


def _refuse_no_probability(values: Values, path: Path) -> None:
    if not np.isfinite(values).all():
        count = int((~np.isfinite(values)).sum())
        raise DataError(
            f"{str(path)!r} must hold a probability at each pixel; {count} of {values.size} are not finite numbers. "
            "Find where the model gave them, and save it again."
        )
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
    if low >= -ROUNDING and high <= 1 + ROUNDING:
        return
    step = "apply the sigmoid (or softmax over classes) before saving" if low < -ROUNDING else "divide by that range"
    kind = "as logits do" if low < -ROUNDING else "as 8-bit levels or logits do"
    raise DataError(
        f"{str(path)!r} must hold probabilities from 0 to 1; its values run from {low:.3g} to {high:.3g}, "
        f"{kind}: {step}."
    )


# ---- channels ------------------------------------------------------------------------------------------------


def channel_rule(count: int, task: Task) -> list[list[int]] | None:
    """Which of `count` channels make up each output of the task; None where that many fit it in no way."""
    ids = task.classes
    if task.binary:
        if count == 1:
            return [[0]]
        if count == len(ids):
            return [[place for place, each in enumerate(ids) if each in task.positive]]
        if count == 2:
            return [[1]]
        return [list(task.positive)] if count > max(ids) else None
    if count == len(ids):
        return [[place] for place in range(count)]
    return [[each] for each in ids] if count > max(ids) else None


def _channels_first(array: Values, task: Task, native: Size, path: Path) -> tuple[Values, list[list[int]]]:
    """The array as (C, h, w), and which channels make up each output."""
    flat = array.ndim == 2
    if flat:
        array = array[None]
    if array.ndim == 4 and len(array) == 1:
        array = array[0]
    if array.ndim != 3 or not array.size:
        raise DataError(
            f"{str(path)!r} must be (height, width), (C, height, width) or (height, width, C); it is {array.shape}. "
            "Save one map an image."
        )
    ways = [array] if flat else [array, np.moveaxis(array, -1, 0)]
    fitting = [(way, rule) for way in ways if (rule := channel_rule(len(way), task)) is not None]
    if not fitting:
        raise DataError(
            f"{str(path)!r} must have {_wanted(task)}; it is {array.shape}. Save one channel a class, "
            "or check `positive`."
        )
    nearest_way = min(fitting, key=lambda each: _off_aspect(each[0], native))
    if _off_aspect(nearest_way[0], native) > np.log(SQUASH):
        raise DataError(
            f"{str(path)!r} must show the whole of its image, {native[0]} x {native[1]} pixels high and wide; it is "
            f"{array.shape}, of quite another aspect. Save the map uncropped and unturned."
        )
    return nearest_way


def _off_aspect(stacked: Values, native: Size) -> float:
    height, width = stacked.shape[1:]
    return abs(float(np.log(height / width * native[1] / native[0])))


def _wanted(task: Task) -> str:
    ids = task.classes
    most = f"more than {max(ids)}, one an id"
    if task.binary:
        return f"one channel, two (other, class), {len(ids)}, or {most}"
    return f"{len(ids)} channels, one a class in the order of the ids, or {most}"


# ---- all of them ---------------------------------------------------------------------------------------------


def read_answers(paths: Sequence[Path], pictures: Pictures, natives: Sequence[Size]) -> Answers:
    """The answers to `pictures` (N) on their grid; `natives` are the sizes of the masks as they came.

    Each grid cell takes the bilinear reading of the file at its centre, as it takes the mask's id there; so a file of
    another size than its mask is resized bilinearly, in one step. One file is in memory at a time.

    Raises:
        DataError: as in `read_answer`; or all values of all files are the same, or are class ids.
    """
    task, (height, width) = pictures.task, pictures.size
    maps = np.zeros((len(paths), task.outputs, height, width), np.uint8)
    tables, sizes, ends, full = [], [], [], 1.0
    for row, (path, native) in enumerate(zip(paths, natives, strict=True)):
        read = read_answer(path, task, native)
        scores = on_grid(read.values, native, pictures.size)
        tables.append(score_images(scores[None], pictures.masks[row : row + 1].numpy()))
        maps[row] = (scores * BINS).astype(np.uint8)
        sizes.append(read.values.shape[1:])
        full = max(full, read.full)
        ends.append((float(read.values.min()), float(read.values.max()), _hard(read.values)))
    _refuse_no_information(ends, full, paths[0].parent)
    warnings = (_other_size(sizes, natives), _hard_said(ends), _faint(ends))
    median = np.median(np.array(sizes, dtype=float), axis=0)
    return Answers(maps, join(tables), (int(median[0]), int(median[1])), tuple(filter(None, warnings)))


def on_grid(values: Values, native: Size, grid: Size) -> Values:
    """A map (O, h, w) on the grid (O, H, W); 0 where the image was padded."""
    box = place(native, grid)
    fitted = values
    if values.shape[1:] != (box.height, box.width):
        # Not smoothed: the mask is read at the centre of each cell, and so must be what is held against it.
        size = (box.height, box.width)
        fitted = F.interpolate(torch.from_numpy(values)[None], size=size, mode="bilinear", align_corners=False)[
            0
        ].numpy()
    laid = np.zeros((len(values), *grid), np.float32)
    laid[:, box.top : box.top + box.height, box.left : box.left + box.width] = fitted
    return laid


def _hard(values: Values) -> bool:
    return bool(((values == 0) | (values == 1)).all())


def _refuse_no_information(ends: Sequence[tuple[float, float, bool]], full: float, folder: Path) -> None:
    low, high = min(low for low, _, _ in ends), max(high for _, high, _ in ends)
    if low == high:
        raise DataError(
            f"The maps in `predictions` must tell pixels apart; all {len(ends)} in {str(folder)!r} hold {low:.3g} "
            "everywhere. Check what was saved."
        )
    if full > 1 and high * full < 1.5:
        raise DataError(
            f"The maps in `predictions` must hold 0..{full:.0f} for a probability of 0..1; all {len(ends)} in "
            f"{str(folder)!r} hold only 0 and 1, as class ids do. Save the probability times {full:.0f}."
        )


def _other_size(sizes: Sequence[tuple[int, ...]], natives: Sequence[Size]) -> str:
    other = [each for each in zip(sizes, natives, strict=True) if each[0] != each[1]]
    if not other:
        return ""
    (height, width), native = other[0]
    return (
        f"{len(other)} of {len(sizes)} saved maps have another size than their mask, as {height} x {width} for "
        f"{native[0]} x {native[1]}; they were resized bilinearly."
    )


def _hard_said(ends: Sequence[tuple[float, float, bool]]) -> str:
    if not all(hard for _, _, hard in ends):
        return ""
    return "The saved maps hold only 0 and 1: answers without a score, so that no other threshold can be examined."


def _faint(ends: Sequence[tuple[float, float, bool]]) -> str:
    high = max(high for _, high, _ in ends)
    return f"The highest probability in all saved maps is {high:.2g}: check their scale." if high < FAINT else ""
