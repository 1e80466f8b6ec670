"""Train one model, or several recipes beside each other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from unplateau.data.kinds import read_task, refuse_kind
from unplateau.data.pictures import read_pictures
from unplateau.data.sources import open_data
from unplateau.decoders.catalogue import first_decoder
from unplateau.experiments.comparison import Contest, comparison_document, run_contest
from unplateau.extractors.teachers import loaded_by
from unplateau.files import plain, writable_folder, write_json
from unplateau.progress import Told
from unplateau.reports import write_comparison
from unplateau.training.halving import suited
from unplateau.training.recipe import Recipe
from unplateau.training.train import build_pieces, train_model
from unplateau.types import Sample
from unplateau.verbs.arguments import RecipeSaid, doubted, named_recipes, ordered, refuse_numbers, silent

COMPARISON, TABLE, CACHE = "compare.json", "compare.md", "fits"


def train(
    data: str | Path | Iterable[Sample],
    *,
    task: str = "mask",
    positive: Sequence[int] | None = None,
    extractor: str | Path = "unet",
    decoder: str | None = None,
    teacher: str | Path | None = None,
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
        extractor: "unet", "families" (its gates for this task are written to model.json), "reach-33", any timm name, a
            checkpoint file, a language-aligned model as "clip/FOLDER", or "context(reach-33)" and "fused(unet + FILE)"
            of these.
        decoder: "linear", "conv", "unet" or "fpn" for masks, or "queries(person, background)", words that a
            language-aligned extractor knows; "label", "boxes"; None = the first for the task.
        teacher: a folder that `train` wrote for the same task: what that model answers is imitated beside the masks.
        out: where model, log and state go.
        frozen: train the decoder only.
        recipe: a file of TOML or JSON whose keys are the fields of `Recipe`, or such fields as words:
            "learning_rate=1e-3, batch=8, positive_rate=0.33, hard_pixels=0.25, ema=0.99, layer_decay=0.8,
            frozen_steps=50, accumulate=2, keep=last". The arguments below have the last word; None leaves it to the
            recipe. One that says no `half_size` begins at half size only where the masks can still be told there.
        loss: the terms and their weights, such as "ce + 0.5*dice"; "ce + dice" by default.
        steps: optimiser steps; 400 by default.
        class_weights: "none" (the default), "auto", "effective", or a factor for each output, "1,5".
        patience: stop after so many evaluations without a better one; 0 (the default) = never.
        devices: processes that share every batch, one on each GPU or else on the CPU; the model is that of one process,
            but for rounding.
        progress: show a bar.

    Returns:
        Scores on images that chose nothing. Masks: `iou`, `iou_at_half`, and the `threshold` chosen on inner images;
        `iou of CLASS` where classes may overlap. Where masks came at another size than the grid, `threshold` is for
        that size, as `predict` writes them, and `native_iou` is the IoU there; the others are of the grid, at its own
        `grid_threshold`. Labels: `accuracy`, `commonest` (the accuracy of always giving the
        commonest answer), `average_precision`. Boxes: `ap50` and `map` as COCO defines them.

    Raises:
        UnplateauError: a recipe that does not exist or makes no sense, or a loss that is no number any more.
        DataError, PieceError, OutputError: as in `diagnose`.
    """
    refuse_numbers({"size": size, "steps": steps, "patience": patience, "devices": devices, "seed": seed})
    said = {"loss": loss, "steps": steps, "class_weights": class_weights, "patience": patience}
    ordered(recipe, said)  # whatever is wrong with it is said before any image is read
    refuse_kind(task)
    named = first_decoder(task) if decoder is None else decoder
    build_pieces(str(extractor), named, 1, frozen=frozen, seed=seed, kind=task)
    folder = writable_folder(Path(out))
    pictures = doubted(read_task(data, task, positive=positive, size=size, seed=seed, colours=colours))
    return train_model(
        pictures,
        extractor=str(extractor),
        decoder=named,
        frozen=frozen,
        recipe=ordered(recipe, said, suited(pictures)),
        seed=seed,
        folder=folder,
        teacher=None if teacher is None else Path(teacher),
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
    refuse_numbers(numbers)
    named_recipes(recipes, Recipe(steps=steps))
    build_pieces(str(extractor), decoder, 1, frozen=frozen, seed=seed)
    folder = writable_folder(Path(out))
    source = open_data(data, colours=colours)
    pictures = doubted(read_pictures(source, positive=positive, size=size, limit=limit, seed=seed))
    read = named_recipes(recipes, replace(suited(pictures), steps=steps))
    contest = Contest(read, str(extractor), decoder, frozen, seeds, folds, seed)
    comparison = run_contest(contest, pictures, folder / CACHE, told or silent)
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
