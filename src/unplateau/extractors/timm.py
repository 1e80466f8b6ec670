"""Extractors from timm, the only file that imports it."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor, nn

from unplateau.errors import Doubt, PieceError, nearest
from unplateau.extractors.base import AbstractExtractor
from unplateau.extractors.cards import forbidding
from unplateau.extractors.normalise import Normalise
from unplateau.extractors.tensors import load, read_tensors
from unplateau.types import Characteristics, Level

TIMM = "timm/"
"""What the name of an architecture of timm begins with."""


@final
class TimmExtractor(AbstractExtractor):
    """A timm network that returns its feature maps, behind the normalisation that its weights expect.

    `architecture` is "timm/<name>", followed by ":0,1,2" when levels were chosen. `reach` is inf: no bound is claimed.
    """

    def __init__(self, net: nn.Module, architecture: str, *, channels_last: bool, pretrained: bool) -> None:
        super().__init__()
        info: Any = net.feature_info
        rules: Any = net.pretrained_cfg
        self.architecture = architecture
        self.normalise = Normalise(mean=tuple(rules["mean"]), std=tuple(rules["std"]))
        self.net = net
        self.channels_last = channels_last
        self.gives = tuple(Level(c, s) for c, s in zip(info.channels(), info.reduction(), strict=True))
        self.reach = float("inf")
        self.pretrained = pretrained

    def forward(self, images: Tensor) -> Characteristics:
        """Images (B, 3, H, W), RGB 0..1, to one feature map for each level of `gives`."""
        maps = self.net(self.normalise(images))
        levels = tuple(each.permute(0, 3, 1, 2) for each in maps) if self.channels_last else tuple(maps)
        return Characteristics(levels, tuple(level.stride for level in self.gives))


def from_timm(
    name: str, *, pretrained: bool = False, levels: tuple[int, ...] | None = None, weights: Path | None = None
) -> AbstractExtractor:
    """The timm network `name`, such as "resnet18" or "resnet18.a1_in1k".

    `levels` are timm's indices: pyramid levels of a convolutional network (0 = finest), blocks of a vision
    transformer; None takes timm's own choice. `pretrained` fetches the published weights or takes them from the
    cache; `weights` takes them from a local file instead.

    Raises:
        PieceError: no such network, it has no feature maps or no such level, it takes a single image size only,
            or its weights cannot be had.
    """
    _check_name(name)
    if pretrained or (weights is not None and "." in name):
        _warn_of_licence(name)
    net = _net(name, pretrained and weights is None, levels)
    if weights is not None:
        load(net, read_tensors(weights), f"timm/{name}")
    extractor = TimmExtractor(
        net,
        f"timm/{name}" + (":" + ",".join(map(str, levels)) if levels else ""),
        channels_last=_channels_last(net),
        pretrained=pretrained or weights is not None,
    )
    _prove(extractor, name)
    return extractor


def timm_names() -> list[str]:
    """Every network that timm can build, without the tags of its weights."""
    import timm

    names: list[str] = timm.list_models()
    return names


def _check_name(name: str) -> None:
    import timm

    bare, _, tag = name.partition(".")
    if not timm.is_model(bare):
        raise PieceError(f"`name` must be a timm network; got {name!r}: {nearest(bare, timm_names())}")
    tagged = timm.list_models(f"{bare}.*", pretrained=True)
    if tag and name not in tagged:
        raise PieceError(f"`name` must end in weights that timm knows; got {name!r}: {nearest(name, tagged)}")


def licence_of(name: str) -> str:
    """The licence of the weights that timm takes for `name`, "" where it states none."""
    import timm

    rules: Any = timm.get_pretrained_cfg(name)
    return str(rules.license or "") if rules is not None else ""


def _warn_of_licence(name: str) -> None:
    licence = licence_of(name)
    if forbidding(licence):
        warnings.warn(
            f"The weights of {name!r} are under {licence}, which forbids commercial use.", Doubt, stacklevel=3
        )


def _net(name: str, pretrained: bool, levels: tuple[int, ...] | None) -> nn.Module:
    import timm

    options: dict[str, Any] = {} if levels is None else {"out_indices": levels}
    if timm.get_pretrained_cfg_value(name, "fixed_input_size"):
        # Transformers are built for one size; this makes them resample their positions to the image.
        options["dynamic_img_size"] = True
    try:
        net: nn.Module = timm.create_model(name, pretrained=pretrained, features_only=True, **options)
    except TypeError as error:
        raise PieceError(f"{name!r} must take images of any size; timm builds it for one. Take another.") from error
    except (AssertionError, IndexError) as error:
        raise PieceError(f"`levels` must be feature maps of {name!r}; got {levels}: {error}. Leave it out.") from error
    except (OSError, RuntimeError) as error:
        raise (_no_weights if pretrained else _no_maps)(name, error) from error
    return net


def _no_maps(name: str, error: Exception) -> PieceError:
    return PieceError(f"{name!r} must give feature maps; timm says: {error}. Take another network.")


def _no_weights(name: str, error: Exception) -> PieceError:
    import timm

    rules: Any = timm.get_pretrained_cfg(name)
    hub = (rules.hf_hub_id or "") if rules is not None else ""
    source = f"model.safetensors of {hub.rstrip('/')!r}" if hub else "its weights file"
    return PieceError(
        f"The pretrained weights of {name!r} are neither in the cache nor to be fetched ({type(error).__name__}). "
        f"Fetch {source} where there is a network and give its path as `weights`."
    )


def _channels_last(net: nn.Module) -> bool:
    from timm.layers import Format

    # Some feature wrappers do not say: they are convolutional, with channels first.
    return getattr(net, "output_fmt", Format.NCHW) == Format.NHWC


def _prove(extractor: TimmExtractor, name: str) -> None:
    """Refuse a network whose maps are not what timm says, before anything is trained on them."""
    stride = max(level.stride for level in extractor.gives)
    height, width = 2 * stride, 3 * stride
    extractor.eval()
    try:
        with torch.no_grad():
            maps = extractor(torch.zeros(1, 3, height, width)).levels
    except (AssertionError, RuntimeError, ValueError) as error:
        raise PieceError(
            f"{name!r} must take images of any size divisible by {stride}; at {height}x{width} it says: {error}. "
            "Take another network."
        ) from error
    extractor.train()
    found = tuple(tuple(each.shape[1:]) for each in maps)
    promised = tuple((level.channels, height // level.stride, width // level.stride) for level in extractor.gives)
    if found != promised:
        raise PieceError(f"{name!r} must give maps {promised} at {height}x{width}; it gives {found}. Take another.")
