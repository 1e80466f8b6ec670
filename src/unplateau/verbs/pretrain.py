"""Let an extractor learn from images without masks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from unplateau.data.unlabelled import read_unlabelled
from unplateau.extractors.catalogue import build_extractor
from unplateau.files import plain, writable_folder
from unplateau.pretraining.course import EXTRACTOR, Schooling
from unplateau.pretraining.loop import kept_of, pretrain_extractor
from unplateau.pretraining.methods import RATES, refuse_unknown_method
from unplateau.progress import Told
from unplateau.verbs.arguments import refuse_numbers, silent


def pretrain(
    images: str | Path,
    *,
    method: str = "families",
    extractor: str | Path = "families",
    out: str | Path = "runs/pretrained",
    steps: int = Schooling.steps,
    size: int = 128,
    seed: int = 0,
    told: Told | None = None,
) -> dict[str, Any]:
    """Let an extractor learn from images without masks; write it to `out`, and go on where an interrupted call stopped.

    `out/extractor.safetensors` is an extractor for `train` and `diagnose`. It is that of the evaluation with the best
    dense quality, measured without labels on images that were held out, as longer pretraining can make dense features
    worse; `out/series.json` has all evaluations.

    Args:
        images: a folder of images, or one with `images/`; masks are not looked at.
        method: "families" (what surrounds a cell, told from that cell, with a term for each family), "dense" (one pixel
            in two crops against all others), "dino" (a student agrees with its own average across crops and masked
            cells) or "simmim" (hidden cells are painted).
        extractor: "families" (a path for each family), "unet", "reach-33", any timm name, or a checkpoint file to go on
            from.
        out: where the extractor, the series and the state go.
        steps: optimiser steps.
        size: long side of the working grid in pixels.
        seed: the same seed gives the same extractor.
        told: called after each step with how many are done, of how many, and which.

    Returns:
        `extractor` (the file), `kept_step`, its `score`, and the `series` of evaluations, the random start first.

    Raises:
        UnplateauError: no such method, a loss that is no longer finite, or embeddings that have collapsed.
        DataError, PieceError, OutputError: as in `diagnose`.
    """
    refuse_numbers({"size": size, "steps": steps, "seed": seed})
    refuse_unknown_method(method)
    build_extractor(str(extractor))
    folder = writable_folder(Path(out))
    pool = read_unlabelled(Path(images), size=size, seed=seed)
    schooling = Schooling(method, steps, learning_rate=RATES[method])
    series = pretrain_extractor(
        pool, extractor=str(extractor), schooling=schooling, seed=seed, folder=folder, told=told or silent
    )
    kept = kept_of(series)
    file = str(folder / EXTRACTOR)
    return {"extractor": file, "kept_step": kept.step, "score": kept.score, "series": plain(series)}
