"""The many small fits of a diagnosis: described, run side by side, and kept, so that nothing computed is lost."""

from __future__ import annotations

import hashlib
import signal
import time
import warnings
import zlib
from collections.abc import Generator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, fields, replace
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from joblib import Parallel, cpu_count, delayed
from joblib.externals.loky.process_executor import TerminatedWorkerError
from numpy.typing import NDArray

from unplateau.decoders.catalogue import build_decoder
from unplateau.errors import UnplateauError
from unplateau.experiments.views import without_borders
from unplateau.extractors.catalogue import build_extractor, weight_files
from unplateau.extractors.frozen import freeze
from unplateau.files import write_bytes
from unplateau.measures.thresholds import ScoreTable, chosen_threshold, counts_at, mean_iou
from unplateau.model import SegmentationModel
from unplateau.progress import Told
from unplateau.training.devices import hearing, keep_memory
from unplateau.training.loop import finetune
from unplateau.training.recipe import Recipe
from unplateau.training.saved import WEIGHTS, load_model
from unplateau.training.scoring import answers, score
from unplateau.types import Epoch, Fold, Pictures

SEEN = 48
"""Images of the training part that are scored too: enough to tell whether a model can fit what it saw."""

STALE = 0.01
"""IoU on the inner part that a threshold must lose against the one that it chooses to count as stale."""


@dataclass(frozen=True)
class Fit:
    """One training: which two pieces, on which view of which images, how.

    `name` is the rung's; `view` is "image" or "contour"; `cost` its expected time relative to the others; `maps` are
    the pictures whose answers are kept as they are, for the checks of labels and to show the worst. `cores`: it is a
    rung, and scored without the borders of objects too. `start` is the folder of a trained model of these pieces whose
    weights it goes on from; None = from random weights.
    """

    name: str
    extractor: str
    decoder: str
    frozen: bool
    pretrained: bool
    view: str
    fold: int
    parts: Fold
    recipe: Recipe
    seed: int
    cost: float = 1.0
    maps: tuple[int, ...] = ()
    cores: bool = False
    # Not in the repr, from which the names of outcomes are made: where it lies says nothing, its weights do.
    start: Path | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Scored:
    """Scores on the inner and the report part, on one form of the masks."""

    inner: ScoreTable
    report: ScoreTable


@dataclass(frozen=True)
class Fitted:
    """What a fit left: scores on what chose (inner), on what chose nothing (report), and on some seen images."""

    inner: ScoreTable
    report: ScoreTable
    seen: ScoreTable
    epochs: tuple[Epoch, ...]
    seconds: float
    maps: NDArray[np.uint8] = field(default_factory=lambda: np.zeros((0, 1, 0, 0), np.uint8))
    """Answers (n, outputs, H, W) on `Fit.maps`: scores in steps of 1 / BINS."""
    fixed: float | None = None
    """The threshold that came with a model trained elsewhere; None = the inner part chooses."""
    native: Scored | None = None
    """The same answers on masks as they came; None where these are of the grid's size, or the fit is one of ours."""
    cores: Scored | None = None
    """The same answers where the borders of objects do not count; None where the fit is no rung."""

    @property
    def threshold(self) -> float:
        """The threshold of a binary task at which the working grid is read; nan if none is defined.

        One that came with the model decides masks at native size. Where it is sound there and the grid is another, the
        grid chooses its own, as for every fit beside this one.
        """
        ours = self.fixed is None or (self.native is not None and self.imposed is None)
        return chosen_threshold(self.inner) if ours else self.in_force

    @property
    def in_force(self) -> float:
        """The threshold that decides `deciding`."""
        return chosen_threshold(self.inner) if self.fixed is None else self.fixed

    @property
    def on_grid(self) -> Scored:
        """What is scored on the masks of the grid."""
        return Scored(self.inner, self.report)

    @property
    def deciding(self) -> Scored:
        """What the threshold in force is for: masks as they came where these are at hand, else those of the grid."""
        return self.native or self.on_grid

    @property
    def inside(self) -> Scored:
        """What tells which evidence decides: without the borders of objects, where the fit was scored so."""
        return self.cores or self.on_grid

    @property
    def imposed(self) -> float | None:
        """The threshold at which trainings beside this one are read too; None = each chooses its own, as this one did.

        One thing changes at a time: where this threshold is stale it stays so. But a sound one is sound for this
        model only, and others read at it would look worse than they are. It is stale or sound where it decides.
        """
        inner = self.deciding.inner
        if self.fixed is None or not len(inner):
            return self.fixed
        lost = mean_iou(counts_at(inner, chosen_threshold(inner))) - mean_iou(inner.at(self.fixed))
        return self.fixed if lost >= STALE else None


Views = dict[str, Pictures]


def run_fits(fits: list[Fit], views: Views, folder: Path, told: Told) -> list[Fitted]:
    """Every fit's outcome, in the order of `fits`; those already in `folder` are read from it.

    On a CPU, as many run at a time as there are cores, each on one core: small networks use cores better side by side.

    Raises:
        OutputError: an outcome cannot be written.
        UnplateauError: a training cannot go on.
    """
    if not fits:
        return []
    data = fingerprint(views)
    marks = {origin: data + _weights_mark(*origin) for origin in {(fit.extractor, fit.start) for fit in fits}}
    # "reach D/2" is the name of a rung, not of a folder.
    keys = [_key(fit, marks[fit.extractor, fit.start]) for fit in fits]
    paths = [folder / f"{fit.name.replace('/', '_')}-{fit.fold}-{key}.npz" for fit, key in zip(fits, keys, strict=True)]
    outcomes = {place: kept for place, path in enumerate(paths) if (kept := load(path)) is not None}
    waiting = sorted(set(range(len(fits))) - set(outcomes), key=lambda place: -fits[place].cost)
    done = len(outcomes)
    with hearing(_stop), closing(_computed([(place, fits[place]) for place in waiting], views)) as computed:
        for place, outcome in computed:
            outcomes[place] = outcome
            save(outcome, paths[place])
            done += 1
            told(done, len(fits), fits[place].name)
    return [outcomes[place] for place in range(len(fits))]


def by_name(fits: list[Fit], fitted: list[Fitted]) -> dict[str, tuple[Fitted, ...]]:
    """The outcomes of each name, in the order of the fits."""
    outcomes: dict[str, tuple[Fitted, ...]] = {}
    for fit, outcome in zip(fits, fitted, strict=True):
        outcomes[fit.name] = (*outcomes.get(fit.name, ()), outcome)
    return outcomes


def run_fit(fit: Fit, pictures: Pictures) -> Fitted:
    """Train one model and score it."""
    start = time.perf_counter()
    trained = finetune(build_model(fit, pictures), pictures, fit.parts, fit.recipe, seed=fit.seed)
    return Fitted(
        inner=score(trained.model, pictures, fit.parts.inner),
        report=score(trained.model, pictures, fit.parts.report),
        seen=score(trained.model, pictures, spread(fit.parts.fit, SEEN)),
        epochs=trained.epochs,
        seconds=time.perf_counter() - start,
        maps=answers(trained.model, pictures, fit.maps),
        cores=_in_cores(trained.model, pictures, fit.parts) if fit.cores else None,
    )


def _in_cores(model: SegmentationModel, pictures: Pictures, parts: Fold) -> Scored:
    inside = without_borders(pictures, (*parts.inner, *parts.report))
    return Scored(score(model, inside, parts.inner), score(model, inside, parts.report))


def build_model(fit: Fit, pictures: Pictures) -> SegmentationModel:
    """The two pieces of a fit, with the weights it goes on from, or random ones drawn by its seed alone."""
    if fit.start is not None:
        given = load_model(fit.start).model
        return SegmentationModel(freeze(given.extractor) if fit.frozen else given.extractor, given.decoder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(fit.seed)
        extractor = build_extractor(fit.extractor, pretrained=fit.pretrained)
        decoder = build_decoder(fit.decoder, extractor.gives, pictures.task.outputs)
    return SegmentationModel(freeze(extractor) if fit.frozen else extractor, decoder)


def spread(indices: tuple[int, ...], count: int) -> tuple[int, ...]:
    """At most `count` of the indices, evenly over them."""
    places = np.linspace(0, len(indices) - 1, min(count, len(indices))).round().astype(int)
    return tuple(indices[place] for place in places)


def fingerprint(views: Views) -> str:
    """A short hash of all pixels and masks: an outcome is reused for the very same data only."""
    digest = hashlib.sha256()
    for name in sorted(views):
        for part in (views[name].images, views[name].masks):
            digest.update(part.contiguous().numpy().data)
    return digest.hexdigest()[:12]


def workers() -> int:
    """Fits at a time: one with a GPU, else as many as there are cores to use, at most eight to bound memory."""
    return 1 if torch.cuda.is_available() else min(8, int(cpu_count()))


def save(outcome: Fitted, path: Path) -> None:
    """Write an outcome in one stroke: a reader finds all of it or nothing.

    Raises:
        OutputError: the disk is full or the folder cannot be written.
    """
    arrays: dict[str, NDArray[np.generic]] = {"seconds": np.array(outcome.seconds), "maps": outcome.maps}
    tables = {part: getattr(outcome, part) for part in PARTS}
    if outcome.cores:
        tables |= {f"{CORES}{part}": getattr(outcome.cores, part) for part in vars(outcome.cores)}
    for part, table in tables.items():
        arrays[f"{part}_histograms"] = table.histograms.astype(np.int32)
        arrays[f"{part}_argmax"] = table.argmax
        if table.groups is not None:
            arrays[f"{part}_groups"] = table.groups
    rows = [[*_plain(epoch), *epoch.class_iou] for epoch in outcome.epochs]
    arrays["epochs"] = np.array(rows, dtype=np.float64)
    buffer = BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    write_bytes(path, buffer.getvalue())


def load(path: Path) -> Fitted | None:
    """An outcome written by `save`; None when there is none, or none that can be read."""
    try:
        with path.open("rb") as file, np.load(file) as arrays:
            tables = [_table(arrays, part) for part in PARTS]
            epochs = tuple(_epoch(row) for row in arrays["epochs"])
            inside = [_table(arrays, f"{CORES}{part}") for part in PARTS[:2] if f"{CORES}{part}_argmax" in arrays]
            return Fitted(
                tables[0],
                tables[1],
                tables[2],
                epochs,
                float(arrays["seconds"]),
                arrays["maps"],
                cores=Scored(*inside) if inside else None,
            )
    except (OSError, EOFError, BadZipFile, zlib.error, KeyError, ValueError):
        return None


PARTS = ("inner", "report", "seen")
CORES = "cores_"
"""Before the names of the parts that are scored without the borders of objects."""

NUMBERS = tuple(each.name for each in fields(Epoch) if each.name != "class_iou")


def _table(arrays: Mapping[str, NDArray[Any]], part: str) -> ScoreTable:
    histograms, argmax = arrays[f"{part}_histograms"].astype(np.int64), arrays[f"{part}_argmax"]
    return ScoreTable(histograms, argmax, arrays[name] if (name := f"{part}_groups") in arrays else None)


def _plain(epoch: Epoch) -> list[float]:
    return [float(getattr(epoch, name)) for name in NUMBERS]


def _epoch(row: NDArray[np.float64]) -> Epoch:
    plain = dict(zip(NUMBERS, row.tolist(), strict=False))
    step = int(plain.pop("step"))
    return Epoch(step=step, class_iou=tuple(row[len(NUMBERS) :].tolist()), **plain)


def _key(fit: Fit, mark: str) -> str:
    """A short hash of all that an outcome depends on; `mark` stands for the data and for weights from a file."""
    return hashlib.sha256(f"{mark} {fit!r}".encode()).hexdigest()[:16]


def _weights_mark(extractor: str, start: Path | None) -> str:
    files = weight_files(extractor) if start is None else (start / WEIGHTS,)
    return "".join(hashlib.sha256(path.read_bytes()).hexdigest() for path in files)


def _computed(numbered: list[tuple[int, Fit]], views: Views) -> Generator[tuple[int, Fitted], None, None]:
    """Outcomes as they come. Pixels travel to the workers once, as shared files, not with every fit."""
    if workers() == 1 or len(numbered) < 2:
        yield from ((place, run_fit(fit, views[fit.view])) for place, fit in numbered)
        return
    arrays = {name: (view.images.numpy(), view.masks.numpy()) for name, view in views.items()}
    nothing = torch.zeros(0)
    # Nor does the way to the masks as they came, which may hold the whole data set.
    frame = replace(next(iter(views.values())), images=nothing, masks=nothing, native_mask=None)
    tasks = (delayed(_work)(place, fit, frame, *arrays[fit.view]) for place, fit in numbered)
    parallel = Parallel(n_jobs=workers(), backend="loky", return_as="generator_unordered", inner_max_num_threads=1)
    # A terminal sends Ctrl-C to all: the processes started here never hear it, the parent hears it and ends them.
    with hearing(signal.SIG_IGN):
        outcomes: Generator[tuple[int, Fitted], None, None] = parallel(tasks)
    try:
        # Not `yield from`, which would close `outcomes` out of the reach of what is below.
        for outcome in outcomes:  # noqa: UP028
            yield outcome
    except TerminatedWorkerError as error:
        raise UnplateauError(
            "Each training must fit in memory, but the system ended one of them, most likely for lack of it. What is "
            "finished is kept: close other programs or lower `size`, and run the same command again."
        ) from error
    finally:
        with warnings.catch_warnings():
            # Whoever stops early knows that trainings were given up.
            warnings.simplefilter("ignore")
            outcomes.close()


def _stop(*_: object) -> None:
    """Hear Ctrl-C once: pressed again while the processes are being ended, it would leave them behind."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt


def _work(
    place: int, fit: Fit, frame: Pictures, images: NDArray[np.uint8], masks: NDArray[np.uint8]
) -> tuple[int, Fitted]:
    torch.set_num_threads(1)
    keep_memory()
    # Shared files are read-only, which a tensor cannot be: the copy is small beside one training step.
    own = replace(frame, images=torch.from_numpy(images.copy()), masks=torch.from_numpy(masks.copy()))
    return place, run_fit(fit, own)
