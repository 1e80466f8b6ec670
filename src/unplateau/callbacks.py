"""Callbacks that see a plateau live, in trainings of Lightning, of transformers, or of any loop.

`LightningPlateau` and `TransformersPlateau` go into a trainer; `PlateauLog` is what both are made of, for a loop of
one's own: `add` each validation batch, then `record(measured())`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unplateau.training.lightning_plateau import LightningPlateau
    from unplateau.training.plateau import PlateauLog
    from unplateau.training.transformers_plateau import TransformersPlateau

__all__ = ["LightningPlateau", "PlateauLog", "TransformersPlateau"]

_WHERE = {
    "LightningPlateau": "lightning_plateau",
    "PlateauLog": "plateau",
    "TransformersPlateau": "transformers_plateau",
}


def __getattr__(name: str) -> Any:
    """Each on first use: who trains with one library need not load the other."""
    from importlib import import_module

    if name not in _WHERE:
        raise AttributeError(f"module 'unplateau.callbacks' has no attribute {name!r}")
    return getattr(import_module(f"unplateau.training.{_WHERE[name]}"), name)
