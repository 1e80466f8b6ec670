"""Build the remedy that a diagnosis names, and hold its gain against the prediction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from unplateau.data.pictures import read_pictures
from unplateau.data.sources import open_data
from unplateau.errors import DataError, UnplateauError
from unplateau.experiments.comparison import Contest, run_contest
from unplateau.experiments.ways import Pieces
from unplateau.files import plain, writable_folder, write_json
from unplateau.progress import Told
from unplateau.reports import load_diagnosis, write_upgrade
from unplateau.reports.saved import Saved, Setup
from unplateau.training.recipes import read_recipe
from unplateau.types import Pictures, Sample
from unplateau.upgrades.building import (
    Foretold,
    fits_together,
    refuse_pieces,
    refuse_remedy,
    upgrade_document,
    ways_to,
)
from unplateau.verbs.arguments import refuse_numbers, silent
from unplateau.verbs.diagnose import DIAGNOSIS

UPGRADED, PAGE, CACHE = "upgrade.json", "upgrade.md", "fits"

BASELINE, UPGRADE = "baseline", "upgrade"


def upgrade(
    data: str | Path | Iterable[Sample],
    *,
    diagnosis: str | Path,
    remedy: str | None = None,
    extractor: str | Path | None = None,
    alone: bool = False,
    force: bool = False,
    out: str | Path = "runs/upgrade",
    seeds: int = 1,
    folds: int | None = None,
    seed: int | None = None,
    colours: Mapping[tuple[int, int, int], int] | None = None,
    told: Told | None = None,
) -> dict[str, Any]:
    """Train the remedy of a diagnosis beside its baseline, paired; `upgrade.json` and `upgrade.md` to `out`.

    Both are trained by the recipe of the diagnosis, with the same decoder unless that is the remedy, on the same folds
    and seeds. A candidate of which nothing is said can be built in two ways: trained in the baseline's place, or frozen
    and fused with the baseline's extractor. Both are trained once a fold, and the images that choose the threshold
    choose between them: the first, unless the fusion, which costs more to use, is surely better there. It takes one
    training a fold more, whatever `seeds`; what is reported has no part in it.

    Args:
        data, colours, told: as in `diagnose`; the data must be those that were diagnosed.
        diagnosis: a `diagnosis.json`, or the folder that holds it.
        remedy: "richer-pretraining", "more-context", "larger-extractor" or "stronger-decoder"; None = the first that
            the diagnosis names.
        extractor: for "richer-pretraining" the candidate, by name or as a file; None = that of the diagnosis. With
            "frozen:" or "trainable:" before it, it is fused so and nothing else is tried.
        alone: the candidate takes the place of the baseline's extractor and nothing else is tried; it stays frozen
            unless "trainable:" stands before it.
        force: train it although the diagnosis does not name it.
        out: where the results go. What an interrupted run finished is there and is not computed again.
        seeds: how often each of the two is trained on each fold.
        folds: parts of the data that report in turn; None = as many as the diagnosis had.
        seed: the same seed gives the same result; None = that of the diagnosis.

    Returns:
        The content of `upgrade.json`: the predicted and the achieved gain with 90 % intervals, whether the one holds
        the other, and both models with their IoU.

    Raises:
        UnplateauError: no such remedy, one that is not of pieces, or one that the diagnosis advises against.
        DataError: no diagnosis there, a damaged one, or one of other data.
        PieceError, OutputError: as in `diagnose`.
    """
    refuse_numbers({"seeds": seeds, "folds": folds, "seed": seed})
    saved, setup = _diagnosed(Path(diagnosis))
    foretold = _foretold(saved, setup, remedy, force=force)
    before = Pieces(saved.baseline.extractor, saved.baseline.decoder, setup.frozen)
    candidate = str(extractor) if extractor else setup.candidate
    *others, last = ways_to(foretold.remedy, before, candidate, alone=alone)
    for each in (before, last):
        refuse_pieces(each)
    after = (*(each for each in others if fits_together(each)), last)
    folder = writable_folder(Path(out))
    own_seed = int(saved.seed) if seed is None else seed
    pictures = _read_again(saved, setup, data, colours)
    recipe = read_recipe(setup.recipe)
    contest = Contest(
        {BASELINE: recipe, UPGRADE: recipe},
        before.extractor,
        before.decoder,
        before.frozen,
        seeds,
        folds or int(setup.folds),
        own_seed,
        {UPGRADE: after},
    )
    comparison = run_contest(contest, pictures, folder / CACHE, told or silent)
    path = str(data) if isinstance(data, (str, Path)) else "samples"
    content: dict[str, Any] = plain(upgrade_document(foretold, contest, comparison, pictures, path))
    write_json(folder / UPGRADED, content)
    write_upgrade(content, folder / PAGE)
    return content


def _diagnosed(path: Path) -> tuple[Saved, Setup]:
    """A diagnosis that trained something, and how."""
    file = path / DIAGNOSIS if path.is_dir() else path
    saved = load_diagnosis(file)
    if saved.setup is None or not saved.setup.folds >= 1 or not saved.seed.isdecimal():
        raise DataError(
            f"{str(file)!r} must say how its baseline was trained (`setup`, `seed`); it does not: nothing was trained, "
            "or an earlier version wrote it. Diagnose the data again."
        )
    return saved, saved.setup


def _foretold(saved: Saved, setup: Setup, remedy: str | None, *, force: bool) -> Foretold:
    """Which remedy is built, and what was predicted of it."""
    listed = [each.name for each in saved.remedies or ()]
    if remedy is None and not listed:
        raise UnplateauError(
            "The diagnosis advises against any upgrade: it names no remedy, for nothing it measured would lift the "
            "IoU. Name one as `remedy` and give `force` to train it anyway."
        )
    name = remedy or listed[0]
    refuse_remedy(name)
    gains = {each.name: each.gain for each in (*saved.considered, *(saved.remedies or ()))}
    if name not in listed and not force:
        said = f"is predicted to gain nothing: {gains[name]:+.3f} IoU" if name in gains else "was not measured"
        raise UnplateauError(
            f"The diagnosis advises against {name!r}: it {said}. It names {', '.join(listed) or 'no remedy'}; give "
            "`force` to train it anyway."
        )
    return Foretold(name, gains.get(name), setup.candidate, name in listed)


def _read_again(
    saved: Saved,
    setup: Setup,
    data: str | Path | Iterable[Sample],
    colours: Mapping[tuple[int, int, int], int] | None,
) -> Pictures:
    """The pictures that were diagnosed.

    Raises:
        DataError: the data break a rule, or are others.
    """
    facts = saved.data
    positive: Sequence[int] | None = [int(each) for each in setup.positive] or None
    size, limit = int(max(facts.size, default=0)), int(facts.images)
    pictures = read_pictures(
        open_data(data, colours=colours), positive=positive, size=size, limit=limit, seed=int(saved.seed)
    )
    found = {
        "images": (len(pictures), limit),
        "groups": (len(set(pictures.groups)), int(facts.groups)),
        "pixels": (pictures.size, tuple(int(side) for side in facts.size)),
        "classes": (pictures.task.names, facts.classes),
    }
    for what, (here, there) in found.items():
        if here != there:
            raise DataError(
                f"`diagnosis` must be of these data; of {what} it had {there}, here are {here}. Give the data that "
                "were diagnosed, or diagnose these."
            )
    strange = [each.name for each in saved.worst if each.name not in pictures.names]
    if strange:
        raise DataError(
            f"`diagnosis` must be of these data; it shows the image {strange[0]!r}, which is not among them. Give the "
            "data that were diagnosed, or diagnose these."
        )
    return pictures
