"""The rungs of the ladder: each sees exactly what its reach says, not a pixel more and not a pixel less."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from unplateau.errors import Doubt, PieceError
from unplateau.extractors.base import AbstractExtractor
from unplateau.extractors.bounded import RUNGS, Plan, _window_mean, bounded, plan_for, rung

REACHES = (3, 5, 9, 15, 27, 35, 59, 107)
ORDERLESS = ("orderless-1", "orderless-5", "orderless-9", "orderless-9-17", "orderless-13-25")
NAMES = ("colour", *(f"reach-{reach}" for reach in REACHES), *ORDERLESS)
PHASES = 16
"""Pixels after which every grid of a rung repeats: four halvings."""


def built(name: str, seed: int = 0) -> AbstractExtractor:
    """A rung with random weights and random batch statistics, as after training."""
    torch.manual_seed(seed)
    extractor = rung(name)
    assert extractor is not None
    for each in extractor.modules():
        if isinstance(each, torch.nn.BatchNorm2d):
            each.running_mean.normal_(0, 0.1)
            each.running_var.uniform_(0.5, 2)
    return extractor.eval()


def answer(extractor: AbstractExtractor, images: Tensor) -> Tensor:
    with torch.no_grad():
        return extractor(images).levels[0]


def spread_of(extractor: AbstractExtractor, size: tuple[int, int], pixels: list[tuple[int, int]]) -> Tensor:
    """Which answers (B, H, W) each pixel can reach at all: nan passes through every weight and every ReLU."""
    images = torch.rand(len(pixels), 3, *size)
    for image, (row, column) in zip(images, pixels, strict=True):
        image[:, row, column] = math.nan
    return answer(extractor, images).isnan().any(1)


def farthest(seen: Tensor, row: int, column: int) -> int:
    rows, columns = torch.nonzero(seen, as_tuple=True)
    return int(max((rows - row).abs().max(), (columns - column).abs().max()))


def places(half: int) -> list[tuple[int, int]]:
    """A pixel at each phase of the coarsest grid, at least `half` away from the border of `side(half)` pixels."""
    return [(half + phase, half + phase) for phase in range(PHASES)]


def side(half: int) -> int:
    return 2 * half + PHASES + 1


# ---- the reach is exact --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_pixel_reaches_as_far_as_the_rung_says_and_no_farther(name):
    extractor = built(name)
    half = int(extractor.reach) // 2
    seen = spread_of(extractor, (side(half), side(half)), places(half))
    assert max(farthest(each, *place) for each, place in zip(seen, places(half), strict=True)) == half


def around(place: tuple[int, int], half: int) -> tuple[slice, slice]:
    return slice(place[0] - half, place[0] + half + 1), slice(place[1] - half, place[1] + half + 1)


@pytest.mark.parametrize("name", NAMES)
def test_what_lies_outside_the_reach_changes_no_bit_of_an_answer(name):
    extractor = built(name)
    half = int(extractor.reach) // 2
    first = torch.rand(1, 3, side(half), side(half))
    given = answer(extractor, first)
    for place in places(half)[:: 1 if half < 10 else 5]:
        second = torch.rand_like(first)
        second[(..., *around(place, half))] = first[(..., *around(place, half))]
        other = answer(extractor, second)
        assert torch.equal(given[(..., *place)], other[(..., *place)])
        assert not torch.equal(given, other)


@pytest.mark.parametrize("name", ["reach-9", "reach-27", "orderless-9-17"])
def test_some_pixel_at_the_border_of_the_reach_changes_the_answer(name):
    """Not only could it: with random weights it does, so the reach is used and not only allowed."""
    half = int(built(name).reach) // 2

    def moves(seed: int, place: tuple[int, int]) -> bool:
        images = torch.rand(1, 3, side(half), side(half))
        other = images.clone()
        inner = (..., *around(place, half - 1))
        other[(..., *around(place, half))] = torch.rand_like(images)[(..., *around(place, half))]
        other[inner] = images[inner]
        extractor = built(name, seed)
        return not torch.equal(answer(extractor, images)[(..., *place)], answer(extractor, other)[(..., *place)])

    assert any(moves(seed, place) for seed in range(3) for place in places(half))


@pytest.mark.parametrize("name", ["reach-15", "reach-35", "orderless-9-17"])
@pytest.mark.parametrize("size", [(61, 47), (33, 64)])
def test_the_bound_holds_at_the_border_and_on_sides_that_halve_unevenly(name, size):
    extractor = built(name)
    pixels = [(0, 0), (size[0] - 1, size[1] - 1), (size[0] // 2, 0)]
    for seen, place in zip(spread_of(extractor, size, pixels), pixels, strict=True):
        assert farthest(seen, *place) <= extractor.reach // 2


def test_the_whole_image_extractor_depends_on_every_pixel():
    assert spread_of(built("unet"), (160, 160), [(0, 0), (0, 159), (159, 0), (37, 101)]).all()


def test_the_rung_below_the_whole_image_does_not_depend_on_every_pixel():
    assert not spread_of(built("reach-107"), (160, 160), [(0, 0)]).all()


# ---- which plan a reach gets ---------------------------------------------------------------------------------

ASKED = [3, 3.5, 4, 5, 7, 9, 10, 14, 15, 20, 27, 28.9, 33, 40, 58.2, 59, 80, 107, 150, 400]


def test_a_plan_never_exceeds_the_reach_that_was_asked_for():
    assert all(plan_for(asked).reach <= asked for asked in ASKED)


def test_a_plan_grows_with_the_reach_that_is_asked_for():
    reaches = [plan_for(asked).reach for asked in ASKED]
    assert reaches == sorted(reaches)
    assert len(set(reaches)) > len(reaches) / 2


@pytest.mark.parametrize("reach", REACHES)
def test_a_reach_that_exists_is_met_exactly(reach):
    assert plan_for(reach).reach == reach


def test_more_of_anything_that_a_plan_counts_reaches_farther():
    assert Plan(1, 1, 0).reach < Plan(1, 1, 1).reach < Plan(1, 2, 1).reach < Plan(2, 2, 1).reach


# ---- names ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*NAMES, *RUNGS])
def test_a_rung_is_made_again_by_its_own_name(name):
    extractor = built(name)
    assert extractor.architecture == name
    again = built(extractor.architecture)
    assert again.gives == extractor.gives
    assert again.reach == extractor.reach
    again.load_state_dict(extractor.state_dict())


@pytest.mark.parametrize(
    "name", ["", "reach", "reach-", "reach-x", "reach--5", "orderless-", "orderless-9-", "resnet18"]
)
def test_a_name_that_is_no_rung_is_none(name):
    assert rung(name) is None


def test_a_name_between_two_reaches_is_the_lower_one_and_says_so():
    with pytest.warns(Doubt, match=r"reaches 34 pixels exactly: taken is 'reach-33', which sees 33\."):
        assert built("reach-34").architecture == "reach-33"


@pytest.mark.parametrize(("name", "said"), [("reach-2", "at least 3 pixels"), ("orderless-8", "must be odd sides")])
def test_a_rung_that_cannot_be_is_refused(name, said):
    with pytest.raises(PieceError, match=said):
        rung(name)


def test_an_infinite_reach_is_the_whole_image():
    assert bounded(math.inf).architecture == "unet"
    assert math.isinf(bounded(math.inf).reach)


@pytest.mark.parametrize("name", [*NAMES, "unet"])
def test_a_rung_gives_the_map_that_it_promises_at_every_size(name):
    extractor = built(name)
    for size in ((16, 16), (17, 23)):
        (level,) = extractor.gives
        maps = answer(extractor, torch.rand(2, 3, *size))
        assert tuple(maps.shape) == (2, level.channels, *size)
        assert torch.isfinite(maps).all()


# ---- orderless: how often, not where -------------------------------------------------------------------------


def brute_mean(maps: np.ndarray, half: int) -> np.ndarray:
    """Mean over the (2 half + 1)^2 cells of 2 x 2 pixels around each pixel's own, outside nothing."""
    height, width = maps.shape
    cells = {(r, c): maps[2 * r : 2 * r + 2, 2 * c : 2 * c + 2].mean() for r in range(-(-height // 2))
             for c in range(-(-width // 2))}  # fmt: skip
    out = np.zeros_like(maps)
    for row, column in np.ndindex(height, width):
        near = [v for (r, c), v in cells.items() if max(abs(r - row // 2), abs(c - column // 2)) <= half]
        out[row, column] = np.mean(near)
    return out


@pytest.mark.parametrize(("window", "half"), [(1, 0), (5, 1), (9, 2), (17, 4)])
@pytest.mark.parametrize("size", [(12, 14), (9, 11)])
def test_a_window_mean_equals_brute_force(window, half, size):
    maps = torch.rand(1, 2, *size, dtype=torch.float64)
    found = _window_mean(maps, window).numpy()
    for channel in range(2):
        assert found[0, channel] == pytest.approx(brute_mean(maps[0, channel].numpy(), half))


def test_the_arrangement_of_patterns_inside_a_window_does_not_matter():
    window, cells = 9, 5
    maps = torch.rand(1, 3, 2 * cells, 2 * cells, dtype=torch.float64)
    blocks = maps.unfold(2, 2, 2).unfold(3, 2, 2).reshape(1, 3, cells * cells, 2, 2)
    shuffled = blocks[:, :, torch.randperm(cells * cells)].reshape(1, 3, cells, cells, 2, 2)
    other = shuffled.permute(0, 1, 2, 4, 3, 5).reshape(maps.shape)
    middle = cells  # a pixel of the cell in the middle, whose window is the whole map
    assert not torch.equal(maps, other)
    found, again = _window_mean(maps, window), _window_mean(other, window)
    assert found[..., middle, middle].numpy() == pytest.approx(again[..., middle, middle].numpy())
    assert (found[..., 0, 0] - again[..., 0, 0]).abs().max() > 1e-3


def test_the_arrangement_matters_to_an_ordered_rung():
    image = torch.rand(1, 3, 28, 28)
    mirrored = image.flip(-1)
    ordered = built("reach-27")
    at = (..., 13, 13)
    assert not torch.allclose(answer(ordered, image)[at], answer(ordered, mirrored)[at], atol=1e-4)


@pytest.mark.parametrize("name", ["unet-4", "unet-32", "reach-33-8"])
def test_a_name_with_a_width_changes_the_channels_and_not_the_reach(name):
    plain, width = name.rpartition("-")[0], int(name.rpartition("-")[2])
    narrow, usual = rung(name), rung(plain)
    assert narrow is not None
    assert usual is not None
    assert (narrow.gives[0].channels, narrow.reach) == (width, usual.reach)
    assert rung(narrow.architecture).state_dict().keys() == narrow.state_dict().keys()


@pytest.mark.parametrize("name", ["unet-", "unet-4-4", "unet-x", "reach-3-4-5"])
def test_a_name_that_is_no_rung_is_left_to_others(name):
    assert rung(name) is None
