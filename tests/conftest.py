"""What several test files share: real data where it is present, a tiny data set on disk, pictures in memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from unplateau.experiments import fits
from unplateau.types import Pictures, Task

os.environ["HF_HUB_OFFLINE"] = "1"
"""No test may wait for a network; what a missing weight file says is the same."""

REAL_DATA = Path(os.environ.get("UNPLATEAU_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
"""Folder of the real data sets; tests that need an absent one are skipped by name."""


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """So few pixels are quicker on one core, many times so where tests run side by side and fight for the others."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True, scope="session")
def one_worker() -> Iterator[None]:
    """Trainings run in the process of their test: each worker would import everything once more, beside other tests.
    What is told of workers is told by processes that tests start, and by tests that ask for two.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fits, "workers", lambda: 1)
        yield


def real_folder(name: str) -> Path:
    folder = REAL_DATA / name
    if not folder.is_dir():
        pytest.skip(f"{name} is not here")
    return folder


@pytest.fixture
def real() -> Callable[[str], Path]:
    """real("fire_video") is the folder of that data set, or skips the test."""
    return real_folder


def write_pairs(folder: Path, count: int = 12, height: int = 40, width: int = 48, seed: int = 0) -> Path:
    """A valid data set: a bright disc, class 1, on noise."""
    rng = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    rows, columns = np.mgrid[:height, :width]
    for index in range(count):
        top, left = rng.uniform(12, height - 12), rng.uniform(12, width - 12)
        mask = ((rows - top) ** 2 + (columns - left) ** 2 < 81).astype(np.uint8)
        image = rng.integers(0, 128, (height, width, 3), dtype=np.uint8) + 100 * mask[..., None]
        Image.fromarray(image.astype(np.uint8)).save(folder / "images" / f"p{index:02d}.png")
        Image.fromarray(mask).save(folder / "masks" / f"p{index:02d}.png")
    return folder


@pytest.fixture
def tiny_folder(tmp_path: Path) -> Path:
    """Twelve pairs of 40 x 48 pixels, each its own group, ids 0 and 1."""
    return write_pairs(tmp_path / "tiny")


def make_pictures(
    groups: Sequence[str],
    splits: Sequence[str] = (),
    masks: torch.Tensor | None = None,
    classes: int = 0,
    seed: int = 0,
) -> Pictures:
    """Pictures of 8 x 8 noise with these groups; binary, or multi-class when `classes` is given."""
    count = len(groups)
    generator = torch.Generator().manual_seed(seed)
    if masks is None:
        masks = torch.randint(0, classes or 2, (count, 8, 8), generator=generator, dtype=torch.uint8)
    ids = tuple(range(classes or 2))
    names = tuple(f"class {each}" for each in ids)
    return Pictures(
        task=Task((), ids, names) if classes else Task((1,), ids, ("thing",)),
        images=torch.randint(0, 256, (count, 3, *masks.shape[1:]), generator=generator, dtype=torch.uint8),
        masks=masks,
        names=tuple(f"p{index}" for index in range(count)),
        groups=tuple(groups),
        splits=tuple(splits) or ("",) * count,
        native=(8, 8),
    )
