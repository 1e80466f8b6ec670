"""Fine-tuning on Lightning: one module, one record an evaluation, one way to run it."""

from __future__ import annotations

import math
from typing import Any, cast, final

import lightning as L
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unplateau.data.balance import class_weights
from unplateau.errors import UnplateauError
from unplateau.model import SegmentationModel
from unplateau.training.averaging import averaged
from unplateau.training.batches import Batch, crops, step_generator
from unplateau.training.coach import Coach
from unplateau.training.gathered import part, whole
from unplateau.training.objectives import objective, shrink_masks
from unplateau.training.optimisers import adamw, one_cycle
from unplateau.training.recipe import JUDGES, Recipe
from unplateau.types import Epoch, Fold, Pictures, Size

SHOWN = 16
"""Images of a broken batch that are named."""


@final
class FineTuning(L.LightningModule):
    """Trains a model on `fold.fit` by a recipe and scores it on `fold.inner`; keeps an `Epoch` of each scoring.

    Lightning's checkpoints hold the records and the weights kept, so that a resumed run ends as an unbroken one.
    """

    def __init__(
        self,
        model: SegmentationModel,
        pictures: Pictures,
        fold: Fold,
        recipe: Recipe,
        seed: int,
        coach: Coach | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.recipe = recipe
        self.seed_number = seed
        self.coach = coach
        weights = class_weights(pictures, fold.fit, recipe.class_weights)
        self.objective = objective(pictures.task, weights, recipe)
        self.loss = self.objective.module
        self.averaged = averaged(model, recipe.ema) if recipe.ema else None
        self._held = [weight for weight in model.extractor.parameters() if weight.requires_grad]
        self.epochs: list[Epoch] = []
        self.best: dict[str, Tensor] = {}
        few = len({pictures.groups[index] for index in fold.inner}) < JUDGES
        self._keeps_last = recipe.keep == "last" or (few and not recipe.patience)
        self._train_losses: list[Tensor] = []
        self._last_batch = -1
        self._gradient_norm = math.nan
        self._validation: list[tuple[Any, float, int]] = []

    def training_step(self, batch: Batch, _: int) -> Tensor:
        """Loss of one batch: half size in the first part of training, augmented, compound loss."""
        number = batch[2]
        if self.recipe.frozen_steps:
            self._hold(number // self.recipe.accumulate < self.recipe.frozen_steps)
        images, truth, said = self._shown(batch)
        own = part(len(images), self.global_rank, self.trainer.world_size)
        answer = whole(self.model(images[own].contiguous(memory_format=torch.channels_last)))
        loss = self.objective.loss(self.model.decoder, answer, truth)
        if self.coach is not None and said is not None:
            loss = loss + self.coach.loss(answer.logits, said)
        self._train_losses.append(loss.detach())
        self._last_batch = number
        if loss.device.type == "cpu":  # elsewhere looking at each would make the device wait
            self._refuse_infinite()
        # Lightning scores once more before it stops: a run ends with an evaluation, whatever the interval.
        self.trainer.should_stop |= number + 1 == self.recipe.batches
        # Several processes have the loss of the whole batch each, and the mean of their gradients is taken.
        return loss * self.trainer.world_size if self.trainer.world_size > 1 else loss

    def _shown(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor | None]:
        """Images float (B, 3, h, w), what is true of them, masks (B, h, w) or else, and what the coach says of them."""
        images, truth = batch[0].float().div(255), batch[1]
        if self.coach is None:
            return *self._changed(*self._halved(images, truth, batch[2]), batch), None
        # It was chosen at full size and is asked there. To change images at half size is only cheaper.
        images, truth = self._changed(images, truth, batch)
        smaller, truth = self._halved(images, truth, batch[2])
        return smaller, truth, self.coach.says(images, _size(smaller))

    def _halved(self, images: Tensor, truth: Tensor, number: int) -> tuple[Tensor, Tensor]:
        """At half the side in the first part of training, else as they are."""
        if number // self.recipe.accumulate >= self.recipe.half_size * self.recipe.steps:
            return images, truth
        smaller = shrink(images)
        return smaller, self.objective.halved(truth, _size(images), _size(smaller))

    def _changed(self, images: Tensor, truth: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """After the random changes of the batch."""
        *_, number, wanted = batch
        recipe, generator, crop = self.recipe, step_generator(self.seed_number, number), self._crop(_size(images))
        if recipe.positive_rate and crop:
            return crops(images, truth, wanted, recipe.augmentation, generator, crop)
        return self.objective.changed(images, truth, recipe.augmentation, generator, crop)

    def _hold(self, still: bool) -> None:
        """Keep the extractor as it is, its batch statistics too, or let it go."""
        for weight in self._held:
            weight.requires_grad_(not still)
        self.model.extractor.train(not still)

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """After an optimiser step the average follows the weights."""
        if self.averaged is not None and (batch[2] + 1) % self.recipe.accumulate == 0:
            self.averaged.update_parameters(self.model)

    def on_train_end(self) -> None:
        """A run that ended while the extractor was held gives it back as it was."""
        for weight in self._held:
            weight.requires_grad_(True)

    @property
    def judged(self) -> SegmentationModel:
        """What is evaluated and kept: the average of the weights where there is one."""
        return self.model if self.averaged is None else cast(SegmentationModel, self.averaged.module)

    def _crop(self, size: Size) -> Size | None:
        if self.recipe.crop is None:
            return None
        return min(self.recipe.crop[0], size[0]), min(self.recipe.crop[1], size[1])

    def configure_gradient_clipping(self, optimizer: Any, *_: Any, **__: Any) -> None:
        """Clip the norm of the gradient and remember what it was."""
        parameters = [weight for group in optimizer.param_groups for weight in group["params"]]
        self._gradient_norm = float(nn.utils.clip_grad_norm_(parameters, self.recipe.clip))

    def configure_optimizers(self) -> Any:
        """AdamW under a one-cycle cosine schedule."""
        optimizer = adamw(self.model, self.recipe)
        schedule = one_cycle(optimizer, self.recipe)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def validation_step(self, batch: tuple[Tensor, Tensor], _: int) -> None:
        """Add a batch's counts; no probability map outlives its batch."""
        images, truth = batch
        answer = self.judged(images.float().div(255).contiguous(memory_format=torch.channels_last))
        loss = float(self.objective.loss(self.judged.decoder, answer, truth))
        self._refuse_infinite()
        if not math.isfinite(loss):
            raise self._refusal(f"{loss} in the evaluation after step {self.trainer.global_step}", "")
        tally = self.objective.tally(self.judged.decoder, answer, truth, _size(images))
        self._validation.append((tally, loss, len(truth)))

    def on_validation_epoch_end(self) -> None:
        """Turn the counts into an `Epoch`; keep the weights if none before scored better, or if the last are kept."""
        if self.trainer.sanity_checking or not self._validation:
            return
        epoch = self._epoch()
        self._validation, self._train_losses = [], []
        if self._keeps_last or not self.epochs or _worth(epoch) > max(map(_worth, self.epochs)):
            self.best = {name: value.detach().cpu().clone() for name, value in self.judged.state_dict().items()}
        self.epochs.append(epoch)
        self.log("val_iou", _worth(epoch), prog_bar=True)
        self.log_dict({f"val/{name}": float(value) for name, value in _numbers(epoch).items()})

    def _refuse_infinite(self) -> None:
        """Stop at the first batch since the last evaluation whose loss is no number, before anything is kept of it."""
        losses = [float(loss) for loss in self._train_losses]
        broken = [place for place, loss in enumerate(losses) if not math.isfinite(loss)]
        if not broken:
            return
        number = self._last_batch - len(losses) + 1 + broken[0]
        stream: Any = self.trainer.train_dataloader
        names = stream.dataset.names(number)
        listed = ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
        step = number // self.recipe.accumulate + 1
        raise self._refusal(f"{losses[broken[0]]} at step {step}, on the images {listed}", " and look at these images")

    def _refusal(self, what: str, advice: str) -> UnplateauError:
        keeper = self.trainer.checkpoint_callback
        kept = f" The state after step {self.epochs[-1].step} is kept." if keeper and self.epochs else ""
        return UnplateauError(
            f"The loss must stay finite; it was {what}.{kept} Lower `learning_rate` "
            f"(it is {self.recipe.learning_rate}){advice}."
        )

    def _epoch(self) -> Epoch:
        images = [count for *_, count in self._validation]
        losses = self._train_losses
        return Epoch(
            step=int(self.trainer.global_step),
            train_loss=float(torch.stack(losses).mean()) if losses else math.nan,
            val_loss=float(np.average([loss for _, loss, _ in self._validation], weights=images)),
            learning_rate=float(self.optimizers().param_groups[0]["lr"]),
            gradient_norm=self._gradient_norm,
            **self.objective.measures([tally for tally, *_ in self._validation]),
        )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Put the records and the best weights beside the weights."""
        checkpoint["epochs"] = [vars(epoch) for epoch in self.epochs]
        checkpoint["best"] = self.best

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the records and the best weights back."""
        self.epochs = [Epoch(**values) for values in checkpoint["epochs"]]
        self.best = checkpoint["best"]


def halve(images: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Images and masks at half the side, rounded down to a multiple of 8 pixels, at least 16."""
    smaller = shrink(images)
    return smaller, shrink_masks(masks, _size(smaller))


def shrink(images: Tensor) -> Tensor:
    """Images (B, C, H, W) at half the side, rounded down to a multiple of 8 pixels, at least 16."""
    return F.interpolate(images, size=[max(16, side // 16 * 8) for side in images.shape[-2:]], mode="area")


def _size(images: Tensor) -> Size:
    return images.shape[-2], images.shape[-1]


def _worth(epoch: Epoch) -> float:
    """What "better" means: IoU at the best threshold, so that a wobbling operating point chooses nothing.

    Without masks there is no IoU, and average precision, which has no threshold either, stands for it.
    """
    worth = epoch.best_iou if math.isfinite(epoch.best_iou) else epoch.average_precision
    return worth if math.isfinite(worth) else -1.0


def _numbers(epoch: Epoch) -> dict[str, float]:
    return {name: value for name, value in vars(epoch).items() if name not in ("step", "class_iou")}
