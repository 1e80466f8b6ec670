"""Where memory does not hold a batch, the work goes on in smaller ones, says so, and comes to the same."""

from __future__ import annotations

import re
import warnings

import pytest
import torch

from conftest import make_pictures
from unplateau.decoders.catalogue import build_decoder
from unplateau.errors import UnplateauError
from unplateau.extractors.bounded import BoundedExtractor, bounded
from unplateau.model import SegmentationModel
from unplateau.training.devices import in_parts, out_of_memory
from unplateau.training.loop import finetune
from unplateau.training.recipe import Recipe
from unplateau.training.scoring import probabilities
from unplateau.types import Fold

FULL = (
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried"),
    RuntimeError("MPS backend out of memory"),
)


def small() -> SegmentationModel:
    torch.manual_seed(0)
    extractor = bounded(5, width=4)
    return SegmentationModel(extractor, build_decoder("linear", extractor.gives, 1)).eval()


def full_above(monkeypatch: pytest.MonkeyPatch, most: int, error: Exception = FULL[0], training: bool = False) -> None:
    """Extractors that find no memory for more than `most` images; only while they train where `training`."""
    whole = BoundedExtractor.forward

    def forward(self, images):
        if len(images) > most and (self.training or not training):
            raise error
        return whole(self, images)

    monkeypatch.setattr(BoundedExtractor, "forward", forward)


@pytest.mark.parametrize("error", FULL, ids=["cuda", "cpu", "mps"])
def test_scores_in_smaller_batches_are_the_same_and_it_is_said(error, monkeypatch):
    model, images = small(), torch.randint(0, 256, (7, 3, 16, 16), dtype=torch.uint8)
    whole = probabilities(model, images)
    full_above(monkeypatch, 2, error)
    with pytest.warns(UserWarning, match="images at a time do not fit in memory: going on with") as said:
        parted = probabilities(model, images)
    assert parted.shape == whole.shape
    assert float((parted - whole).abs().max()) < 1e-2  # in bf16 where the machine has it
    assert [re.findall(r"\d+", str(each.message)) for each in said] == [["7", "3"], ["3", "1"], ["4", "2"]]


def test_what_fits_is_not_parted_and_nothing_is_said():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert in_parts(lambda batch: 2 * batch, torch.ones(5)).tolist() == [2.0] * 5


def test_a_single_image_that_does_not_fit_and_every_other_error_are_raised_as_they_are(monkeypatch):
    full_above(monkeypatch, 0)
    with pytest.raises(torch.OutOfMemoryError), pytest.warns(UserWarning, match="going on with 1"):
        probabilities(small(), torch.zeros(2, 3, 16, 16, dtype=torch.uint8))
    full_above(monkeypatch, 0, RuntimeError("sizes do not match"))
    with pytest.raises(RuntimeError, match="sizes do not match"):
        probabilities(small(), torch.zeros(2, 3, 16, 16, dtype=torch.uint8))
    assert [out_of_memory(each) for each in (*FULL, ValueError("out of memory"))] == [True, True, True, False]


RECIPE = Recipe(steps=4, batch=8, evaluations=1, half_size=0.0, loss="ce")
FOLD = Fold(tuple(range(8)), (8, 9), (10, 11))


def test_training_goes_on_with_smaller_batches_from_its_start(monkeypatch):
    """It ends as a training that was told so from the beginning."""
    pictures = make_pictures([f"g{index}" for index in range(12)])
    told = finetune(small().train(), pictures, FOLD, Recipe(**{**vars(RECIPE), "batch": 2, "accumulate": 4}))
    full_above(monkeypatch, 2, training=True)
    with pytest.warns(UserWarning, match="do not fit in memory: training goes on with") as said:
        found = finetune(small().train(), pictures, FOLD, RECIPE)
    assert [re.findall(r"\d+", str(each.message)) for each in said] == [["8", "4"], ["4", "2"]]
    pairs = zip(found.model.state_dict().values(), told.model.state_dict().values(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


def test_a_training_for_which_two_images_are_too_many_is_refused_in_one_sentence(monkeypatch):
    full_above(monkeypatch, 1, training=True)
    pictures = make_pictures([f"g{index}" for index in range(12)])
    with pytest.raises(UnplateauError, match=r"batch of 2 images must fit in memory, and does not\. Lower `size`"):
        finetune(small().train(), pictures, FOLD, Recipe(steps=2, batch=2, half_size=0.0))
