"""The full range of 16-bit images: a model must be asked on the scale on which it learnt, whatever it is asked of.

Of new images alone the range cannot be told: one that is dark would come out several times as bright as in training.
"""

from __future__ import annotations

import json
from pathlib import Path

from unplateau.files import write_json
from unplateau.training.saved import FACTS

WHITE = "white"


def keep_white(folder: Path, white: int | None) -> None:
    """Say beside the model in `folder` which value was white in the images of its training; None where they had 8 bits.

    Raises:
        OutputError: it cannot be written.
    """
    if white is not None:
        facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        write_json(folder / FACTS, {**facts, WHITE: white})


def kept_white(folder: Path) -> int | None:
    """What `keep_white` said; None where nothing was said."""
    white = json.loads((folder / FACTS).read_text(encoding="utf-8")).get(WHITE)
    return None if white is None else int(white)
