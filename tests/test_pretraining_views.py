"""A view knows where it lies: what is paired in two views is one point of the image."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from unplateau.pretraining.views import Look, block_mask, shared_points, views

PLAIN = Look(scale=(0.4, 0.9), contrast=0.0, brightness=0.0, colour=0.0, grey=0.0)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def ramps(count: int, height: int = 48, width: int = 64) -> torch.Tensor:
    """Images whose first two channels say where a pixel is."""
    rows, columns = torch.linspace(0, 1, height), torch.linspace(0, 1, width)
    down, across = torch.meshgrid(rows, columns, indexing="ij")
    return torch.stack([across, down, torch.zeros_like(down)]).expand(count, 3, height, width).contiguous()


def test_paired_points_of_two_views_are_one_point_of_the_image():
    generator = seeded()
    first, second = (views(ramps(12), (48, 64), PLAIN, generator) for _ in range(2))
    points = shared_points(first, second, 20, generator)
    seen = [
        F.grid_sample(view.images, each[:, :, None], align_corners=False, padding_mode="border")[:, :2, :, 0]
        for view, each in zip((first, second), points, strict=True)
    ]
    low = torch.maximum(first.centre - first.half.abs(), second.centre - second.half.abs())
    high = torch.minimum(first.centre + first.half.abs(), second.centre + second.half.abs())
    meet = (high > low).all(1)
    assert meet.sum() > 6
    assert (seen[0] - seen[1])[meet].abs().max() < 0.02


def test_views_are_mirrored_and_know_it():
    mirrored = views(ramps(8), (24, 32), Look(flip=1.0, contrast=0, brightness=0, colour=0, grey=0), seeded())
    assert (mirrored.half[:, 0] < 0).all()
    assert (mirrored.images[:, 0, :, 0] > mirrored.images[:, 0, :, -1]).all()


def test_a_view_stays_inside_its_image():
    view = views(ramps(50), (24, 32), Look(), seeded())
    assert ((view.centre.abs() + view.half.abs()) <= 1 + 1e-6).all()


@pytest.mark.parametrize("change", ["contrast", "brightness", "colour", "grey", "scale"])
def test_every_part_of_a_look_changes_the_view(change):
    images = torch.rand(6, 3, 32, 32, generator=seeded(1))
    value = (0.2, 0.3) if change == "scale" else 0.5
    plain, changed = (
        views(images, (16, 16), look, seeded()) for look in (PLAIN, Look(**{**vars(PLAIN), change: value}))
    )
    assert not torch.equal(plain.images, changed.images)


def test_the_same_seed_gives_the_same_view():
    images = torch.rand(4, 3, 32, 32, generator=seeded(1))
    assert torch.equal(
        views(images, (16, 16), Look(), seeded(3)).images, views(images, (16, 16), Look(), seeded(3)).images
    )


@pytest.mark.parametrize("share", [0.3, 0.6])
def test_a_mask_hides_its_share_in_whole_cells(share):
    hidden = block_mask(5, (32, 48), 8, share, seeded())
    assert hidden.float().mean() == pytest.approx(share, abs=0.02)
    cells = hidden.reshape(5, 4, 8, 6, 8).permute(0, 1, 3, 2, 4).flatten(3)
    assert (cells.all(-1) | ~cells.any(-1)).all()
