"""The plateau of a training by the Trainer of transformers, seen live. The package is an extra, imported here alone."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Tensor

from unplateau.errors import MissingExtra, UnplateauError
from unplateau.training.plateau import PlateauLog, Say
from unplateau.types import IGNORE, Epoch

SAID = ("iou", "best_iou", "best_threshold", "coverage", "average_precision", "boundary_iou")
"""Numbers of our record that the Trainer is given as metrics."""


@final
class TransformersPlateau:
    """Logs our record of each evaluation of a Trainer and says when the curve changes its type.

        plateau = TransformersPlateau("plateau.csv")
        Trainer(
            ..., callbacks=[plateau.callback()], compute_metrics=plateau.compute_metrics,
            preprocess_logits_for_metrics=plateau.score_batch,
        )

    Each batch is counted where it is, before the Trainer gathers it, and a single number an image is left of it. The
    Trainer still gathers the labels of all images, unless its arguments say `batch_eval_metrics=True`.

    Args:
        path, ignore, say: as in `PlateauLog`.

    Raises:
        DataError, OutputError: as in `PlateauLog`.
        MissingExtra: `callback` is called without transformers.
        UnplateauError: an evaluation ended in which no batch was counted.
    """

    def __init__(self, path: str | Path = "plateau.csv", *, ignore: int = IGNORE, say: Say | None = None) -> None:
        self.plateau = PlateauLog(path, ignore=ignore, say=say)
        self._measured: Epoch | None = None

    def score_batch(self, logits: Any, labels: Any) -> Tensor:
        """Count a batch: logits (B, C, h, w), brought bilinearly to the size of labels (B, H, W); one zero an image."""
        first: Tensor = logits[0] if isinstance(logits, tuple | list) else logits
        large = F.interpolate(first.float(), size=labels.shape[-2:], mode="bilinear", align_corners=False)
        self.plateau.add(large.sigmoid() if large.shape[1] == 1 else large.softmax(1), labels)
        return torch.zeros(len(first), device=first.device)

    def compute_metrics(self, _prediction: Any, compute_result: bool = True) -> dict[str, float]:
        """The numbers of this evaluation; none before its last batch, where the Trainer asks batch by batch."""
        if not compute_result:
            return {}
        measured = self._measured = self.plateau.measured()
        return {name: float(getattr(measured, name)) for name in SAID if math.isfinite(getattr(measured, name))}

    def record(self, step: int, metrics: dict[str, float], history: list[dict[str, float]]) -> None:
        """Write the record of the evaluation at `step`; `history` are the Trainer's own records up to it."""
        if self._measured is None:
            raise UnplateauError(
                "The Trainer must count its batches with TransformersPlateau, and did not: pass its `compute_metrics` "
                "and, as `preprocess_logits_for_metrics`, its `score_batch`."
            )
        measured, self._measured = self._measured, None
        since = [
            row for row in history if row.get("step", 0) > (self.plateau.epochs[-1].step if self.plateau.epochs else -1)
        ]
        losses = [row["loss"] for row in since if "loss" in row]
        epoch = replace(
            measured,
            step=step,
            train_loss=sum(losses) / len(losses) if losses else math.nan,
            val_loss=float(metrics.get("eval_loss", math.nan)),
            learning_rate=_last(since, "learning_rate"),
            gradient_norm=_last(since, "grad_norm"),
        )
        self.plateau.record(epoch)

    def callback(self) -> Any:
        """What goes into the Trainer's `callbacks`.

        Raises:
            MissingExtra: transformers is absent.
        """
        try:
            from transformers import TrainerCallback
        except ImportError as error:
            raise MissingExtra("transformers", needed_for="TransformersPlateau") from error
        record = self.record

        class Recorder(TrainerCallback):
            def on_evaluate(self, args: Any, state: Any, control: Any, **others: Any) -> None:
                record(int(state.global_step), others.get("metrics") or {}, state.log_history)

        return Recorder()


def _last(rows: list[dict[str, float]], name: str) -> float:
    return next((float(row[name]) for row in reversed(rows) if name in row), math.nan)
