"""One battery over every decoder and every kind of pyramid, then who refuses what."""

from __future__ import annotations

import pytest
import torch

from unplateau.decoders.catalogue import DECODERS, build_decoder
from unplateau.decoders.conv import ConvDecoder
from unplateau.decoders.grids import upsample
from unplateau.errors import PieceError
from unplateau.types import Characteristics, Level

PYRAMIDS: dict[str, tuple[Level, ...]] = {
    "from stride 1": (Level(4, 1), Level(6, 2), Level(8, 4), Level(8, 8)),
    "from stride 2": (Level(4, 2), Level(6, 4), Level(8, 8), Level(8, 16), Level(12, 32)),
    "from stride 4": (Level(6, 4), Level(8, 8), Level(8, 16), Level(12, 32)),
    "up to stride 64": (Level(6, 8), Level(8, 16), Level(8, 32), Level(12, 64)),
    "single level": (Level(12, 16),),
    "pixels only": (Level(5, 1),),
    "one stride, many blocks": (Level(12, 16), Level(12, 16), Level(12, 16)),
    "twice the same stride": (Level(4, 4), Level(6, 4), Level(8, 8), Level(8, 16), Level(12, 32)),
    "stride 14": (Level(12, 14), Level(12, 14)),
    "gaps": (Level(6, 2), Level(8, 16)),
}
REFUSED = {
    *(("fpn", each) for each in ("single level", "pixels only", "one stride, many blocks", "stride 14", "gaps")),
    ("unet", "stride 14"),
}
FITTING = [(name, pyramid) for name in DECODERS for pyramid in PYRAMIDS if (name, pyramid) not in REFUSED]
SLOPES = torch.Generator().manual_seed(0)


def characteristics(reads: tuple[Level, ...], size: tuple[int, int], scale: float = 1.0) -> Characteristics:
    generator = torch.Generator().manual_seed(2)
    shapes = [(2, level.channels, size[0] // level.stride, size[1] // level.stride) for level in reads]
    levels = tuple((scale * torch.randn(shape, generator=generator)).requires_grad_() for shape in shapes)
    return Characteristics(levels, tuple(level.stride for level in reads))


def size_for(reads: tuple[Level, ...]) -> tuple[int, int]:
    coarsest = max(level.stride for level in reads)
    unit = coarsest * max(1, 32 // coarsest)
    return 2 * unit, 3 * unit


@pytest.mark.parametrize(("name", "pyramid"), FITTING)
def test_every_pixel_gets_its_logits_and_every_part_its_gradient(name, pyramid):
    reads = PYRAMIDS[pyramid]
    decoder = build_decoder(name, reads, 3)
    assert (decoder.reads, decoder.outputs) == (reads, 3)
    given, size = characteristics(reads, size_for(reads)), size_for(reads)
    logits = decoder(given, size).logits
    assert tuple(logits.shape) == (2, 3, *size)
    assert torch.isfinite(logits).all()
    (logits * torch.randn(logits.shape, generator=SLOPES)).mean().backward()
    assert all(each.grad is not None for each in decoder.parameters())
    read = given.levels[-4:] if name == "fpn" and len(set(given.strides)) == len(reads) else given.levels
    assert all(maps.grad is not None and maps.grad.abs().sum() > 0 for maps in read)


@pytest.mark.parametrize(("name", "pyramid"), sorted(REFUSED))
def test_levels_that_a_decoder_cannot_read_are_refused(name, pyramid):
    with pytest.raises(PieceError, match=rf"The decoder '{name}' must read .*Use 'linear' or 'conv'"):
        build_decoder(name, PYRAMIDS[pyramid], 1)


@pytest.mark.parametrize("name", DECODERS)
def test_the_same_answer_twice_in_eval_mode(name):
    reads = PYRAMIDS["from stride 4"]
    decoder = build_decoder(name, reads, 1).eval()
    given = characteristics(reads, (64, 96))
    assert torch.equal(decoder(given, (64, 96)).logits, decoder(given, (64, 96)).logits)


@pytest.mark.parametrize("name", ["linear", "conv"])
def test_wild_scales_are_standardised_before_they_are_read(name):
    reads = PYRAMIDS["from stride 4"]
    torch.manual_seed(0)
    decoder = build_decoder(name, reads, 1).train()
    tame = decoder(characteristics(reads, (64, 96)), (64, 96)).logits
    wild = decoder(characteristics(reads, (64, 96), scale=1000.0), (64, 96)).logits
    assert torch.allclose(tame, wild, atol=1e-2)


def test_the_linear_decoder_is_linear():
    reads, size = PYRAMIDS["from stride 2"], (64, 96)
    decoder = build_decoder("linear", reads, 2).eval()
    given = characteristics(reads, size)
    double, none = (Characteristics(tuple(k * m for m in given.levels), given.strides) for k in (2.0, 0.0))
    once = decoder(given, size).logits - decoder(none, size).logits
    assert torch.allclose(decoder(double, size).logits - decoder(none, size).logits, 2 * once, atol=1e-5)


@pytest.mark.parametrize("name", ["linear", "conv", "unet"])
def test_a_bright_cell_lights_its_own_place(name):
    reads, size = (Level(1, 8),), (64, 64)
    torch.manual_seed(1)
    decoder = build_decoder(name, reads, 1).eval()
    dark = torch.zeros(1, 1, 8, 8)
    bright = dark.clone()
    bright[..., 2, 5] = 1.0
    change = (
        decoder(Characteristics((bright,), (8,)), size).logits - decoder(Characteristics((dark,), (8,)), size).logits
    )
    weight = change.detach().abs()[0, 0] / change.abs().sum()
    rows, columns = (weight.sum(1) * torch.arange(64)).sum(), (weight.sum(0) * torch.arange(64)).sum()
    assert abs(rows - 19.5) < 2.5
    assert abs(columns - 43.5) < 2.5


def test_width_sets_the_capacity():
    narrow, wide = (ConvDecoder((Level(8, 4),), 1, width) for width in (8, 32))
    assert sum(p.numel() for p in narrow.parameters()) < sum(p.numel() for p in wide.parameters()) / 4


def test_upsampling_to_the_same_grid_changes_nothing():
    maps = torch.rand(1, 2, 4, 6)
    assert upsample(maps, (4, 6)) is maps


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: build_decoder("u-net", PYRAMIDS["from stride 2"], 1), r"'u-net'.*did you mean 'unet'"),
        (lambda: build_decoder("linear", (), 1), "at least one level"),
        (lambda: build_decoder("linear", PYRAMIDS["single level"], 0), "`outputs` must be at least 1; got 0"),
    ],
)
def test_wrong_orders_are_refused_in_one_sentence(build, says):
    with pytest.raises(PieceError, match=says):
        build()
