"""Language-aligned extractors: tiny models saved in both layouts, loaded for real, read as features and by words."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from unplateau import api
from unplateau.cli import main
from unplateau.decoders.catalogue import build_decoder
from unplateau.errors import PieceError
from unplateau.extractors import openclip
from unplateau.extractors.catalogue import build_extractor, weight_files
from unplateau.extractors.clip import ClipExtractor
from unplateau.extractors.frozen import freeze
from unplateau.extractors.towers import CLIP_MEAN, resized
from unplateau.model import SegmentationModel
from unplateau.scenes import scenes, write_folder
from unplateau.training.saved import load_model
from unplateau.types import Characteristics, Level

PATCH, WIDTH, BLOCKS, EMBEDDING = 4, 32, 2, 24
WORDS = ("orange", "ground", "disc")


def save_open_clip(folder: Path) -> Path:
    """A tiny model of open_clip with random weights, as its own tools would save it."""
    import open_clip
    from safetensors.torch import save_file

    vision = {"image_size": 32, "layers": BLOCKS, "width": WIDTH, "head_width": 16, "patch_size": PATCH}
    text = {"context_length": 12, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
    cfg = {"embed_dim": EMBEDDING, "vision_cfg": vision, "text_cfg": text}
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    model = open_clip.CLIP(**cfg)
    preprocess = {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}
    (folder / openclip.CONFIG).write_text(json.dumps({"model_cfg": cfg, "preprocess_cfg": preprocess}))
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, folder / openclip.WEIGHTS[0])
    return folder


def save_transformers(folder: Path) -> Path:
    """A tiny CLIP of transformers with random weights and a tokenizer of letters, in transformers' own layout."""
    from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

    letters = "abcdefghijklmnopqrstuvwxyz"
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps({token: place for place, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    CLIPTokenizer.from_pretrained(folder, local_files_only=True).save_pretrained(folder)
    shared = {"num_attention_heads": 2, "intermediate_size": 2 * WIDTH, "hidden_size": WIDTH}
    end = len(tokens) - 1
    config = CLIPConfig(
        projection_dim=EMBEDDING,
        vision_config={**shared, "image_size": 32, "patch_size": PATCH, "num_hidden_layers": BLOCKS},
        text_config={
            **shared,
            "vocab_size": len(tokens),
            "num_hidden_layers": 1,
            "max_position_embeddings": 12,
            "bos_token_id": end - 1,
            "eos_token_id": end,
            "pad_token_id": end,
        },
    )
    torch.manual_seed(0)
    CLIPModel(config).save_pretrained(folder)
    return folder


SAVED = {"open_clip": save_open_clip, "transformers": save_transformers}


@pytest.fixture(scope="module", params=SAVED)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip(request.param)
    return SAVED[request.param](tmp_path_factory.mktemp("clip") / request.param)


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("planted") / "fire"
    write_folder(scenes("fire", 24, size=(48, 48), seed=1), path)
    return path


def noise(height: int = 32, width: int = 32) -> torch.Tensor:
    return torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(1))


# ---- as features ---------------------------------------------------------------------------------------------


def test_a_folder_in_either_layout_is_an_extractor_at_any_size(folder):
    made = build_extractor(f"clip/{folder}").eval()
    assert isinstance(made, ClipExtractor)
    assert made.gives == (Level(EMBEDDING, PATCH),)
    assert made.pretrained
    assert [tuple(each.shape) for each in made(noise(32, 48)).levels] == [(2, EMBEDDING, 8, 12)]
    several = build_extractor(f"clip/{folder}:0").eval()
    assert several.gives == (Level(WIDTH, PATCH), Level(EMBEDDING, PATCH))
    assert torch.equal(several(noise()).levels[1], made(noise()).levels[0])


def test_with_the_last_attention_left_in_the_class_token_is_that_of_the_library(folder):
    """The tower taken apart computes what the whole network does: only then is its value path that of its weights."""
    made = build_extractor(f"clip/{folder}~attention").eval()
    tokens = made.tower.tokens(made.normalise(noise()))
    for index in range(BLOCKS):
        tokens = made.tower.block(index, tokens, values=False)
    with torch.no_grad():
        theirs = whole(folder, made.normalise(noise()))
    # transformers hands out embeddings of length 1, open_clip as they are: what says something is their direction.
    assert torch.allclose(F.normalize(made.tower.shared(tokens)[:, 0]), F.normalize(theirs), atol=1e-5)


def whole(folder: Path, images: torch.Tensor) -> torch.Tensor:
    if (folder / openclip.CONFIG).is_file():
        import open_clip

        return open_clip.create_model(f"local-dir:{folder}").eval().encode_image(images)
    from transformers import CLIPModel

    return (
        CLIPModel.from_pretrained(folder).eval()(pixel_values=images, input_ids=torch.tensor([[52, 53]])).image_embeds
    )


def test_on_the_value_path_a_cell_of_a_network_of_one_block_sees_itself_alone(folder):
    """All that mixes cells is the attention of the blocks before: none here."""
    made = build_extractor(f"clip/{folder}").eval()
    images = noise().requires_grad_()
    tokens = made.tower.block(BLOCKS - 1, made.tower.tokens(images), values=True)
    (seen,) = torch.autograd.grad(made.tower.shared(tokens)[:, 1].sum(), images)
    assert torch.nonzero(seen.abs().sum((0, 1))).max() < PATCH
    mixed = made.tower.block(BLOCKS - 1, made.tower.tokens(images), values=False)
    (seen,) = torch.autograd.grad(made.tower.shared(mixed)[:, 1].sum(), images)
    assert torch.nonzero(seen.abs().sum((0, 1))).max() == 31


def test_positions_keep_their_place_on_another_grid():
    ramp = torch.arange(64.0).reshape(64, 1)
    positions = torch.cat([torch.full((1, 1), -1.0), ramp])
    assert resized(positions, 8, 8) is positions
    wide = resized(positions, 8, 16)
    assert float(wide[0]) == -1
    assert wide[1:].reshape(8, 16)[4, 8] == pytest.approx(32 + 3.75, abs=0.3)


def test_the_images_are_normalised_as_the_folder_says(folder):
    mean = build_extractor(f"clip/{folder}").normalise.mean.flatten().tolist()
    assert mean == pytest.approx([0.5] * 3 if (folder / openclip.CONFIG).is_file() else CLIP_MEAN)


def test_the_same_network_with_random_weights_has_another_name(folder):
    made = build_extractor(f"clip/{folder}:0~attention")
    assert made.architecture == f"clip-like/{folder}:0~attention"
    control = build_extractor(made.architecture)
    assert (control.gives, control.pretrained) == (made.gives, False)
    same = [torch.equal(a, b) for a, b in zip(made.parameters(), control.parameters(), strict=True)]
    assert not all(same)
    assert control.embed(("a", "b")).shape == (2, EMBEDDING)


def test_outcomes_depend_on_the_files_of_the_folder(folder):
    assert len(weight_files(f"clip/{folder}")) == 2
    assert weight_files(f"fused(unet + clip/{folder})") == weight_files(f"clip/{folder}")


def test_it_can_be_fused(folder):
    made = build_extractor(f"fused(reach-5-4 + clip/{folder})")
    assert made.pretrained
    assert made.frozen == (False, True)
    assert len(made(noise()).levels) == 3


# ---- by words ------------------------------------------------------------------------------------------------


def test_words_mean_directions_and_each_another(folder):
    meant = build_extractor(f"clip/{folder}").embed(WORDS)
    assert meant.shape == (3, EMBEDDING)
    assert meant.norm(dim=1).tolist() == pytest.approx([1, 1, 1], abs=1e-5)
    assert float((meant @ meant.T).fill_diagonal_(0).max()) < 0.9999


def test_a_cell_that_means_a_word_answers_to_it():
    torch.manual_seed(0)
    decoder = build_decoder("queries(a, b, c)", (Level(8, 4),), 3)
    decoder.hear(torch.eye(3, 8))
    cells = 5 * torch.eye(3, 8).T.reshape(1, 8, 1, 3)  # three cells, each the direction of one word, however long
    logits = decoder(Characteristics((cells,), (4,)), (1, 3)).logits
    assert logits.argmax(1).flatten().tolist() == [0, 1, 2]
    assert float(logits.detach().max()) == pytest.approx(1 / 0.07, rel=1e-4)
    binary = build_decoder("queries(a, b)", (Level(8, 4),), 1)
    binary.hear(torch.eye(2, 8))
    assert (binary(Characteristics((cells,), (4,)), (1, 3)).logits.flatten().sign()[:2]).tolist() == [1, -1]


def test_the_model_asks_the_extractor_what_the_words_mean(folder):
    extractor = build_extractor(f"clip/{folder}")
    for piece in (extractor, freeze(extractor)):
        decoder = build_decoder("queries(orange, ground)", extractor.gives, 1)
        model = SegmentationModel(piece, decoder)
        assert torch.equal(decoder.get_buffer("meant"), extractor.embed(("orange", "ground")))
        assert model(noise(30, 45)).logits.shape == (2, 1, 30, 45)


def test_class_names_as_queries_segment_planted_scenes_after_light_training(folder, planted, tmp_path):
    """Against what everything positive would score."""
    facts = api.train(
        planted,
        extractor=f"clip/{folder}",
        decoder="queries(orange, ground)",
        out=tmp_path / "m",
        size=48,
        steps=40,
        recipe="learning_rate=5e-3, batch=6, evaluations=2",
    )
    chance = np.mean([(each.mask == 1).mean() for each in scenes("fire", 24, size=(48, 48), seed=1)])
    assert facts["iou"] > chance + 0.15
    again = load_model(tmp_path / "m")
    assert again.decoder == "queries(orange, ground)"
    own = build_extractor(f"clip/{folder}").embed(("orange", "ground"))
    assert torch.equal(again.model.decoder.get_buffer("meant"), own)  # as trained, not of the random control


# ---- what cannot be ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "outputs", "says"),
    [
        ("queries()", 1, "must name classes that differ"),
        ("queries(a, a)", 1, "must name classes that differ"),
        ("queries(a, b)", 3, r"each of the 3 classes of the task in their order; got 2: a, b"),
    ],
)
def test_queries_that_cannot_be_are_refused(name, outputs, says):
    with pytest.raises(PieceError, match=says):
        build_decoder(name, (Level(8, 4),), outputs)


def test_words_need_an_extractor_that_knows_them(capsys, tmp_path, planted):
    said = ["train", str(planted), "--extractor", "reach-5-4", "--decoder", "queries(fire, water)"]
    assert main([*said, "--out", str(tmp_path / "out")]) == 2
    told = capsys.readouterr().err
    assert "'reach-5-4' knows no 'fire'. Take 'clip/FOLDER'" in told
    assert told.count("\n") == 1


def test_a_space_of_another_size_is_refused():
    with pytest.raises(PieceError, match="of 8 channels; they have 5"):
        build_decoder("queries(a)", (Level(8, 4),), 1).hear(torch.zeros(1, 5))


def test_a_folder_in_no_layout_says_what_to_place_there(tmp_path):
    with pytest.raises(PieceError, match=r"must stand a folder with open_clip_config\.json.*holds neither. Place"):
        build_extractor(f"clip/{tmp_path}")


@pytest.mark.parametrize(
    ("missing", "says"),
    [
        ("open_clip_model.safetensors", r"place open_clip_model\.safetensors or open_clip_pytorch_model\.bin there"),
        ("model.safetensors", r"place model\.safetensors there, beside config\.json"),
    ],
)
def test_a_folder_without_weights_says_which_file_to_place(missing, says, folder, tmp_path):
    if not (folder / missing).is_file():
        pytest.skip("of the other layout")
    shutil.copytree(folder, tmp_path / "copy")
    (tmp_path / "copy" / missing).unlink()
    with pytest.raises(PieceError, match=says):
        build_extractor(f"clip/{tmp_path / 'copy'}")


def test_damaged_weights_are_named_in_one_sentence(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "copy")
    file = next((tmp_path / "copy").glob("*.safetensors"))
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(PieceError, match=r"must hold a (?:CLIP )?model.*Save it again\.$"):
        build_extractor(f"clip/{tmp_path / 'copy'}")


def test_a_block_that_is_not_there_is_refused(folder):
    with pytest.raises(PieceError, match="blocks from 0 to 0 of"):
        build_extractor(f"clip/{folder}:1")


def test_a_tokenizer_that_is_missing_is_named(tmp_path):
    pytest.importorskip("transformers")
    path = save_transformers(tmp_path / "copy")
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt", "special_tokens_map.json"):
        (path / name).unlink(missing_ok=True)
    with pytest.raises(PieceError, match=r"must hold the tokenizer of its model.*tokenizer\.json"):
        build_extractor(f"clip/{path}").embed(("a",))
