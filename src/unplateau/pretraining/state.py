"""What a pretraining leaves on disk to go on from: each file whole or not there."""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn
from torch.optim import Optimizer

from unplateau.data.unlabelled import Unlabelled
from unplateau.errors import UnplateauError
from unplateau.files import write_bytes, write_json

Facts = TypeVar("Facts")


@dataclass(frozen=True)
class Point:
    """One evaluation: step, mean loss since the last one, and what `DenseQuality` says of the held-out images."""

    step: int
    loss: float
    separation: float
    rank: float
    spread: float
    score: float


@dataclass(frozen=True)
class State:
    """Where a run is: steps done, steps in a row without spread, losses since the last evaluation, the evaluations."""

    step: int
    low: int
    losses: tuple[float, ...]
    series: tuple[Point, ...]


def mark_of(pool: Unlabelled, said: str) -> str:
    """A short hash of everything that decides a pretraining."""
    digest = hashlib.sha256(f"{said} {pool.names}".encode())
    digest.update(pool.images.contiguous().numpy().data)
    return digest.hexdigest()[:12]


def write_state(state: State, path: Path, method: nn.Module, optimizer: Optimizer) -> None:
    """Save all that the next step depends on.

    Raises:
        OutputError: it cannot be written.
    """
    facts = {
        "step": state.step,
        "low": state.low,
        "losses": list(state.losses),
        "series": [asdict(point) for point in state.series],
    }
    write_facts(facts, path, method, optimizer)


def read_state(path: Path, method: nn.Module, optimizer: Optimizer) -> State | None:
    """Put what `write_state` saved into `method` and `optimizer`; None where nothing was saved.

    Raises:
        UnplateauError: it cannot be read.
    """

    def of(facts: dict[str, Any]) -> State:
        series = tuple(Point(**values) for values in facts["series"])
        return State(int(facts["step"]), int(facts["low"]), tuple(facts["losses"]), series)

    return read_facts(path, method, optimizer, of)


def write_facts(facts: dict[str, Any], path: Path, method: nn.Module, optimizer: Optimizer) -> None:
    """Save plain facts with the weights that they are about and the state of their optimiser, in one stroke.

    Raises:
        OutputError: it cannot be written.
    """
    buffer = io.BytesIO()
    torch.save({**facts, "method": method.state_dict(), "optimizer": optimizer.state_dict()}, buffer)
    write_bytes(path, buffer.getvalue())


def read_facts(
    path: Path,
    method: nn.Module,
    optimizer: Optimizer,
    of: Callable[[dict[str, Any]], Facts],
    what: str = "pretraining",
) -> Facts | None:
    """Put what `write_facts` saved into `method` and `optimizer`, and make of the facts what `of` makes of them.

    None where nothing was saved. What a killed run was writing at that moment lies beside it under a hidden name and is
    taken away. `what` is what an error calls the run.

    Raises:
        UnplateauError: it cannot be read.
    """
    for part in [*path.parent.glob(f".{path.name}.*"), *path.parent.parent.glob(".*.safetensors.*")]:
        part.unlink(missing_ok=True)
    if not path.exists():
        return None
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        method.load_state_dict(content["method"])
        optimizer.load_state_dict(content["optimizer"])
        return of(content)
    except Exception as error:  # a file that is no checkpoint makes the unpickler fail in any way whatever
        raise UnplateauError(
            f"{str(path)!r} must be the whole state of an interrupted {what}, and cannot be read as one. "
            "Delete it to start again."
        ) from error


def write_series(series: tuple[Point, ...], path: Path) -> None:
    """The evaluations as JSON, and which one's extractor is the one that was kept."""
    scored = [point for point in series[1:] if math.isfinite(point.score)]
    kept = max(scored, key=lambda point: (point.score, -point.step)).step if scored else None
    write_json(path, {"kept_step": kept, "series": series})
