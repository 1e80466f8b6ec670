"""The log of a training elsewhere, as the records that a diagnosis reads: CSV, JSON, TensorBoard, MLflow."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from statistics import fmean
from typing import Any

from unplateau.errors import DataError
from unplateau.files import why
from unplateau.training.log_columns import FIELDS, class_columns, find_columns, moment_column
from unplateau.training.mlflow import is_mlflow, read_mlflow
from unplateau.training.series import Series
from unplateau.training.tensorboard import is_tensorboard, read_tensorboard
from unplateau.types import Epoch

USUAL_FILES = ("log.csv", "metrics.csv", "results.csv", "trainer_state.json")
"""Files by which the folder of a run is known: ours, Lightning's, Ultralytics', transformers'."""

IOUS = ("iou", "best_iou", "boundary_iou")
"""Numbers from 0 to 1 that some log in percent."""

AVERAGED = ("train_loss",)
"""Numbers of single steps, of which the mean since the last evaluation counts; of all others the last one does."""


@dataclass(frozen=True)
class Log:
    """The records of a log, the column that each number came from, and what is odd but not wrong."""

    epochs: tuple[Epoch, ...]
    columns: dict[str, str]
    notes: tuple[str, ...]


def read_epochs(path: Path, columns: Mapping[str, str] | None = None) -> Log:
    """The log at `path`: a CSV, JSON or JSON-lines file, TensorBoard events, MLflow's folder or database, or the
    folder of a run that holds one of these.

    An evaluation is every moment with an IoU. What is logged more often is averaged (the training loss) or its last
    value taken (all else) since the evaluation before; what is never logged is nan. `columns` names the column of a
    number where the usual names (`log_columns.NAMES`) do not find it. An IoU in percent is divided by 100.

    Raises:
        DataError: there is no log, it cannot be read, it has no IoU, or a value is no number; the file is named.
        MissingExtra: TensorBoard events without the package that reads them.
    """
    series = _series(path)
    found = find_columns(series.columns, columns or {}, repr(str(path)))
    classes = class_columns(series.columns)
    series.refuse_broken([*found.values(), *classes])
    return _log(series, found, classes)


# ---- which kind ----------------------------------------------------------------------------------------------


def _series(path: Path) -> Series:
    if path.is_dir() and (usual := next((path / name for name in USUAL_FILES if (path / name).is_file()), None)):
        return _series(usual)
    if is_tensorboard(path):
        return read_tensorboard(path)
    if is_mlflow(path):
        return read_mlflow(path)
    if not path.is_file():
        what = "holds none of these" if path.is_dir() else "does not exist"
        raise DataError(
            f"`log` must be a CSV or JSON file, TensorBoard events or an MLflow run; {str(path)!r} {what}. "
            "Check the path."
        )
    text = _text(path)
    read = {".json": _json, ".jsonl": _json_lines, ".ndjson": _json_lines}.get(path.suffix.lower(), _csv)
    return _of_rows(read(text, path), path)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"{str(path)!r} must be a log that can be read; that gave: {why(error)}.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{str(path)!r} must be a log of text; it is not. Give the CSV or JSON file.") from error


# ---- rows ----------------------------------------------------------------------------------------------------

Row = dict[str, Any]


def _csv(text: str, path: Path) -> list[Row]:
    head = text.partition("\n")[0]
    delimiter = max(",;\t", key=head.count)
    try:
        rows = list(csv.DictReader(StringIO(text), delimiter=delimiter, skipinitialspace=True))
    except csv.Error as error:
        raise DataError(f"{str(path)!r} must be CSV; {error}. Give the log of a training.") from error
    if not rows or delimiter not in head:
        raise DataError(
            f"{str(path)!r} must begin with a line of column names and hold a row an evaluation; it holds {len(rows)} "
            f"rows under {head[:60]!r}. Give the log of a training."
        )
    return [{name.strip(): cell for name, cell in row.items() if name and cell is not None} for row in rows]


def _json(text: str, path: Path) -> list[Row]:
    """Rows of a JSON list, or of the list under "epochs", "log_history" or "history"."""
    content = _parsed(text, path)
    if isinstance(content, dict):
        content = next((content[key] for key in ("epochs", "log_history", "history") if key in content), None)
    return _records(content, path)


def _json_lines(text: str, path: Path) -> list[Row]:
    return _records([_parsed(line, path) for line in text.splitlines() if line.strip()], path)


def _parsed(text: str, path: Path) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{str(path)!r} must be JSON; it is not ({error}). Give the log of a training.") from error


def _records(content: Any, path: Path) -> list[Row]:
    if not isinstance(content, list) or not content or not all(isinstance(row, dict) for row in content):
        raise DataError(
            f"{str(path)!r} must hold a list of records, one an evaluation, alone or under 'epochs' or 'log_history'; "
            "it does not. Give the log of a training."
        )
    return [_flat(row) for row in content]


def _flat(row: Row) -> Row:
    """A record with each class's IoU under a name of its own."""
    listed = row.get("class_iou")
    classes = {f"class_iou_{place}": value for place, value in enumerate(listed)} if isinstance(listed, list) else {}
    return {name: value for name, value in row.items() if name != "class_iou"} | classes


def _of_rows(rows: Sequence[Row], path: Path) -> Series:
    """Rows under the step or the epoch that all of them name, else under their place."""
    series = Series(str(path))
    column = moment_column(rows)
    for place, row in enumerate(rows):
        moment = int(float(row[column])) if column else place
        for name, cell in row.items():
            # The header of a CSV is line 1.
            series.add(name, moment, cell, place + 2)
    return series


# ---- records -------------------------------------------------------------------------------------------------


def _log(series: Series, found: Mapping[str, str], classes: Sequence[str]) -> Log:
    points = series.of(found["iou"])
    scale, notes = _scale([value for _, value in points], series.where, found["iou"])
    before = -math.inf
    epochs: list[Epoch] = []
    for moment, iou in points:
        epochs.append(_epoch(series, found, classes, (before, moment), (iou, scale), epochs[-1] if epochs else None))
        before = moment
    return Log(tuple(epochs), dict(found), notes)


def _epoch(
    series: Series,
    found: Mapping[str, str],
    classes: Sequence[str],
    span: tuple[float, int],
    iou: tuple[float, float],
    last: Epoch | None,
) -> Epoch:
    """The record at the end of a span of moments; what is silent in it stays what it was."""
    value, scale = iou

    def held(field: str) -> float:
        if field not in found:
            return math.nan
        numbers = series.between(found[field], *span)
        if not numbers:
            return math.nan if last is None else float(getattr(last, field))
        return fmean(numbers) if field in AVERAGED else numbers[-1] * (scale if field in IOUS else 1.0)

    numbers = {field: held(field) for field in FIELDS if field != "iou"}
    return Epoch(
        step=span[1],
        iou=value * scale,
        class_iou=tuple((series.between(name, *span) or [math.nan])[-1] * scale for name in classes),
        **numbers,
    )


def _scale(values: Sequence[float], where: str, column: str) -> tuple[float, tuple[str, ...]]:
    """What an IoU of this log is to be multiplied with.

    Raises:
        DataError: the values lie outside 0..1 and outside 0..100.
    """
    finite = [value for value in values if math.isfinite(value)]
    low, high = min(finite, default=0.0), max(finite, default=0.0)
    if not finite or low < 0 or high > 100:
        said = f"its values run from {low:g} to {high:g}" if finite else "none of its values is finite"
        raise DataError(
            f"{where!r} must hold an IoU from 0 to 1 in column {column!r}; {said}. Name the right one with `columns`."
        )
    if high <= 1:
        return 1.0, ()
    return 0.01, (f"{column!r} is read as a percentage, since it reaches {high:g}.",)
