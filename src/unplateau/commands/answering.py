"""What a trained model says."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from unplateau.commands.options import Data, Out, Seed


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
    masks = "1 mask" if len(written) == 1 else f"{len(written)} masks"
    what = masks if written[0].suffix == ".png" else " and ".join(path.name for path in written)
    typer.echo(f"{what}: {out}")


def demo(out: Out = Path("runs/demo"), seed: Seed = 0) -> None:
    """Tell the whole story on planted scenes: a plateau, its cause, and what lifts it."""
    from unplateau.story import demo as tell

    tell(out=out, seed=seed, console=Console())
