"""One battery of promises over every extractor, then what a checkpoint file may and may not be."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from unplateau.errors import PieceError
from unplateau.extractors.base import AbstractExtractor
from unplateau.extractors.bounded import bounded
from unplateau.extractors.catalogue import EXTRACTORS, build_extractor
from unplateau.extractors.checkpoint import from_file
from unplateau.extractors.frozen import freeze
from unplateau.extractors.fused import fused
from unplateau.extractors.normalise import CAFFE_MEAN, IMAGENET_MEAN, IMAGENET_STD
from unplateau.extractors.squeezenet import PREPROCESSING, squeezenet
from unplateau.extractors.tensors import match, read_tensors
from unplateau.extractors.timm import TimmExtractor, from_timm

WEIGHTS = Path(os.environ.get("UNPLATEAU_WEIGHTS", Path(__file__).parents[2] / "shared" / "weights"))

# Too slow for a battery; the same code builds them as their smaller sisters.
HEAVY = {"resnet34", "resnet50", "convnext_tiny", "vit_small_patch14_dinov2"}

BUILDERS: dict[str, Callable[[], AbstractExtractor]] = {
    **{name: builder for name, builder in EXTRACTORS.items() if name not in HEAVY},
    "last block of a transformer": lambda: from_timm("test_vit", levels=(-1,)),
    "stride 14": lambda: from_timm("vit_small_patch14_dinov2", levels=(0,)),
    "channels last": lambda: from_timm("swin_tiny_patch4_window7_224", levels=(0, 1)),
    "starts at stride 1": lambda: from_timm("vgg11", levels=(0, 1, 2)),
    "fused": lambda: build_extractor("fused(reach-9 + squeezenet1_1)"),
    "fused, a stride between": lambda: fused((from_timm("vit_small_patch14_dinov2", levels=(0,)), bounded(5))),
}
LOCAL = ("resnet18", "convnext_atto", "mobilenetv3_small_100", "squeezenet1_1", "fused")


@pytest.fixture(scope="module")
def built() -> Callable[[str], AbstractExtractor]:
    """Every extractor once, from a fixed seed, in eval mode."""
    cache: dict[str, AbstractExtractor] = {}

    def get(name: str) -> AbstractExtractor:
        if name not in cache:
            torch.manual_seed(0)
            cache[name] = BUILDERS[name]()
        return cache[name].eval().requires_grad_(True)

    return get


def noise(height: int, width: int, images: int = 1) -> Tensor:
    return torch.rand(images, 3, height, width, generator=torch.Generator().manual_seed(1))


def side(extractor: AbstractExtractor) -> int:
    """The smallest side of at least 64 pixels that `extractor` takes."""
    return -(-64 // coarsest(extractor)) * coarsest(extractor)


def coarsest(extractor: AbstractExtractor) -> int:
    return max(level.stride for level in extractor.gives)


# ---- promises ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BUILDERS)
def test_gives_what_it_promises_and_the_same_twice(name, built):
    extractor = built(name)
    for height, width in ((2, 2), (1, 3)):
        images = noise(height * coarsest(extractor), width * coarsest(extractor), images=2)
        with torch.no_grad():
            first, second = extractor(images), extractor(images)
        assert first.strides == tuple(level.stride for level in extractor.gives)
        for level, maps, again in zip(extractor.gives, first.levels, second.levels, strict=True):
            cells = (images.shape[-2] // level.stride, images.shape[-1] // level.stride)
            assert tuple(maps.shape) == (2, level.channels, *cells)
            assert torch.isfinite(maps).all()
            assert torch.equal(maps, again)


@pytest.mark.parametrize("name", BUILDERS)
def test_levels_come_finest_first(name, built):
    strides = [level.stride for level in built(name).gives]
    assert strides == sorted(strides)


@pytest.mark.parametrize("name", BUILDERS)
def test_a_gradient_reaches_the_image_and_the_weights(name, built):
    extractor = built(name)
    images = noise(side(extractor), side(extractor)).requires_grad_()
    extractor.zero_grad()
    sum(maps.square().mean() for maps in extractor(images).levels).backward()
    assert images.grad is not None
    assert images.grad.abs().sum() > 0
    weights = list(extractor.parameters())
    assert not weights or any(each.grad is not None and each.grad.abs().sum() > 0 for each in weights)


@pytest.mark.parametrize("name", LOCAL)
def test_moving_the_image_by_a_stride_moves_the_cells(name, built):
    extractor = built(name)
    move = coarsest(extractor)
    images = noise(3 * move, 3 * move)
    with torch.no_grad():
        still = extractor(images).levels[0]
        moved = extractor(images.roll((move, move), dims=(2, 3))).levels[0]
    cells = move // extractor.gives[0].stride
    # Zero padding at the border is seen from further away than the border, so only the middle must agree.
    expected = still[..., cells // 2 : -3 * cells // 2, cells // 2 : -3 * cells // 2]
    found = moved[..., 3 * cells // 2 : -cells // 2, 3 * cells // 2 : -cells // 2]
    assert torch.corrcoef(torch.stack([expected.flatten(), found.flatten()]))[0, 1] > 0.95


@pytest.mark.parametrize("name", BUILDERS)
def test_frozen_stays_frozen_and_says_the_same(name, built):
    extractor = built(name)
    images = noise(side(extractor), side(extractor), images=2)
    with torch.no_grad():
        expected = extractor(images).levels
    frozen = freeze(extractor).train()
    assert not any(module.training for module in frozen.modules())
    assert not any(each.requires_grad for each in frozen.parameters())
    assert (frozen.gives, frozen.reach, frozen.pretrained) == (extractor.gives, extractor.reach, extractor.pretrained)
    found = frozen(images.requires_grad_()).levels
    assert not any(maps.requires_grad for maps in found)
    assert all(torch.equal(one, other) for one, other in zip(expected, found, strict=True))


# ---- normalisation -------------------------------------------------------------------------------------------


def seen_by(net: nn.Module, extractor: AbstractExtractor, colour: tuple[float, ...]) -> Tensor:
    """What `net` inside `extractor` gets as its first pixel (3,) when every pixel of the image has `colour`."""
    caught: list[Tensor] = []
    handle = net.register_forward_pre_hook(lambda _, inputs: caught.append(inputs[0]))
    with torch.no_grad():
        extractor.eval()(torch.tensor(colour).reshape(1, 3, 1, 1).expand(1, 3, 64, 64))
    handle.remove()
    return caught[0][0, :, 5, 5]


@pytest.mark.parametrize("name", ["resnet18", "test_vit", "vit_xsmall_patch16_clip_224"])
def test_timm_weights_see_the_colours_they_were_trained_on(name):
    extractor = from_timm(name)
    assert isinstance(extractor, TimmExtractor)
    mean, std = (torch.tensor(timm.get_pretrained_cfg_value(name, each)) for each in ("mean", "std"))
    assert torch.allclose(seen_by(extractor.net, extractor, tuple(mean.tolist())), torch.zeros(3), atol=1e-6)
    assert torch.allclose(seen_by(extractor.net, extractor, tuple((mean + std).tolist())), torch.ones(3), atol=1e-5)


def test_squeezenet_sees_bgr_minus_the_mean():
    extractor = squeezenet()
    r, g, b = CAFFE_MEAN
    colour = ((r + 1) / 255, (g + 2) / 255, (b + 3) / 255)
    # Padding follows the normalisation, so the border of zeros is a border of the mean colour.
    assert torch.allclose(seen_by(extractor.features[0], extractor, colour), torch.tensor([3.0, 2, 1]), atol=1e-3)


def test_squeezenet_of_torchvision_sees_its_own_normalisation():
    extractor = squeezenet(preprocessing="imagenet")
    colour = tuple(m + s for m, s in zip(IMAGENET_MEAN, IMAGENET_STD, strict=True))
    assert torch.allclose(seen_by(extractor.features[0], extractor, colour), torch.ones(3), atol=1e-5)


def test_unknown_preprocessing_is_refused():
    with pytest.raises(PieceError, match=r"caffe.*imagenet.*'none'"):
        squeezenet(preprocessing="none")


# ---- squeezenet: where its cells look --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def answers() -> list[tuple[int, Tensor]]:
    """For each level its stride, and how much its middle cell answers to a bright column at each x of 256 alone.

    Every kernel is flat, so that a response is centred where the cell looks.
    """
    extractor = squeezenet(preprocessing="imagenet").eval().requires_grad_(False).double()
    for each in extractor.parameters():
        # The bias keeps every rectifier open, in the dark and beside the border.
        each.fill_(1 / each[0].numel() if each.ndim == 4 else 10.0)
    columns = torch.eye(256, dtype=torch.double).reshape(256, 1, 1, 256).expand(256, 3, 16, 256)
    blank, lit = extractor(torch.zeros_like(columns[:1])), extractor(columns)
    change = [(one - none).abs().sum(1) for one, none in zip(lit.levels, blank.levels, strict=True)]
    return [(stride, each[:, 0, each.shape[2] // 2]) for stride, each in zip(lit.strides, change, strict=True)]


def test_squeezenet_cells_look_where_their_stride_says(answers):
    for stride, answer in answers:
        centre = (answer * torch.arange(256)).sum() / answer.sum()
        assert abs(centre - (128 + stride / 2 - 0.5)) <= 0.25 * stride + 1e-6


def test_squeezenet_reach_is_what_it_says(answers):
    assert int((answers[-1][1] > 1e-12).sum()) == squeezenet().reach


# ---- names ---------------------------------------------------------------------------------------------------


def test_heavy_names_of_the_catalogue_exist():
    assert set(EXTRACTORS) >= HEAVY
    assert all(timm.is_model(name) for name in HEAVY)


def test_a_timm_name_outside_the_catalogue_is_built():
    assert [level.stride for level in build_extractor("test_resnet").gives] == [2, 4, 8, 16, 32]


def test_levels_choose_the_maps():
    assert [level.stride for level in from_timm("test_resnet", levels=(1, 3)).gives] == [4, 16]


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: build_extractor("resnett18"), r"'resnett18'.*did you mean 'resnet18'"),
        (lambda: from_timm("convnext_ato"), r"'convnext_ato'.*'convnext_atto'"),
        (lambda: from_timm("resnet18.a1"), r"'resnet18.a1'.*'resnet18.a1_in1k'"),
        (lambda: from_timm("test_resnet", levels=(0, 7)), r"`levels`.*\(0, 7\)"),
        (lambda: from_timm("resmlp_12_224"), r"'resmlp_12_224' must take images of any size"),
        (lambda: build_extractor("squeezenet1_1", pretrained=True), r"'squeezenet1_1' are not fetched.*`weights`"),
    ],
)
def test_what_cannot_be_built_is_refused_in_one_sentence(build, says):
    with pytest.raises(PieceError, match=says):
        build()


def test_a_network_whose_maps_are_not_what_timm_says_is_refused(monkeypatch):
    real = timm.create_model

    def lying(*args, **options):
        net = real(*args, **options)
        net.feature_info.info[1]["num_chs"] = 7
        return net

    monkeypatch.setattr(timm, "create_model", lying)
    with pytest.raises(PieceError, match=r"'test_resnet' must give maps .*\(7, 16, 24\).*it gives"):
        from_timm("test_resnet")


def test_without_a_network_the_error_says_which_file_to_bring(monkeypatch):
    def offline(*_, **options):
        assert options["pretrained"]
        raise FileNotFoundError("not in the cache")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(PieceError, match=r"model.safetensors of 'timm/test_resnet.r160_in1k'.*`weights`"):
        from_timm("test_resnet", pretrained=True)


# ---- checkpoints ---------------------------------------------------------------------------------------------


def saved(tensors: dict[str, Tensor], path: Path, architecture: str = "") -> Path:
    contiguous = {name: each.contiguous() for name, each in tensors.items()}
    save_file(contiguous, path, metadata={"architecture": architecture} if architecture else None)
    return path


def whole(name: str) -> dict[str, Tensor]:
    """The state of the whole timm network `name` as timm publishes it, classifier included."""
    torch.manual_seed(5)
    state: dict[str, Tensor] = timm.create_model(name).state_dict()
    return state


def same(one: AbstractExtractor, other: AbstractExtractor) -> bool:
    images = noise(64, 64)
    with torch.no_grad():
        pairs = zip(one.eval()(images).levels, other.eval()(images).levels, strict=True)
        return all(torch.equal(left, right) for left, right in pairs)


def test_squeezenet_is_recognised_by_its_tensors(tmp_path):
    torch.manual_seed(3)
    original = squeezenet()
    path = saved(original.state_dict(), tmp_path / "any.safetensors")
    assert same(build_extractor(path), original)
    assert build_extractor(str(path)).pretrained
    assert not original.pretrained


def test_torchvisions_own_squeezenet_gets_its_own_normalisation(tmp_path):
    tensors = squeezenet().state_dict() | {"classifier.1.weight": torch.zeros(1000, 512, 1, 1)}
    extractor = from_file(saved(tensors, tmp_path / "tv.safetensors"))
    assert torch.equal(extractor.normalise.mean, PREPROCESSING["imagenet"]().mean)


@pytest.mark.parametrize("name", ["test_resnet", "test_convnext", "test_vit", "test_efficientnet"])
def test_a_published_timm_state_fills_the_feature_network(name, tmp_path):
    path = saved(whole(name), tmp_path / "net.safetensors", f"timm/{name}")
    loaded = from_file(path)
    assert loaded.pretrained
    assert not same(loaded, from_timm(name))
    found = match(loaded.net, read_tensors(path))
    assert found.share == 1.0
    assert found.missing == ()
    assert found.strays == ()
    assert found.unexpected != ()


def test_a_loaded_network_gives_what_the_saved_one_gives(tmp_path):
    original = from_timm("test_convnext")
    path = saved(original.state_dict(), tmp_path / "ours.safetensors", "timm/test_convnext")
    assert same(from_file(path), original)
    assert same(from_timm("test_convnext", weights=path), original)


def test_wrappers_are_seen_through_and_the_teacher_is_taken(tmp_path):
    student, teacher = whole("test_resnet"), {n: t + 1 for n, t in whole("test_resnet").items()}
    path = tmp_path / "dino.pth"
    nested = {
        each: {f"module.backbone.{n}": t for n, t in state.items()}
        for each, state in (("student", student), ("teacher", teacher))
    }
    torch.save({"epoch": 3, **nested}, path)
    loaded = from_file(path, architecture="timm/test_resnet")
    assert torch.equal(loaded.net.state_dict()["conv1.0.weight"], teacher["conv1.0.weight"])


def test_a_nearly_complete_file_is_taken_with_a_warning(tmp_path):
    tensors = whole("test_resnet")
    del tensors["layer1.0.bn1.bias"]
    path = saved(tensors, tmp_path / "net.safetensors", "timm/test_resnet")
    with pytest.warns(UserWarning, match=r"lacks 'layer1.0.bn1.bias'.*random"):
        from_file(path)


def test_a_deeper_network_of_the_same_kind_is_named(tmp_path):
    tensors = whole("test_resnet")
    deeper = tensors | {
        n.replace("layer1.0", "layer1.1"): t.clone() for n, t in tensors.items() if n.startswith("layer1.0")
    }
    path = saved(deeper, tmp_path / "net.safetensors", "timm/test_resnet")
    with pytest.warns(UserWarning, match=r"holds 'layer1.1.*does not use"):
        from_file(path)


def text(folder: Path, suffix: str) -> Path:
    path = folder / f"text{suffix}"
    path.write_text("these are not weights\n" * 20)
    return path


def cut(folder: Path, suffix: str) -> Path:
    path = folder / f"cut{suffix}"
    if suffix == ".safetensors":
        saved(squeezenet().state_dict(), path)
    else:
        torch.save(squeezenet().state_dict(), path)
    path.write_bytes(path.read_bytes()[:-5000])
    return path


def runs_code(folder: Path) -> Path:
    path = folder / "code.pt"
    torch.save({"model": nn.Linear(2, 2)}, path)
    return path


def other_shapes(folder: Path) -> Path:
    tensors = {n: torch.zeros(*t.shape, 1) if n.startswith("layer3") else t for n, t in whole("test_resnet").items()}
    return saved(tensors, folder / "shapes.safetensors", "timm/test_resnet")


def half(folder: Path) -> Path:
    tensors = {n: t for n, t in whole("test_resnet").items() if "layer4" not in n}
    return saved(tensors, folder / "half.safetensors", "timm/test_resnet")


BROKEN: dict[str, tuple[Callable[[Path], Path], str]] = {
    "missing": (lambda folder: folder / "no.safetensors", "nothing is at"),
    "folder": (lambda folder: folder, "a folder is at"),
    "other suffix": (lambda folder: text(folder, ".csv"), "must end in .safetensors"),
    "text": (lambda folder: text(folder, ".safetensors"), "must be a whole .safetensors file"),
    "text as pth": (lambda folder: text(folder, ".pth"), "must be a whole file of tensors"),
    "cut": (lambda folder: cut(folder, ".safetensors"), "must be a whole .safetensors file"),
    "cut pth": (lambda folder: cut(folder, ".pth"), "must be a whole file of tensors"),
    "code": (runs_code, "tensors and nothing else"),
    "empty": (lambda folder: saved({}, folder / "empty.safetensors"), "holds none"),
    "unknown": (lambda folder: saved({"a": torch.zeros(3)}, folder / "a.safetensors"), r"1 tensors, such as 'a'"),
    "other shapes": (other_shapes, r"tensors differ, first 'layer3"),
    "half": (half, r"at least 95% .* timm/test_resnet; it holds \d+ of \d+ tensors and lacks 'layer4"),
}


@pytest.mark.parametrize(("make", "says"), BROKEN.values(), ids=BROKEN)
def test_a_bad_checkpoint_is_refused_in_one_sentence(make, says, tmp_path):
    path = make(tmp_path)
    with pytest.raises(PieceError, match=says) as caught:
        from_file(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_architecture_that_is_not_timms_is_refused(tmp_path):
    path = saved({"a": torch.zeros(3)}, tmp_path / "a.safetensors")
    with pytest.raises(PieceError, match=r"`architecture`.*'resnet18'"):
        from_file(path, architecture="resnet18")


# ---- the weights that come with the project --------------------------------------------------------------------

SHIPPED = WEIGHTS / "squeezenet1_1_imagenet_features.safetensors"


@pytest.mark.skipif(not SHIPPED.exists(), reason=f"no weights file {SHIPPED.name}: set UNPLATEAU_WEIGHTS")
def test_shipped_weights_load_whole():
    extractor = build_extractor(SHIPPED)
    assert extractor.pretrained
    found = match(extractor, read_tensors(SHIPPED))
    assert (found.share, found.missing, found.unexpected) == (1.0, (), ())
    with torch.no_grad():
        maps = extractor.eval()(noise(64, 64)).levels
    assert all(each.std() > 1 for each in maps)
