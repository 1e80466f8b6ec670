"""The command line: the verbs of the Python API with the same argument names, and no logic of its own."""

from __future__ import annotations

import math
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from unplateau.errors import UnplateauError
from unplateau.files import why
from unplateau.progress import Bar

app = typer.Typer(
    help="Say why a segmentation's IoU stopped, and what each remedy would gain.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

AGAIN = "What is finished is kept: run the same command again to go on from there."
INTERRUPTED = 128 + signal.SIGINT

Data = Annotated[Path, typer.Argument(help="Folder with images/ and masks/, optionally groups.csv.")]
Positive = Annotated[str, typer.Option(help="Class ids that make the positive class, such as 8 or 3,4.")]
Out = Annotated[Path, typer.Option(help="Folder for the results.")]
Seed = Annotated[int, typer.Option(help="The same seed gives the same result.")]
Size = Annotated[int, typer.Option(help="Long side of the working grid in pixels.")]
PieceOf = Annotated[str, typer.Option(help="'unet', 'reach-33', any timm name, or a checkpoint file.")]


@app.command()
def diagnose(
    data: Data,
    positive: Positive = "",
    extractor: Annotated[str, typer.Option(help="A pretrained candidate: a timm name or a file.")] = "",
    model: Annotated[Path | None, typer.Option(help="Folder written by train: the model that is stuck.")] = None,
    out: Out = Path("runs/diagnosis"),
    baseline: PieceOf = "unet",
    size: Size = 112,
    steps: Annotated[int, typer.Option(help="Optimiser steps of each training.")] = 230,
    folds: Annotated[int, typer.Option(help="How often everything is trained, each time on other images.")] = 3,
    limit: Annotated[int, typer.Option(help="At most so many images take part; 0 = all.")] = 600,
    seed: Seed = 0,
) -> None:
    """Say why the IoU stopped; write diagnosis.json and report.html."""
    ids = _ids(positive)
    from unplateau import api
    from unplateau.report import summary

    with Bar(Console(stderr=True)) as told:
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
            seed=seed,
            told=told,
        )
    console = Console()
    console.print(summary(content))
    console.print(f"Report: {out / api.REPORT}", soft_wrap=True)


@app.command()
def train(
    data: Data,
    positive: Positive = "",
    extractor: PieceOf = "unet",
    decoder: Annotated[str, typer.Option(help="'linear', 'conv', 'unet' or 'fpn'.")] = "linear",
    out: Out = Path("runs/model"),
    frozen: Annotated[bool, typer.Option(help="Train the decoder only.")] = False,
    size: Size = 128,
    steps: Annotated[int, typer.Option(help="Optimiser steps.")] = 400,
    class_weights: Annotated[str, typer.Option(help="'none' or 'auto'.")] = "none",
    patience: Annotated[int, typer.Option(help="Evaluations without a better one before it stops; 0 = never.")] = 0,
    seed: Seed = 0,
) -> None:
    """Train one model; go on where an interrupted run stopped."""
    ids = _ids(positive)
    from unplateau import api

    facts = api.train(
        data,
        positive=ids,
        extractor=extractor,
        decoder=decoder,
        out=out,
        frozen=frozen,
        size=size,
        steps=steps,
        class_weights=class_weights,
        patience=patience,
        seed=seed,
        progress=sys.stderr.isatty(),
    )
    at = f" at threshold {facts['threshold']:.2f}" if math.isfinite(facts["threshold"]) else ""
    typer.echo(f"IoU {facts['iou']:.3f}{at}, on images that chose nothing.")
    typer.echo(f"Model: {out}")


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
) -> None:
    """Write a mask for every image."""
    from unplateau import api

    masks = api.predict(model, images, out=out, ternary=ternary)
    typer.echo(f"{len(masks)} masks: {out}")


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
        code = app(args=argv, standalone_mode=False)
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
