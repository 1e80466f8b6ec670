"""The backbone of all families: each path sees as far as it says, gates can be read, every term can be learnt."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from conftest import write_pairs
from test_pretraining import discs, taught
from unplateau import api
from unplateau.errors import PieceError
from unplateau.extractors.bounded import Plan, rung
from unplateau.extractors.catalogue import build_extractor
from unplateau.extractors.families import GIVES, PATHS, FamiliesExtractor, contours, gates_of
from unplateau.extractors.fused import fused
from unplateau.pretraining.course import EXTRACTOR, Schooling
from unplateau.pretraining.methods import RATES, build_method
from unplateau.pretraining.targets import FAR_BINS, FAR_EDGES, far_words, outlines, statistics_of
from unplateau.training.saved import save_extractor

SHORT = Schooling("families", steps=4, batch=4, evaluations=2, learning_rate=RATES["families"])


@pytest.fixture(scope="module")
def backbone() -> FamiliesExtractor:
    torch.manual_seed(0)
    return FamiliesExtractor().eval()


def noise(side: int, seed: int = 0) -> Tensor:
    return torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(seed))


# ---- the paths -----------------------------------------------------------------------------------------------


def spans(backbone: FamiliesExtractor, name: str, side: int = 96) -> list[int]:
    """For each level of a path, how wide the pixels lie that one middle cell depends on."""
    images = noise(side).requires_grad_(True)
    found = []
    for maps in vars(backbone.seen(images))[name].levels:
        # Some of the channels: the sum of all is the same whatever a normalised cell holds.
        middle = maps[:, :4, maps.shape[-2] // 2, maps.shape[-1] // 2].sum()
        (given,) = torch.autograd.grad(middle, images, retain_graph=True)
        rows = given.abs().sum((0, 1, 3)).nonzero()
        found.append(int(rows.max() - rows.min() + 1))
    return found


def test_each_path_sees_as_far_as_its_family_needs_and_no_farther(backbone):
    assert spans(backbone, "textural") == [21]
    assert 21 < max(spans(backbone, "geometric")) <= Plan(halvings=2, fine=1, ordered=2).reach
    assert spans(backbone, "contextual") == [96]


@pytest.mark.parametrize(("name", "reach"), [("textural", 21), ("geometric", 34)])
def test_what_lies_beyond_the_reach_of_a_path_changes_nothing(name, reach, backbone):
    images = noise(96)
    changed = images.clone()
    changed[..., : 48 - reach] = noise(96, 1)[..., : 48 - reach]
    before, after = (vars(backbone.seen(each))[name].levels for each in (images, changed))
    for one, other in zip(before, after, strict=True):
        assert torch.equal(one[..., one.shape[-1] // 2 :], other[..., one.shape[-1] // 2 :])
    far = [vars(backbone.seen(each))["contextual"].levels[0][..., -1] for each in (images, changed)]
    assert not torch.allclose(*far)


def test_the_textural_path_forgets_where_things_lie_inside_a_window(backbone):
    """Patterns moved about as whole blocks, well inside the window of the middle: the same statistics."""
    path = backbone.textural
    cells = torch.rand(1, path.patterns[0].out_channels, 24, 24, generator=torch.Generator().manual_seed(0))
    moved = cells.clone()
    moved[..., 11:13, 11:13] = cells[..., 11:13, 11:13].flip(-1, -2)
    assert torch.allclose(path.counted(cells)[..., 12, 12], path.counted(moved)[..., 12, 12], atol=1e-6)


def test_a_contour_is_the_same_from_both_sides():
    image = torch.zeros(1, 3, 8, 8)
    image[..., 4:] = 1.0
    assert torch.allclose(contours(image), contours(1 - image), atol=1e-6)
    strength, cosine, sine = contours(image)[0, :, 4, 4]
    assert float(cosine) == pytest.approx(float(strength), rel=1e-3)
    assert float(sine) == pytest.approx(0, abs=1e-6)


def test_parameters_are_those_of_the_unet_within_a_tenth(backbone):
    ours, unet = (sum(each.numel() for each in net.parameters()) for net in (backbone, rung("unet")))
    assert ours == pytest.approx(unet, rel=0.1)


def test_a_large_image_costs_in_proportion_to_its_pixels(backbone):
    """Cells look at no more than so many others."""
    looked_at = []
    pair = backbone.contextual.blocks[0].pair
    handle = pair.register_forward_hook(lambda _, given, __: looked_at.append(given[0].shape[1]))
    with torch.inference_mode():
        for side in (32, 64, 128, 256):
            backbone(noise(side))
    handle.remove()
    assert looked_at == [16, 64, 64, 64]


# ---- the gates -----------------------------------------------------------------------------------------------


def test_gates_start_even_and_add_up_to_one_at_each_stride(backbone):
    shares = {(gate.part, gate.stride): gate.share for gate in gates_of(backbone)}
    assert set(shares) == {(path, level.stride) for path in PATHS for level in GIVES}
    assert all(share == pytest.approx(1 / 3) for share in shares.values())
    with torch.no_grad():
        backbone.gate[0] += 2.0
    try:
        after = gates_of(backbone)
        for level in GIVES:
            assert sum(gate.share for gate in after if gate.stride == level.stride) == pytest.approx(1)
        assert all((gate.share > 0.5) == (gate.part == "textural") for gate in after)
    finally:
        with torch.no_grad():
            backbone.gate[0] -= 2.0


def test_the_gate_decides_what_a_level_holds(backbone):
    images = noise(32)
    with torch.no_grad():
        backbone.gate[2] += 30.0
        said = backbone(images).levels[-1]
        mix = backbone.mixes["contextual-8"](backbone.seen(images).contextual.levels[0])
        backbone.gate[2] -= 30.0
    assert torch.allclose(said, mix, atol=1e-4)


def test_train_writes_the_gates_that_the_task_has_learnt(tmp_path):
    folder = write_pairs(tmp_path / "tiny")
    api.train(folder, positive=[1], extractor="families", out=tmp_path / "model", size=32, steps=6)
    gates = json.loads((tmp_path / "model" / "model.json").read_text())["gates"]
    assert {(gate["part"], gate["stride"]) for gate in gates} == {
        (path, level.stride) for path in PATHS for level in GIVES
    }
    assert any(abs(gate["share"] - 1 / 3) > 1e-4 for gate in gates)


def test_what_has_no_gates_has_none_and_a_fusion_has_its_own():
    assert gates_of(build_extractor("colour")) == ()
    parts = (build_extractor("colour"), build_extractor("reach-9-4"))
    assert {gate.part for gate in gates_of(fused(parts))} == {"colour", "reach-9-4"}


# ---- the terms -----------------------------------------------------------------------------------------------


def test_each_term_lowers_on_a_tiny_run():
    torch.manual_seed(0)
    method = build_method("families", FamiliesExtractor())
    optimizer = torch.optim.AdamW([each for each in method.parameters() if each.requires_grad], 3e-3)
    images, told = discs(8).images.float().div(255), []
    for step in range(24):
        outcome = method(images, torch.Generator().manual_seed(step % 2))
        optimizer.zero_grad()
        outcome.loss.backward()
        optimizer.step()
        method.advance(step)
        told.append(dict(method.told))
    assert set(told[0]) == {"textural", "geometric", "contextual", "joint"}
    for term in told[0]:
        assert sum(each[term] for each in told[-4:]) < 0.97 * sum(each[term] for each in told[:4]), term


def test_no_term_drowns_the_others():
    """Each is a share of what knowing nothing leaves: at the random start all are of one size."""
    torch.manual_seed(0)
    method = build_method("families", FamiliesExtractor())
    method(discs(8).images.float().div(255), torch.Generator().manual_seed(0))
    assert all(0.5 < term < 2 for term in method.told.values()), method.told


def test_a_term_of_one_family_teaches_the_path_of_that_family():
    torch.manual_seed(0)
    student = FamiliesExtractor()
    method = build_method("families", student)
    images = discs(4).images.float().div(255)
    for family in PATHS:
        student.zero_grad()
        seen = method._seen(student, images)
        own = {family: seen[family]}
        method._unexplained(family, own, *method._targets(images)[family]).backward()
        for path in PATHS:
            moved = any(each.grad is not None and bool(each.grad.any()) for each in getattr(student, path).parameters())
            assert moved == (path == family)


def test_far_words_say_what_stands_where_from_each_cell():
    words = torch.zeros(1, 6, 6, 2)
    words[0, 1, 4, 1] = 1.0
    found, there = far_words(words)
    found, there = (each.unflatten(3, (FAR_BINS, FAR_BINS, 2)) for each in (found, there))
    middle = len(FAR_EDGES)
    assert float(found[0, 1, 4, middle, middle, 1]) == 1.0
    assert float(found[0, 2, 4, middle - 1, middle, 1]) == 1.0
    assert float(found[0, 1, 3, middle, middle + 1, 1]) == 1.0
    assert float(found[0, 1, 3, middle, middle - 1, 1]) == 0.0
    assert not there[0, 0, 0, middle - 1].any()
    assert there[0, 0, 0, middle + 1, middle + 1].all()


def test_statistics_forget_where_and_outlines_do_not():
    """Lines turned by a quarter: the same statistics, other outlines."""
    stripes = 0.5 + 0.4 * torch.sin(torch.arange(32.0))
    upright = stripes.expand(1, 3, 32, 32)
    lying = upright.transpose(2, 3)
    assert torch.allclose(statistics_of(upright)[0][0, 3, 3], statistics_of(lying)[0][0, 3, 3], atol=1e-4)
    assert not torch.allclose(outlines(upright)[0][0, 3, 3], outlines(lying)[0][0, 3, 3], atol=0.1)


def test_words_are_used_by_all_images_and_move_only_in_training():
    torch.manual_seed(0)
    method = build_method("families", build_extractor("unet-8"))
    images = discs(8).images.float().div(255)
    before = method.words.clone()
    method(images, torch.Generator().manual_seed(0))
    assert not torch.equal(method.words, before)
    moved = method.words.clone()
    method.eval()
    method(images, torch.Generator().manual_seed(0))
    assert torch.equal(method.words, moved)


# ---- as an extractor of pretrain -----------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_bytes_and_a_broken_run_ends_as_a_whole_one(tmp_path):
    one = taught(tmp_path / "one", SHORT, extractor="families")

    def stop(step: int, *_: object) -> None:
        if step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        taught(tmp_path / "two", SHORT, extractor="families", told=stop)
    assert str(taught(tmp_path / "two", SHORT, extractor="families")) == str(one)
    assert (tmp_path / "one" / EXTRACTOR).read_bytes() == (tmp_path / "two" / EXTRACTOR).read_bytes()


def test_it_is_saved_and_comes_back_as_it_was(tmp_path, backbone):
    save_extractor(backbone, tmp_path / "e.safetensors")
    again = build_extractor(str(tmp_path / "e.safetensors")).eval()
    assert (again.architecture, again.pretrained) == ("families", True)
    for one, other in zip(backbone(noise(32)).levels, again(noise(32)).levels, strict=True):
        assert torch.equal(one, other)


def test_published_weights_are_refused_and_a_file_is_read(tmp_path, backbone):
    with pytest.raises(PieceError, match="'families' has no published weights: pretrain it"):
        build_extractor("families", pretrained=True)
    save_extractor(backbone, tmp_path / "e.safetensors")
    read = build_extractor("families", weights=tmp_path / "e.safetensors")
    assert torch.equal(read.gate, load_file(tmp_path / "e.safetensors")["gate"])
    assert read.pretrained


def test_an_image_of_a_single_cell_of_the_extractor_is_not_hidden_whole():
    """What hides is of one size for all extractors: a coarse one would else be shown nothing."""
    shown = []
    method = build_method("families", build_extractor("mobilenetv3_small_100"))
    method.student.register_forward_pre_hook(lambda _, given: shown.append(given[0]))
    method(discs(4).images.float().div(255), torch.Generator().manual_seed(0))
    share = float((shown[0] == method.token).all(dim=1).float().mean())
    assert 0.1 < share < 0.3
