"""The verbs. The command line says the same words with the same names."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from unplateau._version import VERSION
from unplateau.data.checks import FEWEST
from unplateau.data.folder import list_images
from unplateau.data.grid import SMALLEST
from unplateau.data.kinds import read_task, refuse_kind
from unplateau.data.pictures import read_pictures
from unplateau.data.sources import open_data
from unplateau.decoders.catalogue import first_decoder
from unplateau.diagnosis.comparison import Contest, comparison_document, run_contest
from unplateau.diagnosis.diagnose import RECIPE, Order, measure_all, train_all, train_given
from unplateau.diagnosis.document import document
from unplateau.diagnosis.examples import draw_worst
from unplateau.diagnosis.given import load_given
from unplateau.diagnosis.operating_point import variance_explained
from unplateau.diagnosis.predictions import Saved, answers_given
from unplateau.errors import UnplateauError
from unplateau.extractors.catalogue import build_extractor
from unplateau.extractors.teachers import loaded_by
from unplateau.files import plain, writable_folder, write_json
from unplateau.measures.curves import ADVICE, read_curve
from unplateau.progress import Told
from unplateau.report import write_comparison, write_report
from unplateau.training.calibrate import calibrate_model, load_ternary
from unplateau.training.halving import suited
from unplateau.training.logs import read_epochs
from unplateau.training.predict import predict_images
from unplateau.training.recipe import Recipe
from unplateau.training.recipes import read_recipe, recipe_name
from unplateau.training.saved import load_model
from unplateau.training.tiling import Inference
from unplateau.training.train import LOG, build_pieces, save_log, train_model
from unplateau.types import Sample

LOWEST = {
    "size": SMALLEST,
    "steps": 1,
    "seeds": 1,
    "folds": 1,
    "limit": FEWEST,
    "patience": 0,
    "devices": 1,
    "seed": 0,
}
HIGHEST_SEED = 2**30
"""Seeds are multiplied by primes to seed each step, and 64 bits must hold the product."""

SIZE = 112
"""Long side in pixels of the grid that a diagnosis trains on, where none is asked for."""

MIRRORED = ("horizontal",)
"""The flips that training shows, and so those that may be asked for."""

DIAGNOSIS, REPORT, CACHE = "diagnosis.json", "report.html", "fits"
COMPARISON, TABLE = "compare.json", "compare.md"

RecipeSaid = str | Path | Mapping[str, Any] | Recipe
"""A recipe, or how a person says one."""


def diagnose(
    data: str | Path | Iterable[Sample],
    *,
    positive: Sequence[int] | None = None,
    extractor: str | Path | None = None,
    model: str | Path | None = None,
    out: str | Path = "runs/diagnosis",
    baseline: str = "unet",
    size: int | None = None,
    steps: int = RECIPE.steps,
    folds: int = 3,
    limit: int | None = 600,
    thorough: bool = False,
    seed: int = 0,
    colours: Mapping[tuple[int, int, int], int] | None = None,
    told: Told | None = None,
    predictions: str | Path | None = None,
    threshold: float = 0.5,
    reported: float | None = None,
    log: str | Path | None = None,
) -> dict[str, Any]:
    """Say why the IoU stopped and what each remedy would gain; write `diagnosis.json` and `report.html` to `out`.

    Args:
        data: a folder with `images/` and `masks/`, or any iterable of samples.
        positive: class ids that make the positive class; None = multi-class, or 1 when the masks hold 0 and 1.
        extractor: a pretrained candidate, by timm name or as a file; measured frozen against training from scratch.
        model: a folder written by `train`: the model whose ceiling is in question, which is then not trained again but
            scored where it was scored; `baseline`, `size`, `folds` and `limit` then do not matter.
        out: where the results go. What an interrupted run finished is there and is not computed again.
        baseline: the extractor whose ceiling is in question, trained from scratch: "unet", "reach-33", any timm name.
        size: long side of the working grid in pixels; None = 112, and for `predictions` as large as the images are.
        steps: optimiser steps of each training.
        folds: how often everything is trained, each time with another seed and another part held out.
        limit: at most so many images take part, spread over the groups; None = all.
        thorough: measure everything, also when what comes first is clear before.
        seed: the same seed gives the same diagnosis.
        colours: class id of each RGB colour, for masks saved as colours.
        told: called after each training with how many are done, of how many, and the name of the last.
        predictions: a folder with a probability map for each image to score, by stem: .npy, .npz, 8- or 16-bit PNG.
            They are diagnosed in the place of a model, and nothing is trained.
        threshold: at which `predictions` of one class are decided so far.
        reported: the IoU that `predictions` are said to have; None = not said.
        log: the log of the training that made `predictions`, as `curve` reads it; None = not at hand.

    Returns:
        The content of `diagnosis.json`.

    Raises:
        DataError: the data break a rule.
        PieceError: no such extractor, or a checkpoint that does not fit.
        OutputError: `out` cannot be written.
    """
    start = time.perf_counter()
    # A single step has a single evaluation, which has no course to look at.
    _refuse_numbers({"size": size, "steps": steps, "folds": folds, "limit": limit, "seed": seed}, LOWEST | {"steps": 2})
    if log is not None and predictions is None:
        raise UnplateauError(
            "`log` goes with `predictions`, and none were given. Give them, or ask `curve` of the log."
        )
    if predictions is not None:
        _refuse_shares({"threshold": threshold, "reported": reported}, {"extractor": extractor, "model": model})
    build_extractor(baseline)
    if extractor:
        build_extractor(extractor, pretrained=True)
    given = load_given(Path(model)) if model else None
    folder = writable_folder(Path(out))
    source = open_data(data, colours=colours)
    candidate = str(extractor) if extractor else None
    order = Order(candidate, replace(RECIPE, steps=steps), seed, folder / CACHE, told or _silent, thorough)
    if predictions is not None:
        epochs = read_epochs(Path(log)).epochs if log else ()
        said = Saved(Path(predictions), threshold, math.nan if reported is None else reported, epochs)
        run, faults = answers_given(source, said, positive=positive, size=size, limit=limit, seed=seed)
    elif given is None:
        pictures = read_pictures(source, positive=positive, size=size or SIZE, limit=limit, seed=seed)
        run, faults = train_all(source, pictures, order, baseline=baseline, folds=folds)
    else:
        asked = positive or given.saved.task.positive or None
        pictures = read_pictures(source, positive=asked, size=max(given.saved.size), seed=seed)
        run, faults = train_given(source, pictures, order, given)
    measured = measure_all(run, faults)
    worst = draw_worst(run, folder)
    path = str(data) if isinstance(data, (str, Path)) else "samples"
    seconds = time.perf_counter() - start
    content = document(run, measured, worst, path=path, version=VERSION, seconds=seconds)
    write_json(folder / DIAGNOSIS, content)
    write_report(folder / DIAGNOSIS, folder / REPORT)
    return content


def curve(
    log: str | Path, *, columns: Mapping[str, str] | None = None, out: str | Path | None = None
) -> dict[str, Any]:
    """Say what the training curve of a log from elsewhere does: still rising, converged, overfitting, diverging, or
    moved by its threshold alone.

    Args:
        log: a CSV or JSON file, TensorBoard events, an MLflow run, or the folder that holds one of these.
        columns: the column of a number where the usual names do not find it, as {"iou": "val/jac"}; the numbers are
            the fields of `types.Epoch`.
        out: a folder to which the log is written as `train` writes its own (`log.csv`); None = nowhere.

    Returns:
        `type`, `advice`, `evaluations`, `rise` (change of the IoU over the last third), `wobble` (of the IoU at 0.5
        from one evaluation to the next), `settled_wobble` (at the best threshold), `best`, `best_step`, `explained` and
        `by_coverage` (shares of the wobble that threshold and coverage explain), `columns` and `notes`. nan where the
        log does not tell.

    Raises:
        DataError: no log there, no validation IoU in it, or words among its numbers.
        MissingExtra: TensorBoard events without the package `tensorboard`.
        OutputError: `out` cannot be written.
    """
    read = read_epochs(Path(log), columns)
    reading = read_curve(read.epochs)
    explained, by_coverage = variance_explained([read.epochs])
    if out is not None:
        save_log(read.epochs, writable_folder(Path(out)) / LOG)
    return {
        **vars(reading),
        "type": reading.type.value,
        "advice": ADVICE[reading.type],
        "explained": explained,
        "by_coverage": by_coverage,
        "columns": read.columns,
        "notes": read.notes,
    }


def train(
    data: str | Path | Iterable[Sample],
    *,
    task: str = "mask",
    positive: Sequence[int] | None = None,
    extractor: str | Path = "unet",
    decoder: str | None = None,
    out: str | Path = "runs/model",
    frozen: bool = False,
    size: int = 128,
    recipe: RecipeSaid | None = None,
    loss: str | None = None,
    steps: int | None = None,
    class_weights: str | tuple[float, ...] | None = None,
    patience: int | None = None,
    devices: int = 1,
    seed: int = 0,
    colours: Mapping[tuple[int, int, int], int] | None = None,
    progress: bool = False,
) -> dict[str, float]:
    """Train one model; write it with its log to `out`, and go on where an interrupted call stopped.

    Args:
        data, positive, size, seed, colours: as in `diagnose`; what `data` must hold depends on the task.
        task: "mask"; "multi-label", masks that may overlap, from masks/CLASS/NAME.png; "label", classes of the whole
            image, from labels.csv (stem,label) or, without it, from the classes in each mask; "boxes", from COCO's
            instances.json or, without it, around the connected parts of the masks.
        extractor: "unet", "reach-33", any timm name, or a checkpoint file.
        decoder: "linear", "conv", "unet" or "fpn" for masks, "label", "boxes"; None = the first for the task.
        out: where model, log and state go.
        frozen: train the decoder only.
        recipe: a file of TOML or JSON whose keys are the fields of `Recipe`, or such fields as words:
            "learning_rate=1e-3, batch=8, positive_rate=0.33, hard_pixels=0.25, ema=0.99, layer_decay=0.8,
            frozen_steps=50, accumulate=2". The arguments below have the last word; None leaves it to the recipe. One
            that says no `half_size` begins at half size only where the masks can still be told there.
        loss: the terms and their weights, such as "ce + 0.5*dice"; "ce + dice" by default.
        steps: optimiser steps; 400 by default.
        class_weights: "none" (the default), "auto", "effective", or a factor for each output, "1,5".
        patience: stop after so many evaluations without a better one; 0 (the default) = never.
        devices: processes that share every batch, one on each GPU or else on the CPU; the model is that of one process,
            but for rounding.
        progress: show a bar.

    Returns:
        Scores on images that chose nothing. Masks: `iou`, `iou_at_half`, and the `threshold` chosen on inner images;
        `iou of CLASS` where classes may overlap. Labels: `accuracy`, `commonest` (the accuracy of always giving the
        commonest answer), `average_precision`. Boxes: `ap50` and `map` as COCO defines them.

    Raises:
        UnplateauError: a recipe that does not exist or makes no sense, or a loss that is no number any more.
        DataError, PieceError, OutputError: as in `diagnose`.
    """
    _refuse_numbers({"size": size, "steps": steps, "patience": patience, "devices": devices, "seed": seed})
    said = {"loss": loss, "steps": steps, "class_weights": class_weights, "patience": patience}
    _ordered(recipe, said)  # whatever is wrong with it is said before any image is read
    refuse_kind(task)
    named = first_decoder(task) if decoder is None else decoder
    build_pieces(str(extractor), named, 1, frozen=frozen, seed=seed, kind=task)
    folder = writable_folder(Path(out))
    pictures = read_task(data, task, positive=positive, size=size, seed=seed, colours=colours)
    return train_model(
        pictures,
        extractor=str(extractor),
        decoder=named,
        frozen=frozen,
        recipe=_ordered(recipe, said, suited(pictures)),
        seed=seed,
        folder=folder,
        devices=devices,
        progress=progress,
    )


def compare(
    data: str | Path | Iterable[Sample],
    recipes: Sequence[str | Path] | Mapping[str, RecipeSaid],
    *,
    positive: Sequence[int] | None = None,
    extractor: str | Path = "unet",
    decoder: str = "linear",
    out: str | Path = "runs/compare",
    frozen: bool = False,
    size: int = 112,
    steps: int = 230,
    seeds: int = 3,
    folds: int = 3,
    limit: int | None = 600,
    seed: int = 0,
    colours: Mapping[tuple[int, int, int], int] | None = None,
    told: Told | None = None,
) -> dict[str, Any]:
    """Train recipes on the same folds and seeds and say which differences are real; `compare.json`, `compare.md`.

    Args:
        data, positive, size, limit, seed, colours, told: as in `diagnose`.
        recipes: at least two, each as in `train` or "baseline", the default one; the others are measured against the
            first. A mapping gives them names.
        extractor, decoder, frozen: the pieces, as in `train`.
        out: where the results go. What an interrupted run finished is there and is not computed again.
        steps: optimiser steps of a recipe that does not say.
        seeds: how often each recipe is trained on each fold.
        folds: parts of the data that report in turn.

    Returns:
        The content of `compare.json`: for each recipe its IoU on images that chose nothing, its gain over the first
        recipe with a 90 % interval, the p that Holm's correction leaves, and "better", "worse" or "cannot tell".

    Raises:
        UnplateauError: fewer than two recipes, or one that does not exist or makes no sense.
        DataError, PieceError, OutputError: as in `diagnose`.
    """
    numbers = {"size": size, "steps": steps, "seeds": seeds, "folds": folds, "limit": limit, "seed": seed}
    _refuse_numbers(numbers)
    _recipes(recipes, Recipe(steps=steps))
    build_pieces(str(extractor), decoder, 1, frozen=frozen, seed=seed)
    folder = writable_folder(Path(out))
    pictures = read_pictures(open_data(data, colours=colours), positive=positive, size=size, limit=limit, seed=seed)
    read = _recipes(recipes, replace(suited(pictures), steps=steps))
    contest = Contest(read, str(extractor), decoder, frozen, seeds, folds, seed)
    comparison = run_contest(contest, pictures, folder / CACHE, told or _silent)
    path = str(data) if isinstance(data, (str, Path)) else "samples"
    content: dict[str, Any] = plain(comparison_document(comparison, contest, pictures, path))
    write_json(folder / COMPARISON, content)
    write_comparison(content, folder / TABLE)
    return content


def loaded(extractor: str | Path) -> str:
    """What a teacher's checkpoint gives the extractor "timm/NAME@FILE", in one line; "" for any other extractor.

    Raises:
        PieceError: the file does not fit the network.
    """
    found = loaded_by(str(extractor))
    return f"{extractor}: {found}." if found else ""


def calibrate(
    model: str | Path,
    data: str | Path | Iterable[Sample],
    *,
    missed: float = 0.05,
    spurious: float = 0.05,
    colours: Mapping[tuple[int, int, int], int] | None = None,
) -> dict[str, Any]:
    """Find from when on a model may say P, until when not-P, and leave the rest unknown; keep it beside the model.

    Args:
        model: a folder written by `train`.
        data: what it was trained on: the images that chose nothing there calibrate.
        missed: tolerated share of the true pixels of an image that are declared not-P, on average over new images.
        spurious: the same of other pixels declared P.
        colours: as in `diagnose`.

    Returns:
        `alpha` (P from there on), `beta` (not-P below), `missed`, `spurious` and `unknown` on the calibration images.

    Raises:
        UnplateauError: too few images or groups for these tolerances.
        PieceError, DataError, OutputError: as in `diagnose`.
    """
    folder = Path(model)
    source = open_data(data, colours=colours)
    ternary, done = calibrate_model(load_model(folder), source, folder, missed=missed, spurious=spurious)
    thresholds = {"alpha": ternary.alpha.threshold, "beta": ternary.beta.threshold}
    return {**thresholds, "missed": done.missed, "spurious": done.spurious, "unknown": done.unknown}


def predict(
    model: str | Path,
    images: str | Path,
    *,
    out: str | Path = "runs/masks",
    ternary: bool = False,
    tile: int = 0,
    flips: bool = False,
) -> list[Path]:
    """Write what a model says of every image of a folder, in the form of the data that it was trained on.

    Masks have the class ids of the training masks and the image's own size; multi-label masks are masks/CLASS/NAME.png;
    labels are labels.csv, boxes COCO's instances.json.

    Args:
        model: a folder written by `train`.
        images: a folder of images, or one image.
        out: where `masks/` and, for binary and multi-label masks, `scores/` go, or the table.
        ternary: also write `ternary/`, 0 not-P, 1 P, 2 unknown, by a model that `calibrate` has seen.
        tile: answer images in overlapping tiles of so many of their pixels a side, at the scale of the training images,
            which suits images that are larger than those; 0 = the whole image at once, at the size of the training.
        flips: average the scores with those of the mirrored image.

    Returns:
        The paths of the masks, or of the table.

    Raises:
        PieceError: no model there, a damaged one, or one that cannot be asked so.
        DataError: no images, or one that cannot be read; masks written before it stay.
        OutputError: `out` cannot be written.
    """
    if tile < 0:
        raise UnplateauError(f"`tile` must be at least 0; got {tile}. Give pixels, or 0 for the whole image.")
    saved = load_model(Path(model))
    found = list_images(Path(images))
    decision = load_ternary(Path(model)) if ternary else None
    inference = Inference(tile=(tile, tile) if tile else None, flips=MIRRORED if flips else ())
    asked = inference if tile or flips else None
    return list(predict_images(saved, found, writable_folder(Path(out)), decision, asked))


def report(diagnosis: str | Path, *, out: str | Path | None = None) -> Path:
    """Draw the page of a saved diagnosis again.

    Args:
        diagnosis: a `diagnosis.json`, or the folder that holds it.
        out: where the page goes; None = `report.html` beside the diagnosis.

    Raises:
        DataError: no diagnosis there, or a damaged one.
        OutputError: `out` cannot be written.
    """
    return write_report(Path(diagnosis), Path(out) if out else None)


def _ordered(recipe: RecipeSaid | None, arguments: Mapping[str, Any], base: Recipe | None = None) -> Recipe:
    """The recipe with the last word given to the arguments; those that are None say nothing."""
    given = {name: value for name, value in arguments.items() if value is not None}
    return read_recipe(given, read_recipe(recipe, base))


def _recipes(said: Sequence[str | Path] | Mapping[str, RecipeSaid], base: Recipe) -> dict[str, Recipe]:
    """Every recipe by its name."""
    named = said if isinstance(said, Mapping) else {recipe_name(each): each for each in said}
    if len(named) < len(said):
        raise UnplateauError(f"`recipes` must have names that differ; got {', '.join(map(str, said))}. Rename a file.")
    if len(named) < 2:
        raise UnplateauError(
            f"`recipes` must be at least two, the first of which the others are measured against; got {len(named)}. "
            "Put 'baseline' first to compare with the default recipe."
        )
    return {name: read_recipe(each, base) for name, each in named.items()}


def _refuse_numbers(given: Mapping[str, int | None], lowest: Mapping[str, int] = LOWEST) -> None:
    """Refuse what no data could make sense of, before anything is read."""
    for name, number in given.items():
        if number is not None and number < lowest[name]:
            raise UnplateauError(f"`{name}` must be at least {lowest[name]}; got {number}. Give a larger number.")
    if (given["seed"] or 0) > HIGHEST_SEED:
        raise UnplateauError(f"`seed` must be at most {HIGHEST_SEED}; got {given['seed']}. Give a smaller number.")


def _refuse_shares(given: Mapping[str, float | None], pieces: Mapping[str, str | Path | None]) -> None:
    """Refuse a share that is none, and pieces beside saved answers, which are diagnosed without training."""
    for name, number in given.items():
        if number is not None and not 0 < number < 1:
            raise UnplateauError(f"`{name}` must lie between 0 and 1; got {number:g}. Give a share, not a percentage.")
    for name, piece in pieces.items():
        if piece is not None:
            raise UnplateauError(
                f"`predictions` are diagnosed without training; {name!r} was given too. Leave one of the two out."
            )


def _silent(_done: int, _total: int, _name: str) -> None:
    """Say nothing."""
