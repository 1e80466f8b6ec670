"""Samples written to a folder in the layout that the data door reads."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from unplateau.errors import OutputError
from unplateau.types import Sample


def write_folder(samples: Sequence[Sample], path: Path | str) -> Path:
    """Write images/NAME.png, masks/NAME.png (class ids) and groups.csv (stem, group) below `path`; return it.

    Each file appears whole or not at all; the table comes last. Raises `OutputError` when a file cannot be written.
    """
    root = Path(path)
    try:
        for folder in ("images", "masks"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        for sample in samples:
            _write(root / "images" / f"{sample.name}.png", _png(sample.image))
            _write(root / "masks" / f"{sample.name}.png", _png(sample.mask))
        _write(root / "groups.csv", _table(samples))
    except OSError as error:
        raise OutputError(f"Cannot write the scenes to {str(root)!r}: {error}. Name a folder you may write.") from error
    return root


def _png(pixels: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def _table(samples: Sequence[Sample]) -> bytes:
    buffer = io.StringIO()
    rows = csv.writer(buffer, lineterminator="\n")
    rows.writerow(("stem", "group"))
    rows.writerows((sample.name, sample.group) for sample in samples)
    return buffer.getvalue().encode()


def _write(path: Path, content: bytes) -> None:
    # Rename is atomic within a folder: a reader never meets half a file.
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_bytes(content)
    os.replace(draft, path)
