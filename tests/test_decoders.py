"""One battery over every decoder and every kind of pyramid, then who refuses what."""

from __future__ import annotations

import pytest
import torch

from unplateau.decoders.boxes import FINEST, BoxDecoder
from unplateau.decoders.catalogue import BY_KIND, DECODERS, build_decoder, first_decoder
from unplateau.decoders.conv import ConvDecoder
from unplateau.decoders.grids import upsample
from unplateau.errors import PieceError
from unplateau.types import Candidates, Characteristics, Level

WHOLE = [(kind, name) for kind in ("label", "boxes") for name in BY_KIND[kind]]
"""Decoders whose answers are not of pixels."""

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


# ---- labels and boxes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("pyramid", PYRAMIDS)
@pytest.mark.parametrize(("kind", "name"), WHOLE)
def test_labels_and_boxes_are_told_from_any_levels_and_every_part_gets_its_gradient(kind, name, pyramid):
    reads = PYRAMIDS[pyramid]
    torch.manual_seed(0)
    decoder = build_decoder(name, reads, 3, kind)
    assert (decoder.reads, decoder.outputs, decoder.gives) == (reads, 3, kind)
    given, size = characteristics(reads, size_for(reads)), size_for(reads)
    said = decoder(given, size)
    assert tuple(said.logits.shape) == ((2, 3) if kind == "label" else (2, sum(said.counts), 3))
    boxes = torch.tensor([[1.0, 4.0, 6.0, size[1] * 0.8, size[0] * 0.7]]).expand(2, 1, 5)
    loss = said.logits.square().mean() if kind == "label" else decoder.loss(said, boxes)
    loss.backward()
    assert torch.isfinite(loss)
    assert all(each.grad is not None for each in decoder.parameters())
    assert all(maps.grad is not None and maps.grad.abs().sum() > 0 for maps in given.levels)


@pytest.mark.parametrize(("kind", "name"), WHOLE)
def test_labels_and_boxes_are_the_same_twice_in_eval_mode_and_wild_scales_do_not_matter(kind, name):
    reads = PYRAMIDS["from stride 4"]
    torch.manual_seed(0)
    decoder = build_decoder(name, reads, 2, kind).eval()
    given = characteristics(reads, (64, 96))
    assert torch.equal(decoder(given, (64, 96)).logits, decoder(given, (64, 96)).logits)
    wild = characteristics(reads, (64, 96), scale=1000.0)
    assert torch.allclose(decoder.train()(given, (64, 96)).logits, decoder(wild, (64, 96)).logits, atol=1e-2)


@pytest.mark.parametrize("pyramid", PYRAMIDS)
def test_the_cells_of_a_box_decoder_cover_the_image_at_no_finer_stride_than_its_finest(pyramid):
    reads, size = PYRAMIDS[pyramid], size_for(PYRAMIDS[pyramid])
    said = build_decoder("boxes", reads, 1, "boxes")(characteristics(reads, size), size)
    for cells in said.cells.split(said.counts):
        left, top, right, bottom = cells.unbind(1)
        assert (float(left.min()), float(top.min())) == (0, 0)
        assert (float(right.max()), float(bottom.max())) == (size[1], size[0])
        assert float(((right - left) * (bottom - top)).sum()) == size[0] * size[1]
        assert float((right - left).min()) >= min(FINEST, 14)


def test_boxes_that_are_certain_are_found_where_they_are():
    """Candidates written by hand: a cell that is sure of a thing 8 pixels around its middle, and its neighbour less."""
    reads = (Level(4, 4),)
    decoder = build_decoder("boxes", reads, 2, "boxes").eval()
    assert isinstance(decoder, BoxDecoder)
    said = decoder(characteristics(reads, (32, 32)), (32, 32))
    logits, edges, centred = torch.full((1, 64, 2), -9.0), torch.full((1, 64, 4), 2.0), torch.full((1, 64, 1), 9.0)
    logits[0, 3 * 8 + 4, 1], logits[0, 3 * 8 + 5, 1] = 9.0, 2.0
    (found,) = decoder.found(Candidates(logits, edges, centred, said.cells, said.counts), (32, 32))
    assert found.classes.tolist()[0] == 1
    assert found.boxes[0].tolist() == [10, 6, 26, 22]
    assert float(found.scores[0]) > 0.99
    assert (found.scores.diff() <= 0).all()


def test_an_image_without_boxes_has_a_loss_and_teaches_that_nothing_is_there():
    reads = (Level(4, 4),)
    torch.manual_seed(0)
    decoder = build_decoder("boxes", reads, 1, "boxes")
    given = characteristics(reads, (32, 32))
    nothing = torch.full((2, 1, 5), -1.0)
    loss = decoder.loss(decoder(given, (32, 32)), nothing)
    loss.backward()
    assert torch.isfinite(loss)
    bias = decoder.net.head.classification_head.cls_logits.bias
    assert float(bias.grad.sum()) > 0


@pytest.mark.parametrize(
    ("kind", "name", "says"),
    [
        ("label", "unet", "A decoder for the task 'label' must be one of label; got 'unet'"),
        ("boxes", "label", "A decoder for the task 'boxes' must be one of boxes; got 'label'"),
        ("multi-label", "boxes", "A decoder must be one of linear, conv, unet, fpn; got 'boxes'"),
    ],
)
def test_a_decoder_answers_the_tasks_of_its_kind_alone(kind, name, says):
    with pytest.raises(PieceError, match=says):
        build_decoder(name, PYRAMIDS["from stride 2"], 1, kind)
    assert first_decoder(kind) in BY_KIND[kind]
