"""Fine-tuning on Lightning: one module, one record an evaluation, one way to run it."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, final

import lightning as L
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unplateau.data.balance import class_weights
from unplateau.data.transforms import augment
from unplateau.errors import UnplateauError
from unplateau.measures.epochs import edge_counts, epoch_of
from unplateau.measures.scoring import score_images
from unplateau.measures.thresholds import Counts, ScoreTable, join
from unplateau.model import SegmentationModel
from unplateau.training.averaging import averaged
from unplateau.training.batches import Batch, crops, step_generator
from unplateau.training.gathered import gathered, part
from unplateau.training.losses import CompoundLoss
from unplateau.training.optimisers import adamw, one_cycle
from unplateau.training.recipe import Recipe
from unplateau.types import Epoch, Fold, Pictures

SHOWN = 16
"""Images of a broken batch that are named."""


@final
class FineTuning(L.LightningModule):
    """Trains a model on `fold.fit` by a recipe and scores it on `fold.inner`; keeps an `Epoch` of each scoring.

    Lightning's checkpoints hold the records and the best weights, so that a resumed run ends as an unbroken one.
    """

    def __init__(self, model: SegmentationModel, pictures: Pictures, fold: Fold, recipe: Recipe, seed: int) -> None:
        super().__init__()
        self.model = model
        self.recipe = recipe
        self.seed_number = seed
        weights = class_weights(pictures, fold.fit, recipe.class_weights)
        self.loss = CompoundLoss(pictures.task.outputs, weights, recipe.loss, recipe.hard_pixels)
        self.averaged = averaged(model, recipe.ema) if recipe.ema else None
        self._held = [weight for weight in model.extractor.parameters() if weight.requires_grad]
        self.epochs: list[Epoch] = []
        self.best: dict[str, Tensor] = {}
        self._train_losses: list[Tensor] = []
        self._last_batch = -1
        self._gradient_norm = math.nan
        self._validation: list[tuple[ScoreTable, Counts, float, int]] = []

    def training_step(self, batch: Batch, _: int) -> Tensor:
        """Loss of one batch: half size in the first part of training, augmented, compound loss."""
        number = batch[2]
        if self.recipe.frozen_steps:
            self._hold(number // self.recipe.accumulate < self.recipe.frozen_steps)
        images, masks = self._shown(batch)
        own = part(len(images), self.global_rank, self.trainer.world_size)
        logits = self.model(images[own].contiguous(memory_format=torch.channels_last)).logits
        loss = self.loss(gathered(logits), masks)
        self._train_losses.append(loss.detach())
        self._last_batch = number
        if loss.device.type == "cpu":  # elsewhere looking at each would make the device wait
            self._refuse_infinite()
        # Lightning scores once more before it stops: a run ends with an evaluation, whatever the interval.
        self.trainer.should_stop |= number + 1 == self.recipe.batches
        # Several processes have the loss of the whole batch each, and the mean of their gradients is taken.
        return loss * self.trainer.world_size if self.trainer.world_size > 1 else loss

    def _shown(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Images float (B, 3, h, w) and masks (B, h, w) as the model gets them."""
        images_u8, masks, number, wanted = batch
        images, recipe = images_u8.float().div(255), self.recipe
        if number // recipe.accumulate < recipe.half_size * recipe.steps:
            images, masks = halve(images, masks)
        generator, crop = step_generator(self.seed_number, number), self._crop(masks)
        if recipe.positive_rate and crop:
            return crops(images, masks, wanted, recipe.augmentation, generator, crop)
        return augment(images, masks, recipe.augmentation, generator, crop)

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
    def judged(self) -> nn.Module:
        """What is evaluated and kept: the average of the weights where there is one."""
        return self.model if self.averaged is None else self.averaged.module

    def _crop(self, masks: Tensor) -> tuple[int, int] | None:
        if self.recipe.crop is None:
            return None
        return min(self.recipe.crop[0], masks.shape[-2]), min(self.recipe.crop[1], masks.shape[-1])

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
        images, masks = batch
        logits = self.judged(images.float().div(255).contiguous(memory_format=torch.channels_last)).logits.float()
        loss = float(self.loss(logits, masks))
        self._refuse_infinite()
        if not math.isfinite(loss):
            raise self._refusal(f"{loss} in the evaluation after step {self.trainer.global_step}", "")
        scores = (logits.sigmoid() if logits.shape[1] == 1 else logits.softmax(1)).cpu().numpy()
        truth = masks.cpu().numpy()
        self._validation.append((score_images(scores, truth), edge_counts(scores, truth), loss, len(truth)))

    def on_validation_epoch_end(self) -> None:
        """Turn the counts into an `Epoch`; keep the weights if none before scored better."""
        if self.trainer.sanity_checking or not self._validation:
            return
        epoch = self._epoch()
        self._validation, self._train_losses = [], []
        if not self.epochs or _worth(epoch) > max(map(_worth, self.epochs)):
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
        table = join([table for table, *_ in self._validation])
        edges = np.concatenate([edge for _, edge, *_ in self._validation])
        images = [count for *_, count in self._validation]
        losses = self._train_losses
        return replace(
            epoch_of(table, edges, int(self.trainer.global_step)),
            train_loss=float(torch.stack(losses).mean()) if losses else math.nan,
            val_loss=float(np.average([loss for _, _, loss, _ in self._validation], weights=images)),
            learning_rate=float(self.optimizers().param_groups[0]["lr"]),
            gradient_norm=self._gradient_norm,
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
    sides = [max(16, side // 16 * 8) for side in images.shape[-2:]]
    smaller = F.interpolate(images, size=sides, mode="area")
    nearest = F.interpolate(masks[:, None].float(), size=sides, mode="nearest-exact")[:, 0]
    return smaller, nearest.to(masks.dtype)


def _worth(epoch: Epoch) -> float:
    """What "better" means: IoU at the best threshold, so that a wobbling operating point chooses nothing."""
    return epoch.best_iou if math.isfinite(epoch.best_iou) else -1.0


def _numbers(epoch: Epoch) -> dict[str, float]:
    return {name: value for name, value in vars(epoch).items() if name not in ("step", "class_iou")}
