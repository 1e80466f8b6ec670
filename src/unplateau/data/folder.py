"""How a data set lies in a folder: which files pair, which group and split they belong to, what the ids are called.

    folder/images/*.jpg      one image a file
    folder/masks/*.png       its mask, with the same name but for the ending
    folder/groups.csv        optional: stem,group[,split]
    folder/classes.json      optional: {"classes": {"0": "sky", ...}}; about.json is read the same way
    folder/colours.json      optional: {"#rrggbb" or "r,g,b": class id} for masks that hold colours

Nothing here opens an image.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from unplateau.errors import DataError

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp"})
"""Endings of the files that are read, in lower case."""

SPLITS = {
    "": "",
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}
"""What a split may be called, and what it is called from then on."""

Colours = Mapping[tuple[int, int, int], int]
"""Class id, 0..255, of each RGB colour a mask may hold."""


@dataclass(frozen=True)
class Pair:
    """An image file and the mask file of the same stem."""

    stem: str
    image: Path
    mask: Path


def some(names: Iterable[str], most: int = 3) -> str:
    """The first few of `names`, quoted, with the number left out: `'a', 'b', 'c' and 7 more`."""
    listed = sorted(names)
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(repr(name) for name in listed[:most]) + more


# ---- pairs ---------------------------------------------------------------------------------------------------


def find_pairs(folder: Path, masks: str = "masks") -> tuple[Pair, ...]:
    """The pairs of `folder`, ordered by stem; its masks are in the subfolder `masks`.

    Raises:
        DataError: the folder or a subfolder is missing or empty, two files share a stem, or a file has no partner.
    """
    _refuse_no_folder(folder)
    images, found = (_by_stem(folder, name) for name in ("images", masks))
    _refuse_unpaired(folder, images, found)
    return tuple(Pair(stem, images[stem], found[stem]) for stem in sorted(images))


def find_images(folder: Path) -> dict[str, Path]:
    """The files of `folder`/images by stem, where what is true of them is not one mask each.

    Raises:
        DataError: the folder or images/ is missing or empty, or two files share a stem.
    """
    _refuse_no_folder(folder)
    if not (folder / "images").is_dir():
        raise DataError(f"{folder} must hold the subfolder images/, but has none: give the folder above the images.")
    return _by_stem(folder, "images")


def _refuse_no_folder(folder: Path) -> None:
    if not folder.exists():
        raise DataError(f"The folder {folder} does not exist: give the folder that holds images/ and masks/.")
    if not folder.is_dir():
        raise DataError(f"{folder} is a file, not a folder: give the folder that holds images/ and masks/.")


def _by_stem(folder: Path, name: str) -> dict[str, Path]:
    if not (folder / name).is_dir():
        held = some((each.name for each in _visible(folder)), 5) or "nothing"
        raise DataError(
            f"{folder} must hold the subfolders images/ and masks/, but has no {name}/ (it holds {held}): "
            "name the subfolders so or give another folder."
        )
    files: dict[str, Path] = {}
    for path in _pictures_in(folder / name):
        if path.stem in files:
            raise DataError(
                f"Each stem must name one file, but {folder / name} holds both {files[path.stem].name!r} and "
                f"{path.name!r}: remove or rename one of them."
            )
        files[path.stem] = path
    return files


def _visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _pictures_in(folder: Path) -> list[Path]:
    visible = _visible(folder)
    files = [path for path in visible if path.suffix.lower() in SUFFIXES and path.is_file()]
    if not files:
        held = some((path.name for path in visible), 3) or "nothing"
        step = "put the files directly into it, not into subfolders, in one of these formats"
        if (folder / "images").is_dir():
            step = f"give {folder / 'images'}"
        raise DataError(
            f"{folder} must hold files that end in {', '.join(sorted(SUFFIXES))}, but holds {held}: {step}."
        )
    return files


def list_images(path: Path) -> list[Path]:
    """The image files of a folder in the order of their names, or the one file that `path` is.

    Raises:
        DataError: no such folder or file, or no images in it.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise DataError(f"`images` must be a folder of images or one image, but {path} does not exist: check the path.")
    return _pictures_in(path)


def _refuse_unpaired(folder: Path, images: Mapping[str, Path], masks: Mapping[str, Path]) -> None:
    if not images.keys() & masks.keys():
        raise DataError(
            f"In {folder} an image and its mask must have the same name but for the ending, and no two do: images/ "
            f"holds {some(images, 2)} and masks/ holds {some(masks, 2)}, so rename one side."
        )
    if alone := images.keys() - masks.keys():
        raise DataError(
            f"Each image needs a mask of the same name, but {len(alone)} of {len(images)} in {folder / 'images'} have "
            f"none ({some(images[stem].name for stem in alone)}): add the masks, all zero where nothing is to be "
            "found, or take the images out."
        )
    if alone := masks.keys() - images.keys():
        raise DataError(
            f"Each mask needs an image of the same name, but {len(alone)} of {len(masks)} in {folder / 'masks'} have "
            f"none ({some(masks[stem].name for stem in alone)}): add the images or take the masks out."
        )


# ---- groups.csv ----------------------------------------------------------------------------------------------


def read_groups(folder: Path, stems: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The group and the split ("train", "val", "test" or "") of each stem; without groups.csv each is its own group.

    Rows of files that are not in the folder are passed over, so one table serves several excerpts of a data set.

    Raises:
        DataError: no column stem or group, stems without a row, two rows that disagree, or an unknown split.
    """
    path = folder / "groups.csv"
    if not path.is_file():
        return stems, ("",) * len(stems)
    rows = _rows(path)
    if missing := set(stems) - rows.keys():
        others = "" if len(missing) < len(stems) or not rows else f"; its rows are of {some(rows, 2)}"
        raise DataError(
            f"{path} must have a row for each image, but lacks {len(missing)} of {len(stems)} ({some(missing)}{others})"
            ": add the rows, or remove the file to make each image its own group."
        )
    groups = tuple(rows[stem][0] for stem in stems)
    return groups, known_splits((rows[stem][1] for stem in stems), str(path))


def _rows(path: Path) -> dict[str, tuple[str, str]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} must be text in UTF-8, but its byte {error.start} is not: save it as CSV in UTF-8."
        ) from None
    reader = csv.DictReader(StringIO(text, newline=""), skipinitialspace=True)
    columns = reader.fieldnames or ()
    if not {"stem", "group"} <= set(columns):
        raise DataError(
            f"{path} must begin with the line stem,group or stem,group,split, but its columns are "
            f"{some(columns, 5) or 'none'}: add that first line and use commas."
        )
    table: dict[str, tuple[str, str]] = {}
    for row in reader:
        _add_row(table, row, path, reader.line_num)
    return table


def _add_row(table: dict[str, tuple[str, str]], row: Mapping[str, str | None], path: Path, line: int) -> None:
    stem, group, split = ((row.get(column) or "").strip() for column in ("stem", "group", "split"))
    stem = stem[: -len(Path(stem).suffix)] if Path(stem).suffix.lower() in SUFFIXES else stem
    if not group:
        raise DataError(f"Line {line} of {path} must name a group for {stem!r}, but it is empty: fill it in.")
    if table.setdefault(stem, (group, split)) != (group, split):
        raise DataError(f"{path} must give one row for each stem, but has two that disagree on {stem!r}: remove one.")


def known_splits(splits: Iterable[str], where: str) -> tuple[str, ...]:
    """Each split under its one name: "train", "val", "test" or "".

    Raises:
        DataError: an unknown name, or some images with a split and some without; `where` is named in the sentence.
    """
    given = [split.strip().lower() for split in splits]
    if unknown := set(given) - SPLITS.keys():
        raise DataError(f"In {where} a split must be train, val or test, but some are {some(unknown)}: rename them.")
    if "" in given and any(given):
        raise DataError(
            f"In {where} either each image has a split or none has, but {given.count('')} of {len(given)} have none: "
            "fill them in or leave the column out."
        )
    return tuple(SPLITS[split] for split in given)


# ---- json files ----------------------------------------------------------------------------------------------


def read_class_names(folder: Path) -> dict[int, str]:
    """What the class ids are called, from classes.json or else about.json; empty when neither says.

    Raises:
        DataError: the file is not JSON, or its "classes" do not map ids to names.
    """
    for path in (folder / "classes.json", folder / "about.json"):
        content = _json(path) if path.is_file() else {}
        if "classes" in content:
            return _names(content["classes"], path)
    return {}


def _names(classes: Any, path: Path) -> dict[int, str]:
    try:
        return {int(each): str(name) for each, name in classes.items()}
    except (AttributeError, TypeError, ValueError):
        raise DataError(f'In {path} "classes" must look like {{"0": "sky", "1": "road"}}: rewrite it so.') from None


def read_colours(folder: Path) -> dict[tuple[int, int, int], int] | None:
    """The colour table of the folder (colours.json or colors.json), or None without one.

    Raises:
        DataError: the file is not JSON, or an entry is not a colour with a class id.
    """
    for path in (folder / "colours.json", folder / "colors.json"):
        if path.is_file():
            return dict(_colour(key, value, path) for key, value in _json(path).items())
    return None


def _colour(key: str, value: Any, path: Path) -> tuple[tuple[int, int, int], int]:
    try:
        text = key.strip()
        numbers = tuple(bytes.fromhex(text[1:])) if text.startswith("#") else tuple(int(n) for n in text.split(","))
        red, green, blue = numbers
        if not all(0 <= each <= 255 for each in (*numbers, int(value))):
            raise ValueError
        return (red, green, blue), int(value)
    except (TypeError, ValueError):
        raise DataError(
            f'{path} must map colours to class ids from 0 to 255, as in {{"#ff0000": 1, "0,0,255": 2}}, but holds '
            f"{key!r}: {value!r}; correct that entry."
        ) from None


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise DataError(f"{path} must be JSON, but is not ({error}): correct or remove it.") from None
    if not isinstance(content, dict):
        raise DataError(f"{path} must hold a JSON object in braces, but holds a {type(content).__name__}: rewrite it.")
    return content
