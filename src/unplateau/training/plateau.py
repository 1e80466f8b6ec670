"""Our record of a training that somebody else runs: fed batch by batch, kept on disk, typed as it grows."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import distributed

from unplateau.errors import DataError, PieceError, UnplateauError
from unplateau.files import write_json
from unplateau.measures.curves import ADVICE, CurveType, curve_type
from unplateau.measures.epochs import added, edge_counts, epoch_of
from unplateau.measures.scoring import score_images
from unplateau.measures.thresholds import Counts, ScoreTable
from unplateau.training.train import read_log, save_log
from unplateau.types import IGNORE, Epoch

ROUNDING = 2e-3
"""How far outside 0..1 half precision may push a probability."""

Say = Callable[[str], None]


@final
class PlateauLog:
    """Adds up the counts of each evaluation, keeps a record of it in a file, and says when the curve changes its type.

    Memory does not grow with the number of images: only counts are kept. With several processes (`torch.distributed`)
    the counts of all are added, and the first one writes. Whatever is in the file from before the step of the first new
    record stays, so that a run that goes on goes on in its log.

    Args:
        path: a `.csv` or `.json` file, written anew, in one stroke, after each evaluation.
        ignore: the id in the masks that is not counted.
        say: takes one line when the type changes; None = the logger "unplateau", as a warning.

    Raises:
        DataError: `path` has another ending, or holds something that is no such log.
    """

    def __init__(self, path: str | Path, *, ignore: int = IGNORE, say: Say | None = None) -> None:
        self.path = Path(path)
        if self.path.suffix.lower() not in (".csv", ".json"):
            raise DataError(f"`path` must end in .csv or .json; got {str(path)!r}. Name the log so.")
        self.ignore = ignore
        self.epochs: tuple[Epoch, ...] = _read(self.path) if self.path.exists() else ()
        self.type = curve_type(self.epochs)
        self._say = say or logging.getLogger("unplateau").warning
        self._counts: tuple[ScoreTable, Counts] | None = None
        self._broken = False

    def add(self, probabilities: Any, masks: Any) -> None:
        """Count one batch.

        Args:
            probabilities: tensor or array in 0..1, (B, H, W) or (B, C, H, W): one class, or one channel a class.
            masks: ids of whole numbers (B, H, W) or (B, 1, H, W): 1 is the class where there is one, else the channel.

        Raises:
            DataError: the shapes do not fit, or the values are no probabilities or no ids. A value that is no number at
                all is recorded as an evaluation without a score, for it is the training that failed.
        """
        scores, truth = _scores(probabilities), _truth(masks, self.ignore)
        if scores.shape[0] != truth.shape[0] or scores.shape[2:] != truth.shape[1:]:
            raise DataError(
                f"`probabilities` must be as large as `masks`; they are {scores.shape} and {truth.shape}. Resize them "
                "to the masks first."
            )
        if not np.isfinite(scores).all():
            self._broken = True
            scores = np.nan_to_num(scores, nan=0.0, posinf=1.0, neginf=0.0)
        _refuse_no_probability(scores, truth)
        scores = scores.clip(0, 1)
        table, edges = score_images(scores, truth), edge_counts(scores, truth).sum(0, keepdims=True)
        before = self._counts
        self._counts = (added([before[0], table]), before[1] + edges) if before else (added([table]), edges)

    def measured(self) -> Epoch:
        """What the batches since the last call say together; step, losses, rate and gradient are left open.

        Raises:
            UnplateauError: there was no batch.
        """
        if self._counts is None:
            raise UnplateauError("A batch must be handed to `add` before an evaluation ends; none was. Check the loop.")
        (table, edges), broken = self._counts, np.array([int(self._broken)])
        self._counts, self._broken = None, False
        arrays = [_over_processes(each) for each in (table.histograms, table.argmax, edges, broken)]
        epoch = epoch_of(ScoreTable(arrays[0], arrays[1]), arrays[2])
        return _without_score(epoch) if arrays[3].any() else epoch

    def record(self, epoch: Epoch) -> CurveType:
        """Take the record of an evaluation, write the file, say when the type changed; gives the type.

        Raises:
            OutputError: the file cannot be written.
        """
        self.epochs = (*(each for each in self.epochs if each.step < epoch.step), epoch)
        before, self.type = self.type, curve_type(self.epochs)
        if _first_process():
            self._write()
            if self.type not in (before, CurveType.UNDETERMINED):
                self._say(f"Step {epoch.step}: the curve is {self.type.value}. {ADVICE[self.type]}")
        return self.type

    def _write(self) -> None:
        if self.path.suffix.lower() == ".csv":
            save_log(self.epochs, self.path)
        else:
            write_json(self.path, {"type": self.type, "epochs": self.epochs})


# ---- batches -------------------------------------------------------------------------------------------------


def _scores(values: Any) -> NDArray[np.float32]:
    array: NDArray[np.float32] = np.asarray(_on_cpu(values), np.float32)
    if array.ndim not in (3, 4) or not array.size:
        raise DataError(
            f"`probabilities` must be (B, H, W) or (B, C, H, W); they are {array.shape}. Give one map an image."
        )
    return array[:, None] if array.ndim == 3 else array


def _truth(values: Any, ignore: int) -> NDArray[np.uint8]:
    array = _on_cpu(values)
    array = array[:, 0] if array.ndim == 4 and array.shape[1] == 1 else array
    if array.ndim != 3:
        raise DataError(f"`masks` must be (B, H, W); they are {array.shape}. Give one mask an image.")
    counted = array != ignore
    wrong = counted & (array != np.floor(array).clip(0, IGNORE - 1))
    if wrong.any():
        raise DataError(
            f"`masks` must hold class ids from 0 to 254, or {ignore}; they hold {array[wrong][0]:g}. Check `ignore`."
        )
    return np.where(counted, array, IGNORE).astype(np.uint8)


def _on_cpu(values: Any) -> NDArray[Any]:
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu()
        # numpy knows no bfloat16.
        values = (values.float() if values.is_floating_point() else values).numpy()
    return np.asarray(values)


def _refuse_no_probability(scores: NDArray[np.float32], truth: NDArray[np.uint8]) -> None:
    low, high = float(scores.min()), float(scores.max())
    if low < -ROUNDING or high > 1 + ROUNDING:
        raise DataError(
            f"`probabilities` must lie in 0..1; they run from {low:.3g} to {high:.3g}. Apply the sigmoid, or the "
            "softmax over classes, to the logits first."
        )
    most = int(truth[truth != IGNORE].max(initial=0))
    if most >= max(2, scores.shape[1]):
        raise DataError(
            f"`masks` must hold ids below {max(2, scores.shape[1])} for {scores.shape[1]} channels; they hold {most}. "
            "Give one channel a class, or name the id that is not counted with `ignore`."
        )


def _without_score(epoch: Epoch) -> Epoch:
    none = {each.name: math.nan for each in fields(Epoch) if each.name not in ("step", "class_iou")}
    return Epoch(step=epoch.step, class_iou=tuple(math.nan for _ in epoch.class_iou), **none)


# ---- processes -----------------------------------------------------------------------------------------------


def _over_processes(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """The sum over all processes of a distributed run, as it is in a single one."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return counts
    total = torch.from_numpy(counts.copy()).to("cuda" if distributed.get_backend() == "nccl" else "cpu")
    distributed.all_reduce(total)
    return total.cpu().numpy()


def _first_process() -> bool:
    return not (distributed.is_available() and distributed.is_initialized()) or distributed.get_rank() == 0


# ---- files ---------------------------------------------------------------------------------------------------


def _read(path: Path) -> tuple[Epoch, ...]:
    try:
        if path.suffix.lower() == ".csv":
            return read_log(path)
        rows = json.loads(path.read_text(encoding="utf-8"))["epochs"]
        return tuple(_epoch(row) for row in rows)
    except (PieceError, OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(
            f"{str(path)!r} is to be the log, and holds something else that cannot be gone on with. Move it away, or "
            "name another."
        ) from error


def _epoch(row: dict[str, Any]) -> Epoch:
    numbers = {name: math.nan if value is None else value for name, value in row.items()}
    return Epoch(**numbers | {"class_iou": tuple(math.nan if each is None else each for each in row["class_iou"])})
