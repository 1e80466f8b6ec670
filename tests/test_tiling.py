"""Tiles answer as the whole image does, flips and scales are averaged, and a default changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from unplateau.errors import UnplateauError
from unplateau.model import pad_to
from unplateau.training import scoring, tiling
from unplateau.training.scoring import probabilities
from unplateau.training.tiling import FLIPS, Inference, infer
from unplateau.training.train import build_pieces
from unplateau.types import Level, Prediction


@pytest.fixture(autouse=True, scope="module")
def in_float32() -> Iterator[None]:
    """bf16 would hide what is compared here behind its rounding."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (tiling, scoring):
            patch.setattr(module, "native_bf16", lambda _: False)
        yield


def image(height: int = 50, width: int = 70, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8)


def model_of(extractor: str = "colour", outputs: int = 1) -> nn.Module:
    return build_pieces(extractor, "linear", outputs, frozen=False, seed=1).eval()


class Watched(nn.Module):
    """A model that notes the shapes it was given; it knows its pixel and, if asked to, how far the border is."""

    def __init__(self, *, placed: bool = False, stride: int = 1) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.0))
        self.placed = placed
        self.shapes: list[tuple[int, ...]] = []
        self.extractor = SimpleNamespace(gives=(Level(1, stride),))

    def forward(self, images: Tensor) -> Prediction:
        self.shapes.append(tuple(images.shape))
        logits = (images[:, :1] - 0.5) * 6 * self.scale
        if self.placed:
            logits = logits + torch.linspace(-2, 2, images.shape[-1])
        return Prediction(logits)


# ---- tiles ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("outputs", [1, 3])
def test_by_default_an_image_is_answered_as_it_always_was(outputs):
    model = model_of("reach-5", outputs)
    assert torch.equal(infer(model, image(), Inference()), probabilities(model, image()[None])[0])


@given(
    height=st.integers(5, 60),
    width=st.integers(5, 60),
    tile=st.tuples(st.integers(3, 40), st.integers(3, 40)),
    overlap=st.floats(0, 0.9),
    batch=st.integers(1, 7),
    average=st.sampled_from(tiling.AVERAGES),
)
@settings(max_examples=40, deadline=None)
def test_tiles_of_a_model_of_single_pixels_equal_the_whole(height, width, tile, overlap, batch, average):
    model, shown = Watched().eval(), image(height, width)
    whole = infer(model, shown, Inference())
    tiles = infer(model, shown, Inference(tile, overlap, average=average, batch=batch))
    assert torch.allclose(tiles, whole, atol=1e-5)


@pytest.mark.parametrize("outputs", [1, 3])
def test_with_a_margin_of_half_the_reach_tiles_of_a_local_model_equal_the_whole(outputs):
    model = model_of("reach-5", outputs)
    whole = infer(model, image(), Inference())
    exact = infer(model, image(), Inference((36, 36), overlap=0.0, margin=3))
    loose = infer(model, image(), Inference((36, 36), overlap=0.0))
    assert torch.allclose(exact, whole, atol=1e-5)
    assert (loose - whole).abs().max() > 1e-5


class Cells(nn.Module):
    """A model that answers cell by cell, as one with a coarse map does."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(4.0))
        self.extractor = SimpleNamespace(gives=(Level(1, side),))
        self.side = side

    def forward(self, images: Tensor) -> Prediction:
        padded = pad_to(images, self.side)
        cells = nn.functional.avg_pool2d(padded[:, :1], self.side) * self.scale
        logits = nn.functional.interpolate(cells, scale_factor=self.side)
        return Prediction(logits[..., : images.shape[-2], : images.shape[-1]])


@pytest.mark.parametrize("tile", [(8, 8), (21, 30), (40, 13)])
def test_tiles_of_a_model_of_coarse_cells_equal_the_whole(tile):
    model = Cells(8).eval()
    whole = infer(model, image(53, 75), Inference())
    assert torch.allclose(infer(model, image(53, 75), Inference(tile)), whole, atol=1e-5)


@pytest.mark.parametrize("stride", [1, 4, 16])
def test_tiles_begin_where_the_cells_of_the_coarsest_map_begin(stride):
    windows = tiling._windows((96, 160), Inference((41, 33), overlap=0.3), stride)
    sides = {part.stop - part.start for window in windows for part in window}
    assert all(part.start % stride == 0 for window in windows for part in window)
    assert sides == {-(-41 // stride) * stride, -(-33 // stride) * stride}


def test_tiles_too_small_for_margin_and_stride_are_refused():
    with pytest.raises(UnplateauError, match=r"^`tile` must be more than twice `margin`.* stride of 32; got 60"):
        infer(Watched(stride=32).eval(), image(200, 200), Inference((60, 60), margin=20))
    assert infer(Watched(stride=32).eval(), image(50, 50), Inference((60, 60), margin=20)).shape == (1, 50, 50)


def test_inside_its_tile_a_local_model_answers_as_on_the_whole_image():
    """Two tiles that do not overlap: only the pixels whose view the seam cuts may differ."""
    model = model_of("reach-5")
    shown = image(32, 64)
    apart = (infer(model, shown, Inference((32, 32), overlap=0.0)) - infer(model, shown, Inference())).abs()[0]
    assert apart[:, :29].max() < 1e-5
    assert apart[:, 35:].max() < 1e-5


def test_overlap_smooths_the_seams_of_a_model_that_minds_its_border():
    model, shown = Watched(placed=True).eval(), torch.full((3, 32, 96), 128, dtype=torch.uint8)
    jumps = [
        float(infer(model, shown, Inference((32, 32), overlap))[0, 0].diff().abs().max())
        for overlap in (0.0, 0.5, 0.75)
    ]
    assert jumps[0] > 4 * jumps[1]
    assert jumps[1] > jumps[2]


def test_every_batch_is_bounded_by_tile_and_batch():
    model = Watched().eval()
    infer(model, image(200, 300), Inference((64, 48), batch=5))
    assert {shape[2:] for shape in model.shapes} == {(64, 48)}
    assert max(shape[0] for shape in model.shapes) == 5
    assert sum(shape[0] for shape in model.shapes) >= (200 / 64) * (300 / 48)


@given(side=st.integers(1, 300), tile=st.integers(1, 100), overlap=st.floats(0, 0.95), margin=st.integers(0, 20))
@settings(max_examples=200, deadline=None)
def test_tiles_cover_every_pixel_and_overlap_as_asked(side, tile, overlap, margin):
    tile = min(tile, side)
    margin = min(margin, (tile - 1) // 2)
    starts = tiling._starts(side, tile, overlap, margin)
    assert (starts[0], starts[-1]) == (0, side - tile)
    total = torch.zeros(side, dtype=torch.float64)
    for start in starts:
        total[start : start + tile] += tiling._profile(slice(start, start + tile), side, margin)
    assert (total > 0).all()
    gaps = [second - first for first, second in pairwise(starts)]
    assert all(gap <= max(1, tile * (1 - overlap)) + 1 for gap in gaps)


def test_an_image_smaller_than_the_tile_is_its_own_tile():
    model = Watched().eval()
    infer(model, image(20, 100), Inference((32, 32)))
    assert {shape[2:] for shape in model.shapes} == {(20, 32)}


# ---- flips and scales ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("flip", FLIPS)
def test_an_answer_averaged_over_a_flip_turns_with_the_image(flip):
    model, shown, axes = model_of("reach-5"), image(48, 48), FLIPS[flip]
    asked = Inference(flips=(flip,))
    turned = infer(model, shown.flip(axes), asked)
    assert torch.allclose(turned.flip(axes), infer(model, shown, asked), atol=1e-6)
    assert not torch.allclose(infer(model, shown, asked), infer(model, shown, Inference()), atol=1e-4)


def test_probabilities_average_to_their_mean_and_logits_to_theirs():
    model, shown = Watched(placed=True).eval(), image(16, 32)
    one, other = infer(model, shown, Inference()), infer(model, shown.flip(-1), Inference()).flip(-1)
    mean = infer(model, shown, Inference(flips=("horizontal",)))
    geometric = infer(model, shown, Inference(flips=("horizontal",), average="logits"))
    assert torch.allclose(mean, (one + other) / 2, atol=1e-6)
    assert torch.allclose(geometric, ((one.logit() + other.logit()) / 2).sigmoid(), atol=1e-5)
    assert not torch.allclose(mean, geometric, atol=1e-3)


@pytest.mark.parametrize("average", tiling.AVERAGES)
def test_averages_of_several_classes_add_up_to_one(average):
    asked = Inference((24, 24), flips=tuple(FLIPS), scales=(0.5, 1.0, 1.3), average=average)
    scores = infer(model_of("reach-5", 4), image(), asked)
    assert scores.shape == (4, 50, 70)
    assert torch.allclose(scores.sum(0), torch.ones(50, 70), atol=1e-5)


def test_scales_show_the_model_the_image_at_other_sizes():
    model = Watched().eval()
    scores = infer(model, image(40, 60), Inference(scales=(0.5, 1.0, 1.5)))
    assert [shape[2:] for shape in model.shapes] == [(20, 30), (40, 60), (60, 90)]
    assert scores.shape == (1, 40, 60)
    assert not torch.allclose(scores, infer(model, image(40, 60), Inference()), atol=1e-3)


def test_a_model_is_left_in_the_mode_it_was_in():
    model = model_of().train()
    infer(model, image(), Inference((16, 16)))
    assert model.training
    assert infer(model.eval(), image(), Inference()).requires_grad is False


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"tile": (0, 8)}, "^`tile` must be .*got \\(0, 8\\)"),
        ({"tile": (8, 8), "margin": 4}, "^`tile` .* margin of 4"),
        ({"tile": (8, 8), "margin": -1}, "^`tile` .* margin of -1"),
        ({"overlap": 1.0}, "^`overlap` .*got 1.0"),
        ({"scales": ()}, "^`scales` .*got \\(\\)"),
        ({"scales": (0.0,)}, "^`scales` .*got"),
        ({"flips": ("horizontale",)}, "did you mean 'horizontal'"),
        ({"average": "votes"}, "^`average` must be 'probabilities' or 'logits'; got 'votes'"),
        ({"batch": 0}, "^`batch` .*got 0"),
    ],
    ids=str,
)
def test_a_senseless_number_is_refused_in_one_sentence(wrong, said):
    with pytest.raises(UnplateauError, match=said):
        Inference(**wrong)
