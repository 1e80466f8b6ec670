"""The two pieces together: what fits, what is refused, images of any size."""

from __future__ import annotations

import pytest
import torch

from unplateau.decoders.catalogue import DECODERS, build_decoder
from unplateau.errors import PieceError
from unplateau.extractors.base import AbstractExtractor
from unplateau.extractors.frozen import freeze
from unplateau.extractors.squeezenet import squeezenet
from unplateau.extractors.timm import from_timm
from unplateau.model import SegmentationModel, pad_to
from unplateau.types import Level

PYRAMIDS = {
    "stride 2": lambda: from_timm("test_resnet"),
    "stride 4": lambda: from_timm("test_convnext"),
    "squeezenet": squeezenet,
    "transformer": lambda: from_timm("test_vit"),
}
PAIRS = [(name, kind) for name in DECODERS for kind in PYRAMIDS if (name, kind) != ("fpn", "transformer")]


def model_of(extractor: AbstractExtractor, decoder: str, outputs: int = 1) -> SegmentationModel:
    return SegmentationModel(extractor, build_decoder(decoder, extractor.gives, outputs))


@pytest.mark.parametrize(("decoder", "kind"), PAIRS)
@pytest.mark.parametrize("size", [(64, 64), (65, 99), (7, 5)])
def test_an_image_of_any_size_gets_a_mask_of_its_size(decoder, kind, size):
    model = model_of(PYRAMIDS[kind](), decoder, outputs=2).eval()
    with torch.no_grad():
        logits = model(torch.rand(1, 3, *size)).logits
    assert tuple(logits.shape) == (1, 2, *size)
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize(("decoder", "kind"), PAIRS)
def test_a_step_of_training_moves_both_pieces(decoder, kind):
    torch.manual_seed(0)
    model = model_of(PYRAMIDS[kind](), decoder).train()
    before = [each.detach().clone() for each in model.parameters()]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    target = (torch.rand(2, 1, 64, 64) > 0.5).float()
    torch.nn.functional.binary_cross_entropy_with_logits(model(torch.rand(2, 3, 64, 64)).logits, target).backward()
    optimizer.step()
    changed = [not torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True)]
    pieces = len(list(model.extractor.parameters()))
    assert sum(changed[:pieces]) > pieces / 2
    assert any(changed[pieces:])


def test_a_frozen_extractor_does_not_move_and_its_decoder_does():
    model = model_of(freeze(from_timm("test_resnet")), "conv").train()
    before = {name: each.clone() for name, each in model.state_dict().items()}
    optimizer = torch.optim.SGD([each for each in model.parameters() if each.requires_grad], lr=0.1)
    model(torch.rand(2, 3, 64, 64)).logits.square().mean().backward()
    optimizer.step()
    changed = {name for name, each in model.state_dict().items() if not torch.equal(each, before[name])}
    assert changed
    assert all(name.startswith("decoder.") for name in changed)


@pytest.mark.parametrize("decoder", DECODERS)
def test_pieces_that_do_not_fit_are_refused(decoder):
    extractor = from_timm("test_convnext")
    other = (Level(5, 4), Level(6, 8), Level(7, 16), Level(8, 32))
    with pytest.raises(PieceError, match=r"reads \[5 channels at stride 4.*gives \[24 channels.*reads=extractor.gives"):
        SegmentationModel(extractor, build_decoder(decoder, other, 1))


def test_padding_repeats_the_border_and_only_where_needed():
    images = torch.rand(1, 3, 5, 8)
    padded = pad_to(images, 4)
    assert tuple(padded.shape) == (1, 3, 8, 8)
    assert torch.equal(padded[..., :5, :], images)
    assert torch.equal(padded[..., 5:, :], images[..., 4:, :].expand(1, 3, 3, 8))
    assert pad_to(padded, 4) is padded
