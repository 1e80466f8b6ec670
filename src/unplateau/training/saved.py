"""A trained model on disk: weights in safetensors, everything else that `predict` needs in readable JSON."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save

from unplateau.data.transforms import Augmentation
from unplateau.decoders.catalogue import build_decoder
from unplateau.errors import PieceError
from unplateau.extractors.base import AbstractExtractor
from unplateau.extractors.catalogue import build_extractor
from unplateau.extractors.families import gates_of
from unplateau.extractors.frozen import FrozenExtractor
from unplateau.files import plain, write_bytes, write_json
from unplateau.model import SegmentationModel
from unplateau.training.recipe import Recipe
from unplateau.types import Size, Task

WEIGHTS, FACTS = "model.safetensors", "model.json"


@dataclass(frozen=True)
class SavedModel:
    """A model with its task, the grid it was trained on, and the threshold of binary and multi-label masks (else nan).

    The threshold is for masks at the size that images come in. `made` says how it was trained, None when the file does
    not; `reported` is the IoU it was said to have on the grid, at the threshold that suits the grid. `native` is
    the size of the images that the grid stood for, None when the file does not say. `white` is the value that was white
    in the images of its training, where these had 16 bits: what is asked of it later is read on the same scale, which
    new images alone cannot tell; None where they had 8, or the file does not say.
    """

    model: SegmentationModel
    task: Task
    decoder: str
    size: Size
    threshold: float
    made: Made | None = None
    reported: float = math.nan
    native: Size | None = None
    white: int | None = None


@dataclass(frozen=True)
class Made:
    """How a model was trained: `extractor` as it was asked for, which may be a file of weights."""

    extractor: str
    frozen: bool
    recipe: Recipe
    seed: int


def save_model(saved: SavedModel, folder: Path, facts: dict[str, Any]) -> None:
    """Write weights, then facts; `facts` is what else is worth knowing, such as its IoU.

    Of an extractor with gates, `gates` says how much of each level this task takes from each of its paths or parts.

    Raises:
        OutputError: they cannot be written.
    """
    extractor, decoder = saved.model.extractor, saved.model.decoder
    if isinstance(extractor, FrozenExtractor):  # how it was trained; what it answers is the same without
        extractor = extractor.inner
    state = SegmentationModel(extractor, decoder).state_dict()
    write_bytes(folder / WEIGHTS, save({name: value.detach().cpu().contiguous() for name, value in state.items()}))
    content = {
        "extractor": extractor.architecture,
        "decoder": saved.decoder,
        "task": plain(saved.task),
        "size": saved.size,
        "native": saved.native,
        "threshold": saved.threshold,
        "made": plain(saved.made),
        "gates": plain(gates_of(extractor)),
        **facts,
        **({} if saved.white is None else {"white": saved.white}),
    }
    write_json(folder / FACTS, content)


def save_extractor(extractor: AbstractExtractor, path: Path) -> None:
    """Write an extractor as a file that `build_extractor` reads: it names its own architecture.

    Raises:
        OutputError: it cannot be written.
    """
    state = {name: value.detach().cpu().contiguous() for name, value in extractor.state_dict().items()}
    write_bytes(path, save(state, {"architecture": extractor.architecture}))


def load_model(folder: Path) -> SavedModel:
    """The model that `save_model` wrote.

    Raises:
        PieceError: no model there, or one that is damaged.
    """
    facts = _facts(folder)
    saved = _described(facts, folder)
    try:
        saved.model.load_state_dict(load_file(folder / WEIGHTS))
    except (OSError, SafetensorError, RuntimeError) as error:
        lines = str(error).splitlines()
        # torch names the first tensor that does not fit on the second line.
        why = lines[min(1, len(lines) - 1)].strip().rstrip(".")[:160] if lines else type(error).__name__
        raise PieceError(f"{str(folder / WEIGHTS)!r} must hold the model's weights; {why}. Train again.") from error
    saved.model.eval()
    return saved


def _described(facts: dict[str, Any], folder: Path) -> SavedModel:
    """The model as its facts describe it, with random weights."""
    try:
        task = _task(facts["task"])
        extractor = build_extractor(facts["extractor"])
        decoder = build_decoder(facts["decoder"], extractor.gives, task.outputs, task.kind)
        model = SegmentationModel(extractor, decoder)
        threshold = math.nan if facts["threshold"] is None else float(facts["threshold"])
        height, width = (int(side) for side in facts["size"])
        native, white = facts.get("native"), facts.get("white")
        reported = facts.get("iou")
        return SavedModel(
            model,
            task,
            facts["decoder"],
            (height, width),
            threshold,
            _made(facts["made"]) if facts.get("made") else None,
            math.nan if reported is None else float(reported),
            (int(native[0]), int(native[1])) if native else None,
            None if white is None else int(white),
        )
    except (KeyError, TypeError, ValueError, AttributeError, PieceError) as error:
        raise PieceError(
            f"{str(folder / FACTS)!r} must describe a model as `train` wrote it; it lacks or damages "
            f"{str(error).rstrip('.?')}. Train again."
        ) from error


def _task(values: dict[str, Any]) -> Task:
    """The task; models saved before there were other kinds are of masks."""
    positive, classes, names = (tuple(values[name]) for name in ("positive", "classes", "names"))
    return Task(positive, classes, names, str(values.get("kind", "mask")), bool(values.get("exclusive", True)))


def _made(values: dict[str, Any]) -> Made:
    """How it was trained, from plain JSON, in which every tuple has become a list."""
    recipe = {name: _tuple(value) for name, value in values["recipe"].items()}
    augmentation = {name: _tuple(value) for name, value in values["recipe"]["augmentation"].items()}
    recipe["augmentation"] = Augmentation(**augmentation)
    return Made(str(values["extractor"]), bool(values["frozen"]), Recipe(**recipe), int(values["seed"]))


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _facts(folder: Path) -> dict[str, Any]:
    path = folder / FACTS
    if not path.is_file():
        raise PieceError(f"`model` must be a folder written by `train`; there is no {str(path)!r}. Train one first.")
    try:
        facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PieceError(f"{str(path)!r} must be JSON written by `train`; {error}. Train again.") from error
    return facts
