"""Which column of a log from elsewhere is which number of an `Epoch`: by the usual names, or as the user says."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from unplateau.errors import DataError, nearest

CLASS = re.compile(r"(?:val|valid|validation|eval)?classiou(\d+)")

HELD_OUT = ("val", "valid", "validation", "eval", "dev")
IOU = (
    "iou",
    "miou",
    "meaniou",
    "ioumean",
    "iouscore",
    "jaccard",
    "jaccardindex",
    "jaccardscore",
    "binaryjaccardindex",
    "multiclassjaccardindex",
    "intersectionoverunion",
    "meanintersectionoverunion",
)


def _held_out(names: Iterable[str], bare: bool = True) -> tuple[str, ...]:
    """Every name of a held-out number, likeliest first: "valiou", "iouval", then "iou" itself, then that of test."""
    listed = tuple(names)
    ours = [f"{side}{name}" for side in HELD_OUT for name in listed]
    ours += [f"{name}{side}" for side in HELD_OUT for name in listed]
    return (*ours, *(listed if bare else ()), *(f"test{name}" for name in listed))


NAMES: dict[str, tuple[str, ...]] = {
    "step": ("step", "globalstep", "trainerglobalstep", "iteration", "iter", "steps"),
    "epoch": ("epoch", "epochs"),
    "iou": _held_out(IOU),
    "best_iou": _held_out(["bestiou"]),
    "best_threshold": _held_out(["bestthreshold"]),
    "train_loss": ("trainloss", "trainingloss", "losstrain", "losstraining", "loss", "trainlossstep", "losstotal"),
    "val_loss": _held_out(["loss"], bare=False),
    "coverage": _held_out(["coverage"]),
    "average_precision": _held_out(["averageprecision", "auprc"]),
    "boundary_iou": _held_out(["boundaryiou", "biou"]),
    "learning_rate": ("lr", "learningrate", "trainlr", "trainlearningrate", "lr0", "lrpg0", "lrpg1"),
    "gradient_norm": ("gradientnorm", "gradnorm", "traingradnorm", "gradnormtotal", "grad2normtotal"),
}
"""For each number the names it goes by, letters and digits alone, likeliest first."""

FIELDS = tuple(field for field in NAMES if field not in ("step", "epoch"))
"""The numbers whose column a user may name."""


def find_columns(columns: Iterable[str], given: Mapping[str, str], where: str) -> dict[str, str]:
    """The column of each number that the log has, `given` before what its name suggests.

    A best IoU is taken only where its threshold is logged too: elsewhere the word means the best epoch so far.

    Raises:
        DataError: `given` names a number or a column that does not exist, or nothing looks like a held-out IoU.
    """
    listed = list(columns)
    _refuse_unknown(given, listed, where)
    plain: dict[str, str] = {}
    for name in listed:
        plain.setdefault(_plain(name), name)
    found = {field: plain[names[0]] for field in FIELDS if (names := [each for each in NAMES[field] if each in plain])}
    if "learning_rate" not in found and (rates := [plain[name] for name in plain if re.match(r"lr(?!oss)", name)]):
        found["learning_rate"] = rates[0]
    if "best_threshold" not in found and "best_threshold" not in given:
        found.pop("best_iou", None)
    found |= given
    if "iou" not in found:
        raise DataError(
            f"{where} must hold a validation IoU, and no column looks like one; it has {_listed(listed)}. "
            "Name it with `columns`, as iou=val_jaccard."
        )
    return found


def class_columns(columns: Iterable[str]) -> list[str]:
    """The columns that hold the IoU of one class each, in the order of the classes."""
    numbered = [(int(found[1]), name) for name in columns if (found := CLASS.fullmatch(_plain(name)))]
    return [name for _, name in sorted(numbered)]


def moment_column(rows: Sequence[Mapping[str, Any]]) -> str | None:
    """The column that tells when each row was written: the step, else the epoch; None where some row lacks both.

    Only whole numbers are taken: half an epoch is no moment to sort by.
    """
    names: dict[str, str] = {}
    for row in rows:
        for name in row:
            names.setdefault(_plain(name), name)
    for known in (*NAMES["step"], *NAMES["epoch"]):
        if known in names and all(_is_whole(row.get(names[known])) for row in rows):
            return names[known]
    return None


def _is_whole(cell: Any) -> bool:
    try:
        return float(cell).is_integer()
    except (TypeError, ValueError, OverflowError):
        return False


def _refuse_unknown(given: Mapping[str, str], columns: list[str], where: str) -> None:
    for field, column in given.items():
        if field not in FIELDS:
            raise DataError(f"`columns` must name a number of an epoch; {field!r} is none: {nearest(field, FIELDS)}")
        if column not in columns:
            raise DataError(f"`columns` must name columns of {where}; {column!r} is none: {nearest(column, columns)}")


def _plain(name: str) -> str:
    """Letters and digits alone, without what loggers put around them: "metrics/val_IoU_epoch" is "valiou"."""
    letters = re.sub(r"[^a-z0-9]", "", name.lower())
    letters = letters.removeprefix("metrics").removeprefix("metric")
    return letters.removesuffix("epoch") or letters


def _listed(columns: list[str], most: int = 12) -> str:
    more = f" and {len(columns) - most} more" if len(columns) > most else ""
    return ", ".join(repr(name) for name in columns[:most]) + more if columns else "none"
