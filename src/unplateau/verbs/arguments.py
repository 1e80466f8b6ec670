"""What is wrong with the arguments of a verb, said before anything is read."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unplateau.data.checks import FEWEST
from unplateau.data.grid import SMALLEST
from unplateau.errors import Doubt, UnplateauError
from unplateau.training.recipe import Recipe
from unplateau.training.recipes import read_recipe, recipe_name
from unplateau.types import Pictures

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

RecipeSaid = str | Path | Mapping[str, Any] | Recipe
"""A recipe, or how a person says one."""


def ordered(recipe: RecipeSaid | None, arguments: Mapping[str, Any], base: Recipe | None = None) -> Recipe:
    """The recipe with the last word given to the arguments; those that are None say nothing."""
    given = {name: value for name, value in arguments.items() if value is not None}
    return read_recipe(given, read_recipe(recipe, base))


def named_recipes(said: Sequence[str | Path] | Mapping[str, RecipeSaid], base: Recipe) -> dict[str, Recipe]:
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


def refuse_numbers(given: Mapping[str, int | None], lowest: Mapping[str, int] = LOWEST) -> None:
    """Refuse what no data could make sense of, before anything is read."""
    for name, number in given.items():
        if number is not None and number < lowest[name]:
            raise UnplateauError(f"`{name}` must be at least {lowest[name]}; got {number}. Give a larger number.")
    if (given["seed"] or 0) > HIGHEST_SEED:
        raise UnplateauError(f"`seed` must be at most {HIGHEST_SEED}; got {given['seed']}. Give a smaller number.")


def refuse_shares(given: Mapping[str, float | None], pieces: Mapping[str, str | Path | None]) -> None:
    """Refuse a share that is none, and pieces beside saved answers, which are diagnosed without training."""
    for name, number in given.items():
        if number is not None and not 0 < number < 1:
            raise UnplateauError(f"`{name}` must lie between 0 and 1; got {number:g}. Give a share, not a percentage.")
    for name, piece in pieces.items():
        if piece is not None:
            raise UnplateauError(
                f"`predictions` are diagnosed without training; {name!r} was given too. Leave one of the two out."
            )


def refuse_alone(given: Mapping[str, object]) -> None:
    """Refuse what tells of saved answers where none were given: it would change nothing."""
    for name, value in given.items():
        if value is not None:
            step = "ask `curve` of the log" if name == "log" else "leave it out"
            raise UnplateauError(f"`{name}` goes with `predictions`, and none were given. Give them, or {step}.")


def doubted(pictures: Pictures) -> Pictures:
    """The same, once it was said what is odd about them: where no report is written nothing else says it."""
    for sentence in pictures.warnings:
        warnings.warn(sentence, Doubt, stacklevel=3)
    return pictures


def silent(_done: int, _total: int, _name: str) -> None:
    """Say nothing."""
