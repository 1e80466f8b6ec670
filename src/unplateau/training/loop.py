"""Runs a fine-tuning: on the machine's accelerator where there is one, resumable when it has a folder."""

from __future__ import annotations

import logging
import math
import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any, Literal, final

import lightning as L
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.plugins.environments import LightningEnvironment
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities.exceptions import SIGTERMException

from unplateau.errors import Doubt, UnplateauError
from unplateau.files import unwritten, write_bytes
from unplateau.model import SegmentationModel
from unplateau.training.batches import BatchStream, batches
from unplateau.training.coach import Coach
from unplateau.training.devices import accelerator, native_bf16, out_of_memory
from unplateau.training.finetune import FineTuning
from unplateau.training.recipe import Recipe
from unplateau.training.scoring import BATCH
from unplateau.types import Epoch, Fold, Pictures

LAST = "last.ckpt"

FEWEST = 2
"""Images at a time, below which normalisation over the batch makes no sense."""


@dataclass(frozen=True)
class Trained:
    """A fine-tuned model, with the weights that its recipe keeps, and the record of each evaluation."""

    model: SegmentationModel
    epochs: tuple[Epoch, ...]


def finetune(
    model: SegmentationModel,
    pictures: Pictures,
    fold: Fold,
    recipe: Recipe,
    *,
    seed: int = 0,
    folder: Path | None = None,
    progress: bool = False,
    processes: int = 1,
    coach: Coach | None = None,
) -> Trained:
    """Fine-tune `model` on `fold.fit`; `fold.inner` chooses its best moment where it can (`Recipe.keep`).

    With a `folder`, the state is saved there at each evaluation and a call with the same arguments goes on from it.
    Where a batch does not fit in memory, it begins again with half as many images, twice as often before each step, and
    warns. `processes` is how many do this together, each its part of every batch, told apart by LOCAL_RANK in the
    environment: `training.ranks` starts them. What a `coach` says of the images stands beside their masks.

    Raises:
        UnplateauError: the loss is no longer finite, two images at a time do not fit in memory, or what is in `folder`
            cannot be read.
        OutputError: `folder` cannot be written.
    """
    start = {name: value.detach().clone() for name, value in model.state_dict().items()}
    while True:
        try:
            return _finetuned(model, pictures, fold, recipe, Run(seed, folder, progress, processes, coach))
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            recipe = _smaller(recipe, processes, error)
        # Outside the handler: its traceback holds the tensors that did not fit.
        model.load_state_dict(start)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


@dataclass(frozen=True)
class Run:
    """How a fine-tuning is run, as in `finetune`."""

    seed: int
    folder: Path | None
    progress: bool
    processes: int
    coach: Coach | None


def _finetuned(model: SegmentationModel, pictures: Pictures, fold: Fold, recipe: Recipe, run: Run) -> Trained:
    module = FineTuning(model.to(memory_format=torch.channels_last), pictures, fold, recipe, run.seed, run.coach)
    stream = BatchStream(pictures, fold.fit, recipe.batch, recipe.batches, run.seed, recipe.positive_rate)
    resume = _saved(run.folder)
    stream.first = _steps_done(resume) * recipe.accumulate
    with _quiet(), _honest(run.folder):
        trainer = _trainer(recipe, run.folder, run.progress, run.processes)
        trainer.fit(
            module,
            batches(stream),
            _validation(pictures, fold),
            ckpt_path=resume,
            weights_only=True if resume else None,
        )
    if not module.epochs:
        raise UnplateauError(f"A run must reach its first evaluation; it stopped at step {trainer.global_step}.")
    model.load_state_dict(module.best)
    return Trained(model.eval(), tuple(module.epochs))


def _smaller(recipe: Recipe, processes: int, error: RuntimeError) -> Recipe:
    """The recipe with half as many images at a time and twice as many times before each step.

    Raises:
        UnplateauError: fewer cannot be taken.
    """
    half = recipe.batch // 2
    if processes > 1 or recipe.batch % 2 or half < FEWEST:
        raise UnplateauError(
            f"A batch of {recipe.batch} images must fit in memory, and does not. Lower `size`, or end what else runs "
            "there."
        ) from error
    warnings.warn(
        f"{recipe.batch} images at a time do not fit in memory: training goes on with {half}, and twice as many times "
        "before each step. Normalisation over the batch and losses over all of its pixels see fewer at once.",
        Doubt,
        stacklevel=3,
    )
    return replace(recipe, batch=half, accumulate=2 * recipe.accumulate)


def precision(device: str) -> Literal["bf16-mixed", "32-true"]:
    """Lightning's word for the fastest arithmetic that trains well on "cpu" or "cuda"."""
    return "bf16-mixed" if native_bf16(device) else "32-true"


@final
class WholeCheckpoints(TorchCheckpointIO):
    """Writes a state in one stroke in its own folder. Lightning's own is moved there from the system's folder for
    temporary files, often another disk, and a process that is killed meanwhile leaves half of it."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write it.

        Raises:
            OutputError: it cannot be written.
        """
        buffer = BytesIO()
        torch.save(checkpoint, buffer)
        write_bytes(Path(path), buffer.getvalue())


def _trainer(recipe: Recipe, folder: Path | None, progress: bool, processes: int) -> L.Trainer:
    callbacks: list[Callback] = []
    if recipe.patience:
        callbacks.append(EarlyStopping("val_iou", mode="max", patience=recipe.patience))
    if folder is not None:
        callbacks.append(
            ModelCheckpoint(folder, filename="last", enable_version_counter=False, save_on_train_epoch_end=False)
        )
    device = accelerator().type
    return L.Trainer(
        max_steps=recipe.steps,
        accelerator=device,
        devices=processes,
        plugins=[WholeCheckpoints(), *([LightningEnvironment()] if processes > 1 else [])],
        strategy=_together(recipe, device) if processes > 1 else "auto",
        sync_batchnorm=processes > 1 and device == "cuda",
        precision=precision(device),
        accumulate_grad_batches=recipe.accumulate,
        val_check_interval=recipe.evaluate_every * recipe.accumulate,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        callbacks=callbacks,
        logger=CSVLogger(folder, name="log", version="") if folder else False,
        log_every_n_steps=recipe.evaluate_every,
        enable_checkpointing=folder is not None,
        enable_progress_bar=progress,
        enable_model_summary=False,
        gradient_clip_val=recipe.clip,
        use_distributed_sampler=False,
        inference_mode=True,
    )


def _together(recipe: Recipe, device: str) -> DDPStrategy:
    """Processes that average their gradients; while the extractor is held, some of the weights have none."""
    return DDPStrategy(
        process_group_backend="nccl" if device == "cuda" else "gloo", find_unused_parameters=recipe.frozen_steps > 0
    )


def _validation(pictures: Pictures, fold: Fold) -> Any:
    inner = torch.utils.data.TensorDataset(pictures.images[list(fold.inner)], pictures.truth[list(fold.inner)])
    return torch.utils.data.DataLoader(inner, batch_size=BATCH, num_workers=0)


def _saved(folder: Path | None) -> Path | None:
    if folder is None:
        return None
    for part in folder.glob(f".{LAST}.*"):  # of a process that was killed while it wrote
        part.unlink(missing_ok=True)
    return folder / LAST if (folder / LAST).exists() else None


def _steps_done(checkpoint: Path | None) -> int:
    if checkpoint is None:
        return 0
    try:
        return int(torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)["global_step"])
    except Exception as error:  # a file that is no checkpoint makes the unpickler fail in any way whatever
        raise UnplateauError(
            f"{str(checkpoint)!r} must be the whole state of an interrupted training, and cannot be read as one. "
            "Delete it to train from the start."
        ) from error


@contextmanager
def _honest(folder: Path | None) -> Iterator[None]:
    """What stops a training, as what it is: Lightning makes Ctrl-C an exit, and stays deaf to it from then on; and of a
    request to end, as schedulers send it, it makes an exit without a word that looks like success.
    """
    heard = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as stop:
        if not isinstance(stop, SIGTERMException) and not isinstance(stop.__context__, KeyboardInterrupt):
            raise
        signal.signal(signal.SIGINT, heard)
        raise KeyboardInterrupt from stop
    except OSError as error:
        if folder is None:
            raise
        raise unwritten(folder, error) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Lightning says on every run what device it found and that in-memory loaders use no worker processes."""
    loggers = [
        logging.getLogger(name)
        for name in ("lightning.pytorch.utilities.rank_zero", "lightning.pytorch", "lightning.fabric")
    ]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning")
            warnings.filterwarnings("ignore", message=".*does not have many workers.*")
            warnings.filterwarnings("ignore", message=".*isn't deterministic.*|.*LeafSpec.*|.*val_check_interval.*")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def is_finite(epoch: Epoch) -> bool:
    """Whether an evaluation gave a score at all."""
    return math.isfinite(epoch.best_iou)
