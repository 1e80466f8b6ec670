"""The confusion matrix of the truth: remedy named against remedy true."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from benchmarks.truth.score import Judged
from unplateau.files import write_bytes


def draw_matrix(rows: Sequence[Judged], path: Path) -> None:
    """An SVG with a row for each true remedy and a column for each that was named; a tie counts as the one named."""
    true = [each.told if each.told in each.true else each.true[0] for each in rows]
    names = sorted({*true, *(each.told for each in rows)})
    place = {name: index for index, name in enumerate(names)}
    counts = np.zeros((len(names), len(names)), int)
    for each, truth in zip(rows, true, strict=True):
        counts[place[truth], place[each.told]] += 1
    with matplotlib.rc_context({"svg.hashsalt": "truth", "svg.fonttype": "none"}):
        figure = Figure(figsize=(1.6 + 0.55 * len(names), 1.6 + 0.45 * len(names)), layout="constrained")
        axes = figure.add_subplot()
        axes.imshow(counts, cmap="Greens", vmin=0, vmax=max(1, counts.max()) * 1.3)
        axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
        axes.set_yticks(range(len(names)), names)
        axes.set_xlabel("remedy named")
        axes.set_ylabel("remedy that truly gains most")
        for row, column in zip(*np.nonzero(counts), strict=True):
            axes.text(column, row, str(counts[row, column]), ha="center", va="center")
        buffer = BytesIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    write_bytes(path, buffer.getvalue())
