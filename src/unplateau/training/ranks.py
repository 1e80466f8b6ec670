"""One fine-tuning in several processes of this machine: the batches, and the model, are those of one process."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.distributed as dist
from joblib import Parallel, cpu_count, delayed
from joblib.externals.loky.process_executor import TerminatedWorkerError

from unplateau.errors import UnplateauError
from unplateau.model import SegmentationModel
from unplateau.training.coach import Coach
from unplateau.training.devices import hearing, keep_memory
from unplateau.training.gathered import gather_statistics
from unplateau.training.loop import Trained, finetune
from unplateau.training.recipe import Recipe
from unplateau.types import Fold, Pictures


@dataclass(frozen=True)
class Rank:
    """One of the processes: its number, of how many, and the port of this machine where they meet."""

    number: int
    processes: int
    port: int


@dataclass(frozen=True)
class Task:
    """What all of them train, as in `finetune`."""

    model: SegmentationModel
    pictures: Pictures
    fold: Fold
    recipe: Recipe
    seed: int
    folder: Path | None
    progress: bool
    coach: Coach | None = None


def finetune_in_ranks(task: Task, processes: int) -> Trained:
    """`finetune` in that many processes, each with its part of every batch and its own GPU, or its share of the cores.

    Loss, batch statistics and gradient are those of the whole batch, so the model is that of one process but for
    rounding. (On the CPU this holds for plain `BatchNorm2d`; normalisations of another kind see their own part.)

    Raises:
        UnplateauError: as `finetune`; the batch cannot be shared evenly; or there are GPUs, but fewer.
        OutputError: as `finetune`.
    """
    if processes == 1:
        return _alone(task, 1)
    _refuse(task.recipe, processes)
    port = _free_port()
    # The way to the masks as they came stays here: it may hold the whole data set.
    shared = replace(task, pictures=replace(task.pictures, native_mask=None))
    parallel = Parallel(n_jobs=processes, backend="loky", batch_size=1, pre_dispatch="all", return_as="generator")
    # As for the fits of a diagnosis: Ctrl-C is for the parent, which ends the others.
    with hearing(signal.SIG_IGN):
        outcomes = parallel(delayed(_run)(Rank(number, processes, port), shared) for number in range(processes))
    try:
        found = list(outcomes)
    except TerminatedWorkerError as error:
        raise UnplateauError(
            f"{processes} processes must fit in memory together, but the system ended one of them. Lower `devices` or "
            "`size`; with the same command training goes on from its last evaluation."
        ) from error
    finally:
        outcomes.close()
    trained = _chosen(found)
    task.model.load_state_dict(trained.model.state_dict())
    return Trained(task.model.eval(), trained.epochs)


def _alone(task: Task, processes: int) -> Trained:
    """What one of so many processes does."""
    return finetune(
        task.model,
        task.pictures,
        task.fold,
        task.recipe,
        seed=task.seed,
        folder=task.folder,
        progress=task.progress,
        processes=processes,
        coach=task.coach,
    )


def _refuse(recipe: Recipe, processes: int) -> None:
    if recipe.batch % processes:
        raise UnplateauError(
            f"`devices` must divide the batch of {recipe.batch}, so that each has an equal part; got {processes}. "
            "Give another, or another `batch`."
        )
    if torch.cuda.is_available() and processes > torch.cuda.device_count():
        raise UnplateauError(
            f"`devices` must be at most the number of GPUs, {torch.cuda.device_count()}; got {processes}. Lower it."
        )


def _chosen(found: list[Trained | Exception | None]) -> Trained:
    """What the first process trained; where one failed, why: the others only say that it left them."""
    failed = [each for each in found if isinstance(each, Exception)]
    if failed:
        raise next((each for each in failed if isinstance(each, UnplateauError)), failed[0])
    return next(each for each in found if isinstance(each, Trained))


def _run(rank: Rank, task: Task) -> Trained | Exception | None:
    """One process' share. A failure comes back as a value, so that all of them are heard."""
    keep_memory()
    torch.set_num_threads(max(1, cpu_count() // rank.processes))
    try:
        with _named(rank):
            if not torch.cuda.is_available():
                gather_statistics(task.model)
            trained = _alone(task, rank.processes)
    except Exception as error:  # whatever it is, the parent decides
        return error
    finally:
        # Also after a failure: the others wait for this process until its connections are gone.
        if dist.is_initialized():
            dist.destroy_process_group()
    return trained if rank.number == 0 else None


@contextmanager
def _named(rank: Rank) -> Iterator[None]:
    """Within it the environment says which process this is, as torch and Lightning read it."""
    said = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(rank.port),
        "LOCAL_RANK": str(rank.number),
        "NODE_RANK": "0",
        "WORLD_SIZE": str(rank.processes),
    }
    before = {name: os.environ.get(name) for name in said}
    os.environ.update(said)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
