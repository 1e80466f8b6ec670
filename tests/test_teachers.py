"""Each layout is written to a file from a tiny network; what is loaded must say what that network says."""

from __future__ import annotations

import re
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from timm.layers import SwiGLUPacked, resample_abs_pos_embed
from timm.models import register_model
from timm.models.resnet import Bottleneck, ResNet, _create_resnet
from timm.models.vision_transformer import VisionTransformer, _create_vision_transformer
from torch import Tensor, nn

from unplateau.errors import PieceError
from unplateau.extractors.base import AbstractExtractor
from unplateau.extractors.catalogue import build_extractor
from unplateau.extractors.layouts import LAYOUTS
from unplateau.extractors.teachers import Loaded, Spelling, load_teacher
from unplateau.extractors.timm import TimmExtractor

HALF = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5), "input_size": (3, 32, 32), "fixed_input_size": True}
default_cfgs = {
    name: {**HALF, "first_conv": "patch_embed.proj", "classifier": "head", "num_classes": 5}
    for name in ("tiny_vit", "tiny_vit_scaled", "tiny_vit_wide_grid", "tiny_vit_registers", "tiny_vit_gated")
}
TINY: dict[str, Any] = {"patch_size": 8, "embed_dim": 48, "depth": 3, "num_heads": 4, "mlp_ratio": 2}


def vit(name: str, pretrained: bool, **options: Any) -> VisionTransformer:
    net: VisionTransformer = _create_vision_transformer(name, pretrained=pretrained, **{**TINY, **options})
    return net


@register_model
def tiny_vit(pretrained: bool = False, **options: Any) -> VisionTransformer:
    return vit("tiny_vit", pretrained, **options)


@register_model
def tiny_vit_scaled(pretrained: bool = False, **options: Any) -> VisionTransformer:
    return vit("tiny_vit_scaled", pretrained, **{"init_values": 0.1, **options})


@register_model
def tiny_vit_wide_grid(pretrained: bool = False, **options: Any) -> VisionTransformer:
    return vit("tiny_vit_wide_grid", pretrained, **{**options, "img_size": 56})


@register_model
def tiny_vit_registers(pretrained: bool = False, **options: Any) -> VisionTransformer:
    return vit(
        "tiny_vit_registers", pretrained, **{"init_values": 0.1, "reg_tokens": 3, "no_embed_class": True, **options}
    )


@register_model
def tiny_vit_gated(pretrained: bool = False, **options: Any) -> VisionTransformer:
    return vit("tiny_vit_gated", pretrained, **{"mlp_layer": SwiGLUPacked, "act_layer": nn.SiLU, **options})


default_cfgs["plain_resnet"] = {**HALF, "fixed_input_size": False, "first_conv": "conv1", "classifier": "fc"}
default_cfgs["tiny_vit_small"] = default_cfgs["tiny_vit"]


@register_model
def plain_resnet(pretrained: bool = False, **options: Any) -> ResNet:
    """Bottlenecks behind a plain stem, as ResNet-50, but as small as can be."""
    settings = {"block": Bottleneck, "layers": (1, 2, 1, 1), "channels": (8, 8, 16, 16)}
    net: ResNet = _create_resnet("plain_resnet", pretrained, **{**settings, **options})
    return net


@register_model
def tiny_vit_small(pretrained: bool = False, **options: Any) -> VisionTransformer:
    return vit("tiny_vit_small", pretrained, **{"embed_dim": 384, "num_heads": 6, **options})


# ---- helpers -------------------------------------------------------------------------------------------------


def shaken(spelling: str, seed: int = 0) -> TimmExtractor:
    """The extractor of this name with every tensor random, small ones and statistics too."""
    extractor = build_extractor(f"timm/{spelling}")
    assert isinstance(extractor, TimmExtractor)
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in extractor.net.state_dict().items():
        if tensor.is_floating_point():
            noise = torch.randn(tensor.shape, generator=generator)
            tensor.copy_(noise.abs() + 0.5 if name.endswith("running_var") else noise * 0.2)
    return extractor.eval()


def state_of(extractor: TimmExtractor) -> dict[str, Tensor]:
    """Its tensors under the names of the bare network."""
    return {name.removeprefix("model."): tensor.clone() for name, tensor in extractor.net.state_dict().items()}


def images(side: int = 32) -> Tensor:
    return torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(9))


def same(one: AbstractExtractor, other: AbstractExtractor, side: int = 32) -> bool:
    with torch.no_grad():
        pairs = zip(one.eval()(images(side)).levels, other.eval()(images(side)).levels, strict=True)
        return all(torch.allclose(left, right, atol=1e-6) for left, right in pairs)


def under(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in state.items()}


def other(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Another copy: what a student holds."""
    return {name: tensor + 1 if tensor.is_floating_point() else tensor for name, tensor in state.items()}


def renamed(state: dict[str, Tensor], *rules: tuple[str, str]) -> dict[str, Tensor]:
    result = {}
    for name, tensor in state.items():
        for pattern, replacement in rules:
            name = re.sub(pattern, replacement, name)
        result[name] = tensor
    return result


def split_attention(state: dict[str, Tensor], before: str, names: tuple[str, str, str]) -> dict[str, Tensor]:
    """Query, key and value apart, as transformers has them."""
    result = {}
    for name, tensor in state.items():
        if ".attn.qkv." in name:
            for part, chunk in zip(names, tensor.chunk(3), strict=True):
                result[name.replace(".attn.qkv.", f".{before}{part}.")] = chunk
        else:
            result[name] = tensor
    return result


HEAD = {"mlp.0.weight": torch.ones(7, 48), "mlp.0.bias": torch.ones(7), "last_layer.weight_v": torch.ones(9, 7)}


# ---- the layouts, as each method writes them -------------------------------------------------------------------


def dino(state: dict[str, Tensor]) -> dict[str, Any]:
    return {
        "student": under("module.backbone.", other(state)) | under("module.head.", HEAD),
        "teacher": under("backbone.", state) | under("head.", HEAD),
        "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": [{"lr": 0.1}]},
        "epoch": 3,
        "args": Namespace(arch="vit_tiny", lr=0.1),
        "dino_loss": {"center": torch.zeros(1, 9)},
    }


def dinov2(state: dict[str, Tensor]) -> dict[str, Any]:
    chunked = renamed(state, (r"^blocks\.(\d+)\.", r"blocks.\1.\1."))
    heads = under("dino_head.", HEAD) | under("ibot_head.", HEAD)
    return {"teacher": under("backbone.", chunked | {"mask_token": torch.ones(1, 48)}) | heads}


def dinov2_registers(state: dict[str, Tensor]) -> dict[str, Any]:
    """The original adds a position to the class token, timm's does not: give it one and take it off again."""
    added = torch.full((1, 1, 48), 0.3)
    positions = torch.cat([added, state["pos_embed"]], dim=1)
    changed = state | {"cls_token": state["cls_token"] - added, "pos_embed": positions}
    return renamed(changed, (r"^reg_token$", "register_tokens")) | {"mask_token": torch.ones(1, 48)}


def dinov2_gated(state: dict[str, Tensor]) -> dict[str, Any]:
    return renamed(state, (r"mlp\.fc1", "mlp.w12"), (r"mlp\.fc2", "mlp.w3"))


def ibot(state: dict[str, Tensor]) -> dict[str, Any]:
    ours = renamed(state, (r"\.ls([12])\.gamma$", r".gamma_\1"))
    student = under("module.backbone.", other(ours) | {"masked_embed": torch.ones(1, 48)})
    return {"student": student, "teacher": under("backbone.", ours) | under("head.", HEAD), "args": Namespace(lr=1.0)}


def mae(state: dict[str, Tensor]) -> dict[str, Any]:
    decoder = {f"decoder_blocks.{n}.norm1.weight": torch.ones(24) for n in range(8)}
    # As wide as the encoder and deeper: only its name tells it apart.
    decoder |= {f"decoder_blocks.{n}.attn.qkv.weight": torch.ones(144, 48) for n in range(8)}
    decoder |= {"decoder_embed.weight": torch.ones(24, 48), "decoder_pos_embed": torch.ones(1, 17, 24)}
    return {"model": state | decoder | {"mask_token": torch.ones(1, 1, 24)}, "args": Namespace(mask_ratio=0.75)}


def mocov3(state: dict[str, Tensor]) -> dict[str, Any]:
    head = {"head.0.weight": torch.ones(7, 48), "head.1.running_mean": torch.ones(7)}
    return {
        "epoch": 300,
        "arch": "vit_base",
        "state_dict": under("module.base_encoder.", other(state) | head)
        | under("module.momentum_encoder.", state | head)
        | {"module.predictor.0.weight": torch.ones(7, 7)},
    }


def lightly_vit(state: dict[str, Tensor]) -> dict[str, Any]:
    def backbone(copy: dict[str, Tensor]) -> dict[str, Tensor]:
        return under("vit.", copy) | {"mask_token": torch.ones(1, 1, 48)}

    student, teacher = under("student_backbone.", backbone(other(state))), under("teacher_backbone.", backbone(state))
    heads = under("teacher_head.", HEAD) | under("student_head.", HEAD)
    return {"epoch": 1, "global_step": 9, "pytorch-lightning_version": "2.5.0", "state_dict": teacher | student | heads}


def lightly_resnet(state: dict[str, Tensor]) -> dict[str, Any]:
    children = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5", "layer3": "6", "layer4": "7"}
    ours = {children[name.split(".")[0]] + name[name.index(".") :]: tensor for name, tensor in state.items()}
    heads = {"projection_head.layers.0.weight": torch.ones(4, 4)}
    return {"state_dict": under("backbone.", other(ours)) | under("backbone_momentum.", ours) | heads}


def timm_average(state: dict[str, Tensor]) -> dict[str, Any]:
    return {"epoch": 9, "arch": "x", "args": Namespace(lr=1.0), "state_dict": other(state), "state_dict_ema": state}


def compiled(state: dict[str, Tensor]) -> dict[str, Any]:
    return {"state_dict": under("module._orig_mod.", state)}


COMMON = (
    (r"^(cls_token|mask_token)$", r"embeddings.\1"),
    (r"^reg_token$", "embeddings.register_tokens"),
    (r"^pos_embed$", "embeddings.position_embeddings"),
    (r"^patch_embed\.proj\.", "embeddings.patch_embeddings.projection."),
    (r"^norm\.", "layernorm."),
)
BEFORE_5 = (
    (r"\.attn\.proj\.", ".attention.output.dense."),
    (r"^blocks\.", "encoder.layer."),
)
FROM_5 = (
    (r"\.attn\.proj\.", ".attention.o_proj."),
    (r"^blocks\.", "layers."),
)
NORMS = ((r"\.norm1\.", ".layernorm_before."), (r"\.norm2\.", ".layernorm_after."))
OLD_MLP = ((r"\.mlp\.fc1\.", ".intermediate.dense."), (r"\.mlp\.fc2\.", ".output.dense."))
SCALES = ((r"\.ls([12])\.gamma$", r".layer_scale\1.lambda1"),)


def hugging_vit(state: dict[str, Tensor]) -> dict[str, Any]:
    apart = split_attention(state, "attention.attention.", ("query", "key", "value"))
    return under("vit.", renamed(apart, *COMMON, *BEFORE_5, *NORMS, *OLD_MLP))


def hugging_vit_5(state: dict[str, Tensor]) -> dict[str, Any]:
    return renamed(split_attention(state, "attention.", ("q_proj", "k_proj", "v_proj")), *COMMON, *FROM_5, *NORMS)


def hugging_mae(state: dict[str, Tensor]) -> dict[str, Any]:
    decoder = {"decoder.decoder_layers.0.attention.attention.query.weight": torch.ones(24, 24)}
    return hugging_vit(state) | decoder | {"decoder.mask_token": torch.ones(1, 1, 24)}


def hugging_dinov2(state: dict[str, Tensor]) -> dict[str, Any]:
    apart = split_attention(state, "attention.attention.", ("query", "key", "value"))
    return renamed(apart, *COMMON, *BEFORE_5, *SCALES) | {"embeddings.mask_token": torch.ones(1, 48)}


def hugging_registers(state: dict[str, Tensor]) -> dict[str, Any]:
    changed = renamed(dinov2_registers(state), ("^register_tokens$", "reg_token"))
    return under("dinov2_with_registers.", hugging_dinov2(changed))


def hugging_gated(state: dict[str, Tensor]) -> dict[str, Any]:
    return renamed(hugging_dinov2(state), (r"mlp\.fc1", "mlp.weights_in"), (r"mlp\.fc2", "mlp.weights_out"))


def hugging_gated_5(state: dict[str, Tensor]) -> dict[str, Any]:
    result = {}
    for name, tensor in hugging_vit_5(state).items():
        if ".mlp.fc1." in name:
            for part, chunk in zip(("gate_proj", "up_proj"), tensor.chunk(2), strict=True):
                result[name.replace("fc1", part)] = chunk
        else:
            result[name.replace("mlp.fc2", "mlp.down_proj").replace("layernorm_before", "norm1")] = tensor
    return renamed(result, (r"layernorm_after", "norm2"), (r"^layers\.", "encoder.layer."))


def hugging_resnet(state: dict[str, Tensor]) -> dict[str, Any]:
    def less(match: re.Match[str]) -> str:
        kind = {"conv": "convolution", "bn": "normalization"}[match[1]]
        return f".layer.{int(match[2]) - 1}.{kind}."

    stages = {f"layer{n}.": f"encoder.stages.{n - 1}.layers." for n in (1, 2, 3, 4)}
    result = {}
    for name, tensor in state.items():
        name = re.sub(r"\.downsample\.0\.", ".shortcut.convolution.", name)
        name = re.sub(r"\.downsample\.1\.", ".shortcut.normalization.", name)
        name = re.sub(r"\.(conv|bn)([123])\.", less, name)
        name = re.sub(r"^conv1\.", "embedder.embedder.convolution.", name)
        name = re.sub(r"^bn1\.", "embedder.embedder.normalization.", name)
        result[next((stages[each] + name[len(each) :] for each in stages if name.startswith(each)), name)] = tensor
    return under("resnet.", result) | {"classifier.1.weight": torch.ones(5, 7)}


Writer = Callable[[dict[str, Tensor]], dict[str, Any]]
CASES: dict[str, tuple[str, Writer, str, str]] = {
    "dino": ("tiny_vit", dino, "timm", "teacher"),
    "dino, backbone alone": ("tiny_vit", dict, "timm", ""),
    "dino, resnet": ("test_resnet", dino, "timm", "teacher"),
    "dinov2, chunks of blocks": ("tiny_vit_scaled", dinov2, "dinov2", "teacher"),
    "dinov2, registers": ("tiny_vit_registers", dinov2_registers, "dinov2", ""),
    "dinov2, gated": ("tiny_vit_gated", dinov2_gated, "dinov2", ""),
    "ibot, layer scale": ("tiny_vit_scaled", ibot, "ibot", "teacher"),
    "ibot": ("tiny_vit", ibot, "timm", "teacher"),
    "mae": ("tiny_vit", mae, "timm", ""),
    "moco v3": ("tiny_vit", mocov3, "timm", "teacher"),
    "moco v3, resnet": ("test_resnet", mocov3, "timm", "teacher"),
    "lightly": ("tiny_vit", lightly_vit, "timm", "teacher"),
    "lightly, resnet": ("plain_resnet", lightly_resnet, "sequential", "teacher"),
    "lightly, resnet with a deep stem": ("resnet10t", lightly_resnet, "sequential", "teacher"),
    "timm, average": ("test_convnext", timm_average, "timm", "teacher"),
    "compiled": ("tiny_vit", compiled, "timm", ""),
    "transformers vit": ("tiny_vit", hugging_vit, "transformers", ""),
    "transformers vit from 5": ("tiny_vit", hugging_vit_5, "transformers", ""),
    "transformers mae": ("tiny_vit", hugging_mae, "transformers", ""),
    "transformers dinov2": ("tiny_vit_scaled", hugging_dinov2, "transformers", ""),
    "transformers registers": ("tiny_vit_registers", hugging_registers, "transformers", ""),
    "transformers gated": ("tiny_vit_gated", hugging_gated, "transformers", ""),
    "transformers gated from 5": ("tiny_vit_gated", hugging_gated_5, "transformers", ""),
    "transformers resnet": ("plain_resnet", hugging_resnet, "transformers", ""),
}


@pytest.mark.parametrize(("network", "write", "layout", "branch"), CASES.values(), ids=CASES)
def test_a_teacher_says_what_the_network_said_that_was_saved(network, write, layout, branch, tmp_path):
    source = shaken(f"{network}~imagenet")
    path = tmp_path / "teacher.pth"
    torch.save(write(state_of(source)), path)
    loaded, found = load_teacher(path, network, preprocessing="imagenet")
    assert same(loaded, source)
    assert (found.layout, found.branch, found.share, found.missing) == (layout, branch, 1.0, ())
    assert loaded.pretrained


def test_every_layout_is_tried():
    assert {layout for _, _, layout, _ in CASES.values()} | {"torchvision"} == {layout.name for layout in LAYOUTS}


@pytest.mark.parametrize("write", [dino, ibot, mocov3, lightly_vit, timm_average], ids=lambda each: each.__name__)
def test_the_student_is_taken_when_asked_for(write, tmp_path):
    source = shaken("tiny_vit")
    torch.save(write(state_of(source)), path := tmp_path / "both.pth")
    student, found = load_teacher(path, "tiny_vit", branch="student")
    assert found.branch == "student"
    assert torch.equal(student.net.state_dict()["model.cls_token"], source.net.state_dict()["model.cls_token"] + 1)


@pytest.mark.parametrize("write", [hugging_vit, dinov2, mae], ids=lambda each: each.__name__)
def test_safetensors_are_read_as_well(write, tmp_path):
    source = shaken("tiny_vit~imagenet")
    written = write(state_of(source))
    flat = {**written.get("teacher", written.get("model", written))}
    save_file(
        {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in flat.items()},
        path := tmp_path / "t.safetensors",
    )
    assert same(load_teacher(path, "timm/tiny_vit")[0], source)


def test_torchvisions_own_transformer_is_followed_number_by_number(tmp_path):
    from torchvision.models.vision_transformer import VisionTransformer as TheirVisionTransformer

    torch.manual_seed(0)
    theirs = TheirVisionTransformer(32, 8, num_layers=3, num_heads=4, hidden_dim=48, mlp_dim=96).eval()
    torch.nn.init.normal_(theirs.class_token)
    torch.save({"state_dict": under("backbone.vit.", theirs.state_dict())}, path := tmp_path / "tv.pth")
    loaded, found = load_teacher(path, "tiny_vit", levels=(2,))
    assert (found.layout, found.share) == ("torchvision", 1.0)
    tokens = theirs._process_input(loaded.normalise(images()))
    tokens = torch.cat([theirs.class_token.expand(2, -1, -1), tokens], dim=1) + theirs.encoder.pos_embedding
    with torch.no_grad():
        expected = theirs.encoder.layers(tokens)[:, 1:].mT.reshape(2, 48, 4, 4)
        assert torch.allclose(loaded.eval()(images()).levels[0], expected, atol=1e-5)


# ---- position embeddings -------------------------------------------------------------------------------------


@pytest.mark.parametrize("write", [dino, hugging_vit], ids=lambda each: each.__name__)
def test_position_embeddings_are_resized_as_timm_resizes_them(write, tmp_path):
    source = shaken("tiny_vit_wide_grid~imagenet")
    torch.save(write(state_of(source)), path := tmp_path / "wide.pth")
    loaded, found = load_teacher(path, "tiny_vit")
    assert found.resized == (7, 7)
    ours, theirs = (each.net.state_dict()["model.pos_embed"] for each in (loaded, source))
    assert torch.equal(ours[:, :1], theirs[:, :1])
    assert torch.allclose(ours, resample_abs_pos_embed(theirs, [4, 4]), atol=1e-6)
    # The network resamples by itself when an image asks for another grid, so the source says this directly.
    assert same(loaded, source)


def test_a_constant_field_of_positions_stays_itself(tmp_path):
    source = shaken("tiny_vit_wide_grid~imagenet")
    source.net.state_dict()["model.pos_embed"].fill_(0.7)
    torch.save(state_of(source), path := tmp_path / "constant.pth")
    assert same(load_teacher(path, "tiny_vit")[0], source)


def test_a_network_that_gives_its_class_token_a_position_takes_one_without(tmp_path):
    source = shaken("tiny_vit")
    state = state_of(source)
    torch.save(state | {"pos_embed": state["pos_embed"][:, 1:]}, path := tmp_path / "none.pth")
    loaded, _ = load_teacher(path, "tiny_vit")
    assert not loaded.net.state_dict()["model.pos_embed"][:, 0].any()


# ---- what the numbers mean: normalisation and heads ------------------------------------------------------------


def classified(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return state | {"head.weight": torch.ones(5, 48), "head.bias": torch.ones(5)}


@pytest.mark.parametrize(
    ("write", "asked", "expected"),
    [
        (dino, "", "imagenet"),
        (dict, "", "imagenet"),
        (classified, "", "timm"),
        (classified, "imagenet", "imagenet"),
        (mae, "timm", "timm"),
        (lambda state: mocov3(classified(state)), "", "imagenet"),
        (lambda state: hugging_vit(state) | {"vit.pooler.dense.weight": torch.ones(48, 48)}, "", "timm"),
    ],
)
def test_a_teacher_sees_images_normalised_as_it_was_trained(write, asked, expected, tmp_path):
    torch.save(write(state_of(shaken("tiny_vit"))), path := tmp_path / "t.pth")
    loaded, found = load_teacher(path, "tiny_vit", preprocessing=asked)
    assert found.preprocessing == expected
    assert loaded.normalise.mean.flatten()[0] == pytest.approx(0.485 if expected == "imagenet" else 0.5)
    assert ("~imagenet" in loaded.architecture) == (expected == "imagenet")


def test_moco_v3_splits_a_small_transformer_in_twelve(tmp_path):
    source = shaken("tiny_vit_small~imagenet~heads12")
    torch.save(mocov3(state_of(source)), path := tmp_path / "moco.pth")
    loaded, _ = load_teacher(path, "tiny_vit_small")
    assert same(loaded, source)
    assert loaded.architecture == "timm/tiny_vit_small~imagenet~heads12"
    torch.save(dino(state_of(source)), path)
    assert not same(load_teacher(path, "tiny_vit_small")[0], source)
    assert same(load_teacher(path, "tiny_vit_small", heads=12)[0], source)


# ---- names ---------------------------------------------------------------------------------------------------


def test_a_teacher_is_built_by_name_and_again_from_its_architecture(tmp_path):
    source = shaken("tiny_vit:0,1~imagenet~heads2")
    torch.save(dino(state_of(source)), path := tmp_path / "d.pth")
    loaded = build_extractor(f"timm/tiny_vit:0,1~heads2@{path}", pretrained=True)
    assert same(loaded, source)
    assert loaded.architecture == "timm/tiny_vit:0,1~imagenet~heads2"
    again = build_extractor(loaded.architecture)
    assert not again.pretrained
    again.load_state_dict(loaded.state_dict())
    assert same(again, source)


def test_chosen_levels_need_no_later_blocks(tmp_path):
    torch.save(state_of(shaken("tiny_vit")), path := tmp_path / "d.pth")
    _, found = load_teacher(path, "tiny_vit", levels=(0,))
    assert {name.split(".")[1] for name in found.unexpected} == {"1", "2"}


def test_a_name_is_taken_apart():
    spelling = Spelling.of("timm/net.tag:1,-1~timm~heads3@a/b@c.pth")
    assert spelling == Spelling("net.tag", (1, -1), "timm", 3, Path("a/b@c.pth"))
    assert spelling.architecture == "timm/net.tag:1,-1~heads3"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("timm/tiny_vit~lab", r"'~' must stand 'imagenet'.*'lab'"),
        ("timm/tiny_vit~heads0", r"'heads0'"),
        ("timm/tiny_vit:a", r"levels such as.*'a'"),
        ("timm/tiny_vit~heads5", r"`heads` must divide.*48.*got 5"),
        ("timm/test_resnet~heads2", r"`heads`.*has none"),
        ("timm/tiny_vit@nowhere.pth", r"nothing is at 'nowhere.pth'"),
    ],
)
def test_a_name_that_spells_nothing_is_refused(name, says):
    with pytest.raises(PieceError, match=says):
        build_extractor(name)


# ---- what is reported and what is refused ----------------------------------------------------------------------


def test_what_did_not_fit_is_reported(tmp_path):
    state = state_of(shaken("tiny_vit"))
    del state["blocks.1.norm2.bias"]
    torch.save(dino(state), path := tmp_path / "d.pth")
    with pytest.warns(UserWarning, match=r"d.pth lacks 'model.blocks.1.norm2.bias'.*stay random"):
        _, found = load_teacher(path, "tiny_vit")
    assert isinstance(found, Loaded)
    assert found.missing == ("model.blocks.1.norm2.bias",)
    assert len(found.matched) == len(state)
    values = sum(tensor.numel() for tensor in state.values())
    assert found.share == pytest.approx(values / (values + 48))


def test_heads_and_mask_tokens_are_reported_as_unexpected(tmp_path):
    torch.save(lightly_vit(classified(state_of(shaken("tiny_vit")))), path := tmp_path / "l.pth")
    _, found = load_teacher(path, "tiny_vit")
    start = "state_dict.teacher_backbone.vit.head."
    assert found.unexpected == (start + "weight", start + "bias")


def without(*words: str) -> Writer:
    return lambda state: {name: each for name, each in state.items() if not any(word in name for word in words)}


def grown(extra: dict[str, Tensor]) -> Writer:
    return lambda state: state | extra


BAD: dict[str, tuple[str, str, Writer, str]] = {
    "a block is gone": ("tiny_vit", "tiny_vit", without("blocks.1."), r"at least 95%.*holds 7\d.\d%.*blocks.1"),
    "no positions": ("tiny_vit", "tiny_vit", without("pos_embed"), r"every feature.*'model.pos_embed'"),
    "no patches": ("tiny_vit", "tiny_vit", without("patch_embed"), r"holds|every feature"),
    "no statistics": ("test_resnet", "test_resnet", without("running_mean"), r"every feature.*running_mean"),
    "no scale": ("tiny_vit", "tiny_vit_scaled", dict, r"every feature.*ls1.gamma"),
    "a scale": ("tiny_vit_scaled", "tiny_vit", dict, r"also holds 'blocks.0.ls1.gamma'.*no place"),
    "no registers": ("tiny_vit_scaled", "tiny_vit_registers", dict, r"every feature.*'model.reg_token'"),
    "registers": ("tiny_vit_registers", "tiny_vit_scaled", dinov2_registers, r"also holds 'register_tokens'"),
    "deeper": (
        "tiny_vit",
        "tiny_vit",
        lambda state: state | renamed(without("blocks.0", "blocks.2")(state), (r"blocks\.1", "blocks.3")),
        r"also holds 'blocks.3",
    ),
    "a longer stage": (
        "plain_resnet",
        "plain_resnet",
        lambda state: state | {n.replace("layer2.1", "layer2.2"): t for n, t in state.items() if "layer2.1" in n},
        r"also holds 'layer2.2",
    ),
    "another width": ("tiny_vit", "test_vit", dict, r"shapes of timm/test_vit; \d+ tensors differ, first 'cls_token'"),
    "another patch": (
        "tiny_vit",
        "tiny_vit",
        lambda state: state | {"patch_embed.proj.weight": torch.ones(48, 3, 4, 4)},
        r"'patch_embed.proj.weight': \(48, 3, 4, 4\) in the file",
    ),
    "positions of no grid": (
        "tiny_vit",
        "tiny_vit",
        lambda state: state | {"pos_embed": torch.ones(1, 21, 48)},
        r"'pos_embed': \(1, 21, 48\) in the file",
    ),
    "another family": ("test_resnet", "tiny_vit", dict, r"is known under any layout"),
    "a head": ("tiny_vit", "tiny_vit", lambda _: HEAD, r"none of its 3, such as 'mlp.0.weight'"),
}


@pytest.mark.parametrize(("saved", "network", "write", "says"), BAD.values(), ids=BAD)
def test_what_is_not_the_teacher_is_refused_in_one_sentence(saved, network, write, says, tmp_path):
    torch.save(write(state_of(shaken(saved))), path := tmp_path / "bad.pth")
    with pytest.raises(PieceError, match=says) as caught:
        load_teacher(path, network)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_student_that_is_not_there_is_refused(tmp_path):
    state = under("teacher.backbone.", state_of(shaken("tiny_vit")))
    torch.save(state, path := tmp_path / "t.pth")
    with pytest.raises(PieceError, match=r"must hold a student"):
        load_teacher(path, "tiny_vit", branch="student")
    with pytest.raises(PieceError, match=r"`branch` must be.*'both'"):
        load_teacher(path, "tiny_vit", branch="both")
    with pytest.raises(PieceError, match=r"`preprocessing` must be.*'lab'"):
        load_teacher(path, "tiny_vit", preprocessing="lab")


def test_a_single_copy_is_taken_whatever_it_is_called(tmp_path):
    source = shaken("tiny_vit~imagenet")
    torch.save(under("student.backbone.", state_of(source)), path := tmp_path / "s.pth")
    loaded, found = load_teacher(path, "tiny_vit")
    assert (found.branch, same(loaded, source)) == ("student", True)


def test_code_in_a_file_is_refused_even_where_a_command_line_is_let_in(tmp_path):
    torch.save({"model": nn.Linear(2, 2), "args": Namespace(a=1)}, path := tmp_path / "code.pth")
    with pytest.raises(PieceError, match="tensors and nothing else"):
        load_teacher(path, "tiny_vit")


def test_half_precision_is_taken_up(tmp_path):
    source = shaken("tiny_vit_wide_grid~imagenet")
    torch.save({name: tensor.half() for name, tensor in state_of(source).items()}, path := tmp_path / "h.pth")
    loaded, _ = load_teacher(path, "tiny_vit")
    assert {tensor.dtype for tensor in loaded.net.state_dict().values()} == {torch.float32}
