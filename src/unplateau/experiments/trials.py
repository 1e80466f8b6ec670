"""Remedies that are tried for real: the model in question trained once more with one thing changed."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from unplateau.training.losses import parse_loss
from unplateau.training.recipe import Recipe

LARGER = {
    "resnet18": "resnet34",
    "resnet34": "resnet50",
    "convnext_atto": "convnext_tiny",
    "mobilenetv3_small_100": "resnet18",
}
"""The next size of networks that come in sizes."""

OVERLAP = ("dice", "tversky", "focal-tversky", "lovasz")
"""Terms of a loss that measure overlap, in which a rare class weighs as much as a common one."""

LONGER, FINER = "train-longer", "finer-resolution"
"""Remedies whose trial is read by the check that foretells them where they are not tried."""

OF_SIZE = ("larger-extractor", "stronger-decoder")
"""Remedies that make the model larger."""

SHORT = 230
"""Steps of a rung of the ladder, and the least that a longer training takes: twice a run that was cut short is still
cut short."""

LONG = 345
"""Steps from which a run is long: its trials are rehearsed, `SHORT` steps or an eighth of its own, whichever is more,
beside itself trained for as long, and a share of its data is trained on for that share of its steps."""

BRIEF = 40
"""Steps below which no model goes on: a new answer is not learnt in fewer."""

AGAIN = "another seed"
"""What the model in question, trained once more from another seed, is called: what chance alone does to a trial."""

REHEARSAL = "rehearsal"
"""What the control of such trials is called."""

NARROW = 8
"""Channels at full size below which a rung is widened fourfold, else by half: a step that can be seen."""


@dataclass(frozen=True)
class Trial:
    """One change: the remedy's name, the pieces and the recipe to train with, and the time beside the baseline's.

    `view` is "image", or "finer" for the same images on twice the grid.
    """

    remedy: str
    extractor: str
    decoder: str
    recipe: Recipe
    cost: float = 1.0
    view: str = "image"

    @property
    def name(self) -> str:
        """What its fits are called."""
        return f"trial {self.remedy}"

    @property
    def again(self) -> str:
        """What its fits from another seed are called."""
        return f"{self.name} again"


def make_trials(
    extractor: str, decoder: str, reach: float, recipe: Recipe, *, frozen: bool, whole: bool = True
) -> tuple[Trial, ...]:
    """Every remedy that changes these pieces or this recipe at all.

    `whole`: the recipe is that of the run itself, which is also trained for longer. A half of it would not foretell
    what comes after a plateau; what is rehearsed is too long for that.
    """
    trials = [Trial("rebalance", extractor, decoder, rebalanced(recipe))]
    if recipe == trials[0].recipe:
        trials = []
    trials.append(Trial("stronger-decoder", *stronger(extractor, decoder), recipe))
    if not frozen and (next_size := larger(extractor)):
        trials.append(Trial("larger-extractor", next_size, decoder, recipe, cost=2.0))
    if math.isfinite(reach):
        trials.append(Trial("more-context", "unet", decoder, recipe))
    if whole:
        longer = replace(recipe, steps=max(SHORT, 2 * recipe.steps))
        trials.append(Trial(LONGER, extractor, decoder, longer, cost=longer.steps / recipe.steps))
    return tuple(trials)


def rehearsed(recipe: Recipe) -> Recipe:
    """The recipe of a trial: the same, cut short where the run is long."""
    return recipe if recipe.steps < LONG else replace(recipe, steps=max(SHORT, recipe.steps // 8))


def resumed(recipe: Recipe) -> Recipe:
    """The recipe of a model that goes on from its weights after its masks were mended: what it can do it still can."""
    half = max(math.ceil(recipe.steps / 2), min(recipe.steps, BRIEF))
    return replace(recipe, steps=min(half, rehearsed(recipe).steps))


def share_of_steps(steps: int, share: float) -> int:
    """How long to train on a share of the data: as long as on all of it where that is short, else as many times over
    each image, but never less than `LONG`.
    """
    return steps if steps < LONG else max(LONG, round(share * steps))


def on_twice_the_grid(extractor: str, decoder: str, recipe: Recipe) -> Trial:
    """The same pieces and recipe on four times the pixels."""
    return Trial(FINER, extractor, decoder, recipe, cost=4.0, view="finer")


def rebalanced(recipe: Recipe) -> Recipe:
    """The recipe with the rare class given its due: weights by frequency, and the overlap in the loss."""
    weights = "auto" if recipe.class_weights == "none" else recipe.class_weights
    loss = recipe.loss if parse_loss(recipe.loss).keys() & set(OVERLAP) else f"{recipe.loss} + dice"
    return replace(recipe, loss=loss, class_weights=weights)


def stronger(extractor: str, decoder: str) -> tuple[str, str]:
    """The pieces with a decoder that can do more: skips from finer maps where there are some, else convolutions."""
    network, _, level = extractor.partition(":")
    if extractor.startswith("timm/") and level.isdecimal() and int(level) > 0:
        return f"{network}:{','.join(map(str, range(int(level) + 1)))}", "unet"
    return extractor, "unet" if decoder == "conv" else "conv"


def larger(extractor: str) -> str | None:
    """The same kind of extractor in the next size; None where there is no such name."""
    kind, *parts = extractor.split("-")
    if kind in ("unet", "reach") and all(part.isdecimal() for part in parts):
        fixed = 1 if kind == "reach" else 0
        width = int(parts[fixed]) if len(parts) > fixed else 16
        return "-".join([kind, *parts[:fixed], str(4 * width if width < NARROW else width + width // 2)])
    network, colon, levels = extractor.removeprefix("timm/").partition(":")
    if network not in LARGER:
        return None
    prefix = "timm/" if extractor.startswith("timm/") else ""
    return f"{prefix}{LARGER[network]}{colon}{levels}"
