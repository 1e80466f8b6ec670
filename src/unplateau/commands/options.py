"""What several commands take, and how they read and show it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console, RenderableType

from unplateau.errors import UnplateauError

Data = Annotated[Path, typer.Argument(help="Folder with images/ and masks/, optionally groups.csv.")]
Positive = Annotated[str, typer.Option(help="Class ids that make the positive class, such as 8 or 3,4.")]
Out = Annotated[Path, typer.Option(help="Folder for the results.")]
Seed = Annotated[int, typer.Option(help="The same seed gives the same result.")]
Size = Annotated[int, typer.Option(help="Long side of the working grid in pixels.")]
RECIPE = "Recipe"
RECIPE_HELP = (
    "A .toml or .json file of recipe fields, or such fields as words: 'learning_rate=1e-3, batch=8, "
    "positive_rate=0.33, hard_pixels=0.25, ema=0.99, layer_decay=0.8, frozen_steps=50, accumulate=2, keep=last'. "
    "The options below have the last word."
)
RECIPES_HELP = "Two or more recipes, each a file or words as for train, or 'baseline'; the first is the reference."
LOSSES = "also focal, tversky, focal-tversky, lovasz, boundary."
PieceOf = Annotated[
    str,
    typer.Option(
        help="'unet', 'reach-33', any timm name, 'pretrained:NAME', a checkpoint file, 'clip/FOLDER', or "
        "'context(reach-33)' and 'fused(unet + FILE)' of these; see the command extractors."
    ),
]


def show(table: RenderableType, name: str, path: Path) -> None:
    """What was found, and where all of it is."""
    console = Console()
    console.print(table)
    console.print(f"{name}: {path}", soft_wrap=True)


def class_ids(listed: str) -> list[int] | None:
    """Class ids from "8" or "3,4"."""
    if not listed:
        return None
    parts = [part.strip() for part in listed.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise UnplateauError(f"`positive` must be class ids such as 8 or 3,4; got {listed!r}. Give whole numbers.")
    return [int(part) for part in parts]
