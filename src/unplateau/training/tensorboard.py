"""Scalars of TensorBoard event files. The package `tensorboard` is an extra and is imported here alone."""

from __future__ import annotations

from pathlib import Path

from unplateau.errors import DataError, MissingExtra
from unplateau.training.series import Series

MARK = "tfevents"


def is_tensorboard(path: Path) -> bool:
    """Whether `path` is an event file, or a folder with one somewhere below."""
    return MARK in path.name if path.is_file() else path.is_dir() and any(_event_files(path))


def read_tensorboard(path: Path) -> Series:
    """Every scalar of one run: an event file, or the one folder below `path` that holds some.

    Raises:
        DataError: several runs lie below `path`, or no scalar can be read.
        MissingExtra: the package is absent.
    """
    try:
        from tensorboard.backend.event_processing.event_accumulator import SCALARS, TENSORS, EventAccumulator
        from tensorboard.util.tensor_util import make_ndarray
    except ImportError as error:
        raise MissingExtra("tensorboard", needed_for=f"Reading {str(path)!r}") from error
    run = _one_run(path)
    events = EventAccumulator(str(run), size_guidance={SCALARS: 0, TENSORS: 0})
    events.Reload()
    tags, series = events.Tags(), Series(str(path))
    for tag in tags[SCALARS]:
        for event in events.Scalars(tag):
            series.add(tag, int(event.step), event.value)
    # Writers of TensorFlow 2 keep a scalar as a tensor without sides.
    for tag in tags[TENSORS]:
        for event in events.Tensors(tag):
            value = make_ndarray(event.tensor_proto)
            if value.size == 1 and value.dtype.kind in "fiu":
                series.add(tag, int(event.step), value.item())
    if not series.columns:
        raise DataError(f"{str(run)!r} must hold TensorBoard scalars; none can be read from it. Give another run.")
    return series


def _one_run(path: Path) -> Path:
    if path.is_file():
        return path
    runs = sorted({file.parent for file in _event_files(path)}, key=lambda run: (len(run.parts), run))
    # What `add_scalars` writes lies below the run that it belongs to, in folders of its own.
    if len(runs) == 1 or runs[0] == path:
        return runs[0]
    raise DataError(
        f"`log` must be one run; below {str(path)!r} there are {len(runs)}, as {str(runs[0])!r} and {str(runs[1])!r}. "
        "Give one of them."
    )


def _event_files(path: Path) -> list[Path]:
    return [file for file in path.rglob(f"*{MARK}*") if file.is_file()]
