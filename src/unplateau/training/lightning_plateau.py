"""The plateau of a training on Lightning, seen live: a callback beside whatever module is trained."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, final

from lightning.pytorch.callbacks import Callback
from torch import Tensor

from unplateau.errors import DataError
from unplateau.training.plateau import PlateauLog, Say
from unplateau.types import IGNORE

Read = Callable[[Any, Any], tuple[Any, Any]]
"""From what `validation_step` returned, and its batch, to probabilities (B, C, H, W) and masks (B, H, W)."""


@final
class LightningPlateau(Callback):
    """Logs our record of each validation and says when the curve changes its type.

    Args:
        path: the log, `.csv` or `.json`; see `PlateauLog`.
        read: how to get probabilities and masks; None = `validation_step` returns a dict with "probabilities" and
            "masks", or a tuple of the two.
        val_loss: the name under which the module logs its validation loss.
        ignore, say: as in `PlateauLog`.

    Raises:
        DataError: `validation_step` returned something else, or no probabilities.
        OutputError: the log cannot be written.
    """

    def __init__(
        self,
        path: str | Path = "plateau.csv",
        *,
        read: Read | None = None,
        val_loss: str = "val_loss",
        ignore: int = IGNORE,
        say: Say | None = None,
    ) -> None:
        self.plateau = PlateauLog(path, ignore=ignore, say=say)
        self._read = read or _named
        self._val_loss = val_loss
        self._loss: Tensor | None = None
        self._batches = 0

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Remember the loss of the batch, on its device: to look at it here would wait for the GPU."""
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        if isinstance(loss, Tensor):
            self._loss = loss.detach() if self._loss is None else self._loss + loss.detach()
            self._batches += 1

    def on_validation_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Count the batch."""
        if not trainer.sanity_checking:
            self.plateau.add(*self._read(outputs, batch))

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Write the record of this validation."""
        if trainer.sanity_checking:
            return
        loss = math.nan if self._loss is None else float(self._loss) / self._batches
        self._loss, self._batches = None, 0
        rates = [group["lr"] for optimiser in trainer.optimizers[:1] for group in optimiser.param_groups[:1]]
        epoch = replace(
            self.plateau.measured(),
            step=int(trainer.global_step),
            train_loss=loss,
            val_loss=float(trainer.callback_metrics.get(self._val_loss, math.nan)),
            learning_rate=float(rates[0]) if rates else math.nan,
        )
        self.plateau.record(epoch)


def _named(outputs: Any, _batch: Any) -> tuple[Any, Any]:
    if isinstance(outputs, Mapping) and {"probabilities", "masks"} <= outputs.keys():
        return outputs["probabilities"], outputs["masks"]
    if isinstance(outputs, tuple) and len(outputs) == 2:
        return outputs[0], outputs[1]
    raise DataError(
        "`validation_step` must return a dict with 'probabilities' and 'masks', or a tuple of the two; it returned a "
        f"{type(outputs).__name__}. Return them, or pass `read` to LightningPlateau."
    )
