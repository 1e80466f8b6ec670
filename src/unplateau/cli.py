"""The command line: the verbs of the Python API with the same argument names, and no logic of its own."""

from __future__ import annotations

import signal
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console, RenderableType

from unplateau.errors import UnplateauError
from unplateau.files import why
from unplateau.progress import Bar

app = typer.Typer(
    help="Say why a segmentation's IoU stopped, and what each remedy would gain.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

LISTED = "--recipes"
"""The option that takes as many values as follow it."""

AGAIN = "What is finished is kept: run the same command again to go on from there."
INTERRUPTED = 128 + signal.SIGINT

Data = Annotated[Path, typer.Argument(help="Folder with images/ and masks/, optionally groups.csv.")]
Positive = Annotated[str, typer.Option(help="Class ids that make the positive class, such as 8 or 3,4.")]
Out = Annotated[Path, typer.Option(help="Folder for the results.")]
Seed = Annotated[int, typer.Option(help="The same seed gives the same result.")]
Size = Annotated[int, typer.Option(help="Long side of the working grid in pixels.")]
RECIPE = "Recipe"
RECIPE_HELP = (
    "A .toml or .json file of recipe fields, or such fields as words: 'learning_rate=1e-3, batch=8, "
    "positive_rate=0.33, hard_pixels=0.25, ema=0.99, layer_decay=0.8, frozen_steps=50, accumulate=2'. "
    "The options below have the last word."
)
RECIPES_HELP = "Two or more recipes, each a file or words as for train, or 'baseline'; the first is the reference."
LOSSES = "also focal, tversky, focal-tversky, lovasz, boundary."
PieceOf = Annotated[
    str, typer.Option(help="'unet', 'reach-33', any timm name, a checkpoint file, or 'fused(unet + FILE)' of these.")
]


@app.command()
def diagnose(
    data: Data,
    positive: Positive = "",
    extractor: Annotated[str, typer.Option(help="A pretrained candidate: a timm name or a file.")] = "",
    model: Annotated[Path | None, typer.Option(help="Folder written by train: the model that is stuck.")] = None,
    out: Out = Path("runs/diagnosis"),
    baseline: PieceOf = "unet",
    size: Annotated[int | None, typer.Option(help="Long side of the working grid in pixels.")] = None,
    steps: Annotated[int, typer.Option(help="Optimiser steps of each training.")] = 230,
    folds: Annotated[int, typer.Option(help="How often everything is trained, each time on other images.")] = 3,
    limit: Annotated[int, typer.Option(help="At most so many images take part; 0 = all.")] = 600,
    thorough: Annotated[bool, typer.Option(help="Measure all, also when what comes first is clear.")] = False,
    seed: Seed = 0,
    predictions: Annotated[Path | None, typer.Option(help="Folder of probability maps: no model, no training.")] = None,
    threshold: Annotated[float, typer.Option(help="At which predictions are decided so far.")] = 0.5,
    reported: Annotated[float | None, typer.Option(help="IoU that the predictions are said to have.")] = None,
    log: Annotated[Path | None, typer.Option(help="Log of the training that made the predictions.")] = None,
) -> None:
    """Say why the IoU stopped; write diagnosis.json and report.html."""
    ids = _ids(positive)
    from unplateau import api
    from unplateau.report import summary

    # Nothing is trained on saved predictions, so that no bar has anything to show.
    with nullcontext() if predictions else Bar(Console(stderr=True)) as told:
        content = api.diagnose(
            data,
            positive=ids,
            extractor=extractor or None,
            model=model,
            out=out,
            baseline=baseline,
            size=size,
            steps=steps,
            folds=folds,
            limit=limit or None,
            thorough=thorough,
            seed=seed,
            told=told,
            predictions=predictions,
            threshold=threshold,
            reported=reported,
            log=log,
        )
    _show(summary(content), "Report", out / api.REPORT)


@app.command()
def curve(
    log: Annotated[Path, typer.Argument(help="CSV, JSON, TensorBoard events, an MLflow run, or a folder of these.")],
    columns: Annotated[list[str] | None, typer.Option(help="A number and its column, as iou=val/jac.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the log as train writes its own.")] = None,
) -> None:
    """Say what the training curve of a log from elsewhere does."""
    from unplateau import api
    from unplateau.report import curve_summary

    Console().print(curve_summary(api.curve(log, columns=_columns(columns or []), out=out)), soft_wrap=True)


@app.command()
def train(
    data: Data,
    task: Annotated[str, typer.Option(help="'mask', 'multi-label', 'label' or 'boxes'.")] = "mask",
    positive: Positive = "",
    extractor: PieceOf = "unet",
    decoder: Annotated[str, typer.Option(help="For masks 'linear', 'conv', 'unet' or 'fpn'.")] = "",
    out: Out = Path("runs/model"),
    frozen: Annotated[bool, typer.Option(help="Train the decoder only.")] = False,
    size: Size = 128,
    recipe: Annotated[str | None, typer.Option(help=RECIPE_HELP, rich_help_panel=RECIPE)] = None,
    loss: Annotated[
        str | None,
        typer.Option(help="Such as 'ce + 0.5*dice', its default 'ce + dice'; " + LOSSES, rich_help_panel=RECIPE),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Optimiser steps; 400 by default.", rich_help_panel=RECIPE)] = None,
    class_weights: Annotated[
        str | None,
        typer.Option(help="'none', 'auto', 'effective', or a factor for each output: 1,5.", rich_help_panel=RECIPE),
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option(help="Evaluations without a better one before it stops; 0 = never.", rich_help_panel=RECIPE),
    ] = None,
    devices: Annotated[int, typer.Option(help="Processes that share every batch.")] = 1,
    seed: Seed = 0,
) -> None:
    """Train one model; go on where an interrupted run stopped."""
    ids = _ids(positive)
    from unplateau import api
    from unplateau.report import scores_said

    if said := api.loaded(extractor):
        typer.echo(said)
    facts = api.train(
        data,
        task=task,
        positive=ids,
        extractor=extractor,
        decoder=decoder or None,
        out=out,
        frozen=frozen,
        size=size,
        recipe=recipe,
        loss=loss,
        steps=steps,
        class_weights=class_weights,
        patience=patience,
        devices=devices,
        seed=seed,
        progress=sys.stderr.isatty(),
    )
    typer.echo(f"{scores_said(facts)}, on images that chose nothing.")
    typer.echo(f"Model: {out}")


@app.command()
def compare(
    data: Data,
    recipes: Annotated[list[str], typer.Option(help=RECIPES_HELP)],
    positive: Positive = "",
    extractor: PieceOf = "unet",
    decoder: Annotated[str, typer.Option(help="'linear', 'conv', 'unet' or 'fpn'.")] = "linear",
    out: Out = Path("runs/compare"),
    frozen: Annotated[bool, typer.Option(help="Train the decoder only.")] = False,
    size: Size = 112,
    steps: Annotated[int, typer.Option(help="Optimiser steps of a recipe that does not say.")] = 230,
    seeds: Annotated[int, typer.Option(help="How often each recipe is trained on each fold.")] = 3,
    folds: Annotated[int, typer.Option(help="Parts of the data that report in turn.")] = 3,
    limit: Annotated[int, typer.Option(help="At most so many images take part; 0 = all.")] = 600,
    seed: Seed = 0,
) -> None:
    """Train recipes on the same folds and seeds; say which differences are real."""
    ids = _ids(positive)
    from unplateau import api
    from unplateau.report import comparison_table

    with Bar(Console(stderr=True)) as told:
        content = api.compare(
            data,
            recipes,
            positive=ids,
            extractor=extractor,
            decoder=decoder,
            out=out,
            frozen=frozen,
            size=size,
            steps=steps,
            seeds=seeds,
            folds=folds,
            limit=limit or None,
            seed=seed,
            told=told,
        )
    _show(comparison_table(content), "Table", out / api.TABLE)


@app.command()
def pretrain(
    images: Annotated[Path, typer.Argument(help="Folder of images, or one with images/; masks are not looked at.")],
    method: Annotated[str, typer.Option(help="'dense', 'dino' or 'simmim'.")] = "dense",
    extractor: PieceOf = "unet",
    out: Out = Path("runs/pretrained"),
    steps: Annotated[int, typer.Option(help="Optimiser steps.")] = 400,
    size: Size = 128,
    seed: Seed = 0,
) -> None:
    """Let an extractor learn from images without masks; go on where an interrupted run stopped."""
    from unplateau import api

    with Bar(Console(stderr=True)) as told:
        kept = api.pretrain(
            images, method=method, extractor=extractor, out=out, steps=steps, size=size, seed=seed, told=told
        )
    typer.echo(f"Kept: step {kept['kept_step']} of {steps}, dense quality {kept['score']:.3f}.")
    typer.echo(f"Extractor: {kept['extractor']}")


@app.command()
def upgrade(
    data: Data,
    diagnosis: Annotated[Path, typer.Option("--from", help="diagnosis.json, or the folder that holds it.")],
    remedy: Annotated[str | None, typer.Option(help="Which to build; the first of the diagnosis by default.")] = None,
    extractor: Annotated[str, typer.Option(help="For richer-pretraining: a timm name or a file.")] = "",
    alone: Annotated[bool, typer.Option(help="That extractor alone, not fused with the baseline's.")] = False,
    force: Annotated[bool, typer.Option(help="Train what the diagnosis advises against.")] = False,
    out: Out = Path("runs/upgrade"),
    seeds: Annotated[int, typer.Option(help="How often each model is trained on each fold.")] = 1,
    folds: Annotated[int | None, typer.Option(help="Parts of the data that report in turn.")] = None,
    seed: Annotated[int | None, typer.Option(help="That of the diagnosis by default.")] = None,
) -> None:
    """Build the remedy that a diagnosis names; say what it gained, against what was predicted."""
    from unplateau import api
    from unplateau.report import upgrade_table

    with Bar(Console(stderr=True)) as told:
        content = api.upgrade(
            data,
            diagnosis=diagnosis,
            remedy=remedy,
            extractor=extractor or None,
            alone=alone,
            force=force,
            out=out,
            seeds=seeds,
            folds=folds,
            seed=seed,
            told=told,
        )
    _show(upgrade_table(content), "Page", out / api.PAGE)


@app.command()
def calibrate(
    model: Annotated[Path, typer.Argument(help="Folder written by train.")],
    data: Data,
    missed: Annotated[float, typer.Option(help="Tolerated share of true pixels declared not-P.")] = 0.05,
    spurious: Annotated[float, typer.Option(help="Tolerated share of other pixels declared P.")] = 0.05,
) -> None:
    """Find when a model may say P, when not-P, and when it must leave it open."""
    from unplateau import api

    said = api.calibrate(model, data, missed=missed, spurious=spurious)
    typer.echo(f"P from score {said['alpha']:.3f} on, not-P below {said['beta']:.3f}, unknown between.")
    typer.echo(
        f"On the calibration images: {said['missed']:.3f} of the true pixels not-P, {said['spurious']:.3f} of the "
        f"others P, {said['unknown']:.3f} of all unknown."
    )


@app.command()
def predict(
    model: Annotated[Path, typer.Argument(help="Folder written by train.")],
    images: Annotated[Path, typer.Argument(help="Folder of images, or one image.")],
    out: Out = Path("runs/masks"),
    ternary: Annotated[bool, typer.Option(help="Also write not-P, P, unknown as 0, 1, 2; needs calibrate.")] = False,
    tile: Annotated[
        int, typer.Option(help="Answer in tiles of so many pixels, at the training's scale; 0 = whole.")
    ] = 0,
    flips: Annotated[bool, typer.Option(help="Average with the mirrored image.")] = False,
) -> None:
    """Write a mask for every image, or its label or boxes."""
    from unplateau import api

    written = api.predict(model, images, out=out, ternary=ternary, tile=tile, flips=flips)
    what = "masks" if written[0].suffix == ".png" else " and ".join(path.name for path in written)
    typer.echo(f"{len(written)} masks: {out}" if what == "masks" else f"{what}: {out}")


@app.command()
def report(
    diagnosis: Annotated[Path, typer.Argument(help="diagnosis.json, or the folder that holds it.")],
    out: Annotated[Path | None, typer.Option(help="The page; beside the diagnosis by default.")] = None,
) -> None:
    """Draw the page of a saved diagnosis again."""
    from unplateau import api

    typer.echo(f"Report: {api.report(diagnosis, out=out)}")


@app.command()
def demo(out: Out = Path("runs/demo"), seed: Seed = 0) -> None:
    """Tell the whole story on planted scenes: a plateau, its cause, and what lifts it."""
    from unplateau.demo import demo as tell

    tell(out=out, seed=seed, console=Console())


def main(argv: list[str] | None = None) -> int:
    """Run a command; 0 when done, 2 with one sentence on stderr when the input or the user stopped it."""
    try:
        code = app(args=_one_each(sys.argv[1:] if argv is None else argv), standalone_mode=False)
    except UnplateauError as error:
        return _refuse(str(error))
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except typer.TyperException as error:
        said = error.format_message().rstrip(".")
        # Nothing is said where the help was shown, for want of any argument.
        return _refuse(f"{said}. Add --help to see what there is.") if said else 2
    except MemoryError:
        return _refuse("The images or the model must fit in memory, and did not: lower `size` or `limit`.")
    except OSError as error:
        named = f" on {error.filename!r}" if error.filename else ""
        return _refuse(f"The system must let files be read and written; it said{named}: {why(error)}. {AGAIN}")
    # Typer hands Ctrl-C back as the exit code that a shell would give it.
    return _stop(ends=argv is None) if code == INTERRUPTED else 0


def _show(table: RenderableType, name: str, path: Path) -> None:
    """What was found, and where all of it is."""
    console = Console()
    console.print(table)
    console.print(f"{name}: {path}", soft_wrap=True)


def _one_each(argv: list[str]) -> list[str]:
    """The arguments with "--recipes a b" as "--recipes a --recipes b", which is what the parser can read."""
    spread: list[str] = []
    listing = False
    for each in argv:
        if each.startswith("-"):
            listing = each == LISTED
        elif listing and spread[-1] != LISTED:
            spread.append(LISTED)
        spread.append(each)
    return spread


def _stop(*, ends: bool) -> int:
    """Say that the user stopped it; `ends` when the process is about to end, however often Ctrl-C is pressed."""
    if ends:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    return _refuse(f"Stopped. {AGAIN}")


def _refuse(sentence: str) -> int:
    sys.stderr.write(f"{sentence}\n")
    return 2


def _ids(listed: str) -> list[int] | None:
    """Class ids from "8" or "3,4"."""
    if not listed:
        return None
    parts = [part.strip() for part in listed.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise UnplateauError(f"`positive` must be class ids such as 8 or 3,4; got {listed!r}. Give whole numbers.")
    return [int(part) for part in parts]


def _columns(pairs: list[str]) -> dict[str, str]:
    """Numbers and their columns from words such as "iou=val/jac"."""
    split = [pair.partition("=") for pair in pairs]
    for field, equals, column in split:
        if not (field and equals and column):
            raise UnplateauError(f"`columns` must look like iou=val/jac; got {field + equals!r}. Name both.")
    return {field: column for field, _, column in split}
