"""The catalogue says what the networks are: kinds, strides, parameters, licences; filters and context modules."""

from __future__ import annotations

import math
import re
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from unplateau import api
from unplateau.cli import main
from unplateau.errors import DataError, PieceError, UnplateauError
from unplateau.experiments.ways import Pieces
from unplateau.extractors.cards import CARDS, IN_A_FOLDER, KINDS, OPEN_CLIP, TRANSFORMERS, Card
from unplateau.extractors.catalogue import EXTRACTORS, brings_weights, build_extractor, weight_files
from unplateau.extractors.context import ContextExtractor
from unplateau.extractors.hfclip import transformers_tower
from unplateau.extractors.openclip import OpenClipTower
from unplateau.extractors.squeezenet import squeezenet
from unplateau.extractors.timm import from_timm, licence_of
from unplateau.model import SegmentationModel
from unplateau.training.saved import save_extractor
from unplateau.training.train import build_pieces
from unplateau.types import Level
from unplateau.upgrades.building import built


def build_without_memory(name: str):
    """The network with tensors that have a shape and no numbers."""
    with torch.device("meta"):
        return build_extractor(name)


# ---- cards ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name, card in CARDS.items() if card.source not in IN_A_FOLDER])
def test_every_card_says_what_its_network_is(name):
    made, card = build_without_memory(name), CARDS[name]
    assert made.gives == card.levels
    assert sum(weight.numel() for weight in made.parameters()) == card.parameters
    assert not made.pretrained


@pytest.mark.parametrize("name", [name for name, card in CARDS.items() if card.source == "timm"])
def test_a_licence_and_a_tag_are_those_that_timm_states(name):
    import timm

    rules = timm.get_pretrained_cfg(name)
    assert CARDS[name].licence == licence_of(name) == rules.license
    assert CARDS[name].tag == rules.tag
    assert rules.hf_hub_id == f"timm/{name.partition('.')[0]}.{rules.tag}"
    mean = {"imagenet": 0.485, "minus .5 over .5": 0.5, "openai": 0.48145466}[CARDS[name].preprocessing]
    assert rules.mean[0] == mean


def test_a_card_of_a_folder_says_what_the_network_of_that_folder_is(tmp_path):
    open_clip, transformers = pytest.importorskip("open_clip"), pytest.importorskip("transformers")
    transformers.CLIPConfig().save_pretrained(tmp_path)  # its defaults are of this model
    with torch.device("meta"):  # open_clip itself cannot build a folder's network so
        visual = open_clip.CLIP(**open_clip.get_model_config("ViT-B-32")).visual
        towers = {OPEN_CLIP: OpenClipTower(visual, {}), TRANSFORMERS: transformers_tower(tmp_path, trained=False)}
    for card in (card for card in CARDS.values() if card.source in IN_A_FOLDER):
        tower = towers[card.source]
        assert (Level(tower.facts.embedding, tower.facts.patch),) == card.levels
        assert sum(weight.numel() for weight in tower.parameters()) == card.parameters


def test_every_extractor_of_the_catalogue_has_a_card_and_every_kind_an_extractor():
    assert set(EXTRACTORS) <= set(CARDS)
    assert [kind for kind in KINDS if any(card.kind == kind for card in CARDS.values())] == list(KINDS)
    order = [(KINDS.index(card.kind), card.parameters) for card in CARDS.values()]
    assert [kind for kind, _ in order] == sorted(kind for kind, _ in order)
    for kind in range(1, len(KINDS)):
        sizes = [parameters for own, parameters in order if own == kind]
        assert sizes == sorted(sizes)


def test_what_a_licence_allows_is_said_only_where_it_is_known():
    def allows(licence: str) -> bool | None:
        return Card("supervised", (), 0, licence, "").commercial

    said = {each: allows(each) for each in ("apache-2.0", "mit", "cc-by-nc-4.0", "dinov3-license", "")}
    assert said == {"apache-2.0": True, "mit": True, "cc-by-nc-4.0": False, "dinov3-license": None, "": None}


# ---- the verb ------------------------------------------------------------------------------------------------


def test_the_list_needs_no_network(monkeypatch, capsys):
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("no network")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setenv("COLUMNS", "220")
    assert main(["extractors", "--kind", "self-supervised"]) == 0
    shown = capsys.readouterr().out
    assert "vit_small_patch14_dinov2" in shown
    assert re.search(r"cc-by-nc-4\.0 +NO", shown)
    assert "resnet18" not in shown
    said = {row["name"]: row["weights"] for row in api.extractors()}
    assert said["vit_small_patch14_dinov2"] == "to fetch: timm/vit_small_patch14_dinov2.lvd142m"


def test_commercial_leaves_out_what_forbids_it_and_what_is_not_known():
    names = {row["name"] for row in api.extractors(commercial=True)}
    assert {"resnet18", "unet", "filters"} <= names
    assert not {"vit_base_patch16_224.mae", "vit_small_patch16_dinov3", "squeezenet1_1"} & names
    assert len(api.extractors()) == len(CARDS)


def test_time_is_measured_on_demand():
    rows = api.extractors(kind="classical", measure=True, size=32)
    assert [row["name"] for row in rows] == ["filters"]
    assert 0 < rows[0]["milliseconds"] < 5_000
    assert api.extractors(kind="classical")[0]["milliseconds"] is None


def test_files_of_a_folder_are_listed_with_what_they_are(tmp_path):
    torch.manual_seed(0)
    save_extractor(build_extractor("unet-4"), tmp_path / "a.safetensors")
    save_file({"nonsense": torch.zeros(3)}, tmp_path / "b.safetensors")
    (tmp_path / "notes.txt").write_text("no weights")
    rows = api.extractors(folder=tmp_path)
    assert [Path(row["name"]).name for row in rows] == ["a.safetensors", "b.safetensors"]
    assert (rows[0]["strides"], rows[0]["channels"], rows[0]["weights"]) == ((1,), (4,), "here: unet-4")
    assert "must be of a known architecture" in rows[1]["weights"]


@pytest.mark.parametrize(
    ("given", "error", "says"),
    [
        ({"kind": "selfsupervised"}, UnplateauError, "did you mean 'self-supervised'"),
        ({"size": 1}, UnplateauError, "`size` must be at least"),
        ({"folder": "nowhere"}, DataError, "there is none at 'nowhere'"),
        ({"folder": Path(__file__).parent}, DataError, "must hold files that end in .*tests' holds neither"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(given, error, says):
    with pytest.raises(error, match=says):
        api.extractors(**given)


# ---- weights that are fetched --------------------------------------------------------------------------------


def test_weights_that_forbid_commercial_use_say_so_when_they_are_taken(tmp_path):
    name = "convnextv2_atto.fcmae"
    save_file(from_timm(name).net.state_dict(), tmp_path / "w.safetensors")
    with pytest.warns(UserWarning, match="are under cc-by-nc-4.0, which forbids commercial use"):
        from_timm(name, weights=tmp_path / "w.safetensors")


def test_a_download_without_network_says_which_file_to_place(monkeypatch):
    import timm

    def offline(*_: Any, **__: Any) -> None:
        raise OSError("We couldn't connect")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(PieceError, match=r"Fetch model\.safetensors of 'timm/resnet18\.a1_in1k'.*give its path"):
        build_extractor("resnet18", pretrained=True)


# ---- classical filters ---------------------------------------------------------------------------------------


def test_published_weights_are_asked_for_by_the_same_words_everywhere():
    assert brings_weights("pretrained:resnet18")
    assert not brings_weights("resnet18")
    with pytest.raises(PieceError, match="The weights of 'squeezenet1_1' are not fetched"):
        build_extractor("pretrained:squeezenet1_1")
    with pytest.raises(PieceError, match="of which weights are published; 'unet-8' has none"):
        build_extractor("pretrained:unet-8")


def test_filters_answer_to_what_they_are_for():
    made = build_extractor("filters")
    rows, columns = torch.meshgrid(torch.arange(40.0), torch.arange(48.0), indexing="ij")
    ramp = made((columns / 48).expand(1, 3, 40, 48)).levels[0][0, :, 20, 24]
    assert ramp[3].item() == pytest.approx(1 / 48, rel=1e-4)  # an edge across the columns: the slope
    assert ramp[5].item() == pytest.approx(0, abs=1e-6)  # none along them
    assert ramp[4].item() == pytest.approx(math.cos(math.pi / 4) / 48, rel=1e-3)
    assert torch.allclose(ramp[7:], torch.zeros(4), atol=1e-5)
    bowl = made(((rows - 20) ** 2 / 800).expand(1, 3, 40, 48)).levels[0][0, :, 20, 24]
    assert bowl[9].item() == pytest.approx(2 / 800, rel=1e-3)
    flat = made(torch.full((1, 3, 40, 48), 0.4))
    assert [tuple(maps.shape[1:]) for maps in flat.levels] == [(11, 40, 48), (11, 20, 24), (11, 10, 12)]
    assert all(torch.allclose(maps[:, :3], torch.tensor(0.4), atol=1e-5) for maps in flat.levels)
    assert all(torch.allclose(maps[:, 3:], torch.tensor(0.0), atol=1e-5) for maps in flat.levels)


def test_no_filter_sees_further_than_its_reach():
    made = build_extractor("filters")
    images = torch.rand(1, 3, 16, 96, requires_grad=True)
    for maps in made(images).levels:
        (seen,) = torch.autograd.grad(maps[..., maps.shape[-1] // 2].sum(), images, retain_graph=True)
        columns = torch.nonzero(seen.abs().sum((0, 1, 2))).flatten()
        assert columns.max() - columns.min() + 1 <= made.reach


def test_filters_have_no_weights_to_give():
    assert not list(build_extractor("filters").parameters())
    with pytest.raises(PieceError, match="its filters are fixed"):
        build_extractor("filters", pretrained=True)


# ---- the context module --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["reach-9-4", "vit_tiny_patch16_224", "fused(reach-5-4 + colour)"])
def test_a_context_module_keeps_the_levels_and_sees_the_whole_image(name):
    torch.manual_seed(0)
    inner, made = build_extractor(name), build_extractor(f"context({name})").eval()
    assert made.gives == inner.gives
    assert made.reach == math.inf
    images = torch.rand(1, 3, 64, 96, requires_grad=True)
    maps = made(images).levels
    assert [tuple(each.shape[1:]) for each in maps] == [
        (level.channels, 64 // level.stride, 96 // level.stride) for level in made.gives
    ]
    (seen,) = torch.autograd.grad(maps[0][..., 0, 0].sum(), images)
    assert seen[..., 32:, 48:].abs().sum() > 0
    assert not build_extractor(f"context({name})").pretrained
    again = build_extractor(made.architecture)
    again.load_state_dict(made.state_dict())


@pytest.mark.parametrize("name", ["context(reach-5-4)", "fused(reach-5-4 + colour)"])
def test_a_file_of_an_extractor_made_of_others_is_one(name, tmp_path):
    torch.manual_seed(0)
    made = build_extractor(name).eval()
    save_extractor(made, tmp_path / "e.safetensors")
    again = build_extractor(tmp_path / "e.safetensors").eval()
    assert (again.architecture, again.pretrained) == (made.architecture, True)
    images = torch.rand(1, 3, 32, 32)
    pairs = zip(made(images).levels, again(images).levels, strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


def test_what_is_within_a_context_module_is_frozen_where_it_brings_weights(tmp_path):
    file = tmp_path / "s.safetensors"
    torch.manual_seed(0)
    save_file(squeezenet().state_dict(), file)
    names = (f"context({file})", f"context(trainable:{file})", "context(reach-9-4)", "context(frozen:reach-9-4)")
    made = [build_extractor(name) for name in names]
    assert all(isinstance(each, ContextExtractor) for each in made)
    assert [each.frozen for each in made] == [True, False, False, True]
    for each in made:
        assert any(weight.requires_grad for weight in each.inner.parameters()) != each.frozen
        assert each.train().inner.training != each.frozen
        assert each.join.weight.requires_grad
    assert weight_files(f"context({file})") == weight_files(f"fused(unet + context(trainable:{file}))") == (file,)


def test_a_local_extractor_learns_to_look_elsewhere_in_a_context_module():
    """Which half of the image is bright decides of a disc that is the same on both sides."""
    generator = torch.Generator().manual_seed(0)
    images = torch.full((16, 3, 32, 32), 0.3)
    wanted = torch.randint(0, 2, (16,), generator=generator).float()
    for image, lit in zip(images, wanted, strict=True):
        image[:, :4, :4] = lit
        image[:, 20:26, 20:26] = 0.6

    def learnt(name: str) -> float:
        model = build_pieces(name, "linear", 1, frozen=False, seed=0)
        assert isinstance(model, SegmentationModel)
        optimiser = torch.optim.AdamW(model.parameters(), 5e-3)
        for _ in range(40):
            logits = model.train()(images).logits[:, 0, 20:26, 20:26].mean((1, 2))
            optimiser.zero_grad()
            torch.nn.functional.binary_cross_entropy_with_logits(logits, wanted).backward()
            optimiser.step()
        with torch.no_grad():
            logits = model.eval()(images).logits[:, 0, 20:26, 20:26].mean((1, 2))
        return float(((logits > 0) == (wanted > 0.5)).float().mean())

    assert learnt("context(reach-5-4)") > 0.95
    assert learnt("reach-5-4") < 0.75


def test_more_context_keeps_the_weights_that_a_baseline_brings():
    assert built("more-context", Pieces("reach-27", "linear"), None, alone=False).extractor == "unet"
    brings = Pieces("a.safetensors", "linear", frozen=True)
    made = built("more-context", brings, None, alone=False)
    assert (made.extractor, made.frozen) == ("context(frozen:a.safetensors)", False)


def test_an_empty_context_module_is_refused():
    with pytest.raises(PieceError, match=r"must hold an extractor, such as 'context\(reach-33\)'"):
        build_extractor("context()")
