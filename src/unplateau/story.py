"""The story on planted scenes: a recipe that works on one task and stalls on the next, why, and what lifts it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from unplateau import api
from unplateau.data.pictures import read_pictures
from unplateau.data.sources import open_data
from unplateau.data.splits import split
from unplateau.experiments.fits import Fit, Fitted, run_fits
from unplateau.experiments.run import decided
from unplateau.files import writable_folder
from unplateau.measures.thresholds import mean_iou
from unplateau.progress import Bar
from unplateau.reports.summary import summary
from unplateau.scenes import scenes, write_folder
from unplateau.training.recipe import Recipe
from unplateau.types import Pictures

SCENES, SIDE, STEPS, FOLDS = 200, 80, 240, 2
LOCAL = "reach-27"
"""The story's extractor: strong on colour, texture and shape, and blind beyond an object's surroundings."""

RECIPE = Recipe(steps=STEPS, half_size=0.0, evaluations=8)
INTERVENTIONS = {
    "the recipe": RECIPE,
    "class weights": replace(RECIPE, class_weights="auto"),
    "cross-entropy alone": replace(RECIPE, loss="ce"),
    "three times the Dice": replace(RECIPE, loss="ce + 3*dice"),
    "positive-rich crops": replace(RECIPE, crop=(48, 48)),
    "twice as long": replace(RECIPE, steps=2 * STEPS),
}
"""What the story's team tried, each a change of the recipe and of nothing else."""


def demo(*, out: str | Path = "runs/demo", seed: int = 0, console: Console | None = None) -> Path:
    """Tell the story of the plateau on scenes whose truth is planted; returns the report's path.

    Raises:
        OutputError: `out` cannot be written.
    """
    folder, say = writable_folder(Path(out)), console or Console()
    fire, hard = _planted("fire", folder, seed), _planted("context", folder, seed)

    say.rule("1. One recipe, two tasks")
    tried = _try_everything(fire, hard, folder, seed, say)
    say.print(_tried_table(tried))
    plateau = tried["the recipe"]
    say.print(
        f"On the fire-like task the recipe works: IoU {tried['fire']:.2f}. On the next one it stops at {plateau:.2f}, "
        "whatever is tried.\n"
    )

    say.rule("2. Why it stopped")
    with Bar(say) as told:
        diagnosis = api.diagnose(
            folder / "context",
            positive=[1],
            baseline=LOCAL,
            out=folder / "diagnosis",
            size=SIDE,
            steps=STEPS,
            folds=FOLDS,
            seed=seed,
            told=told,
        )
    say.print(summary(diagnosis))

    say.rule("3. The better extractor, the same decoder")
    lifted = api.train(folder / "context", positive=[1], extractor="unet", out=folder / "model", size=SIDE, seed=seed)
    first = diagnosis["remedies"][0] if diagnosis["remedies"] else None
    promised = f" The diagnosis had predicted {first['name']} to add {first['gain']['mean']:+.2f}." if first else ""
    say.print(f"From {plateau:.2f} to IoU {lifted['iou']:.2f}, on images that chose nothing.{promised}\n")
    page = folder / "diagnosis" / api.REPORT
    say.print(f"Report: {escape(str(page))}", soft_wrap=True)
    return page


def _planted(kind: str, folder: Path, seed: int) -> Pictures:
    """Scenes of a kind, written as a data set like any other and read back through the door."""
    write_folder(scenes(kind, SCENES, size=(SIDE, SIDE), seed=seed), folder / kind)
    return read_pictures(open_data(folder / kind), positive=[1], size=SIDE, seed=seed)


def _try_everything(fire: Pictures, hard: Pictures, folder: Path, seed: int, console: Console) -> dict[str, float]:
    """IoU of the recipe on the easy task ("fire"), and of each intervention on the hard one."""
    fits = [_fit("fire", "fire", fire, RECIPE, seed)]
    fits += [_fit(name, "context", hard, recipe, seed) for name, recipe in INTERVENTIONS.items()]
    with Bar(console) as told:
        outcomes = run_fits(fits, {"fire": fire, "context": hard}, folder / "tried", told)
    return {fit.name: _iou(outcome) for fit, outcome in zip(fits, outcomes, strict=True)}


def _fit(name: str, view: str, pictures: Pictures, recipe: Recipe, seed: int) -> Fit:
    fold = split(pictures, folds=FOLDS, seed=seed)[0]
    cost = recipe.steps / STEPS
    return Fit(name, LOCAL, "linear", False, False, view, 0, fold, recipe, seed, cost)


def _iou(outcome: Fitted) -> float:
    return mean_iou(decided(outcome))


def _tried_table(tried: dict[str, float]) -> Table:
    table = Table("task", "what was tried", "IoU", box=None)
    table.add_row("fire", "the recipe", f"{tried['fire']:.2f}")
    for name in INTERVENTIONS:
        table.add_row("context", name, f"{tried[name]:.2f}")
    return table
