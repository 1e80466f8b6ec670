"""What is known of each extractor without building it: how it was pretrained, its levels, size and licence."""

from __future__ import annotations

from dataclasses import dataclass

from unplateau.types import Level

NONE, CLASSICAL, SUPERVISED, SELF, LANGUAGE, SEGMENTATION, AGGLOMERATED = (
    "none",
    "classical",
    "supervised",
    "self-supervised",
    "language-aligned",
    "segmentation-trained",
    "agglomerated",
)
KINDS = (NONE, CLASSICAL, SUPERVISED, SELF, LANGUAGE, SEGMENTATION, AGGLOMERATED)
"""Kinds of pretraining: none; a fixed filter bank; class labels; images alone; images with text; masks; several
teachers in one."""

OPEN = ("apache-2.0", "mit", "bsd-3-clause")
"""Licences that are known to allow commercial use without terms on what it is used for."""

FORBIDS = "cc-by-nc"
"""What a licence that forbids commercial use begins with."""

IMAGENET, HALF, OPENAI, GREY = "imagenet", "minus .5 over .5", "openai", "minus .45 over .25"
"""How images are normalised: ImageNet's mean and spread; to -1..1; those of OpenAI's CLIP; the rungs' fixed pair."""


@dataclass(frozen=True)
class Card:
    """An extractor: its kind of pretraining, one of `KINDS`, what it gives, how many parameters it has.

    `tag` names the published weights, "" where there are none to fetch; `source` is who can read them: timm, ourselves,
    one of the libraries that read a folder, or whoever made the user's own file. `licence` is that of the weights as
    timm or their page states it, "" where neither does.
    """

    kind: str
    levels: tuple[Level, ...]
    parameters: int
    licence: str
    preprocessing: str
    tag: str = ""
    source: str = "timm"

    @property
    def commercial(self) -> bool | None:
        """Whether the weights may be used commercially; None where their own terms must be read first."""
        if self.licence in OPEN:
            return True
        return False if forbidding(self.licence) else None

    @property
    def strides(self) -> tuple[int, ...]:
        """Input pixels a cell of each level, finest first."""
        return tuple(level.stride for level in self.levels)


def _pyramid(*channels: int, finest: int = 2) -> tuple[Level, ...]:
    return tuple(Level(each, finest << place) for place, each in enumerate(channels))


def _cells(channels: int, stride: int, count: int) -> tuple[Level, ...]:
    return (Level(channels, stride),) * count


RESNET, RESNET50 = _pyramid(64, 64, 128, 256, 512), _pyramid(64, 256, 512, 1024, 2048)
TINY, ATTO = _pyramid(96, 192, 384, 768, finest=4), _pyramid(40, 80, 160, 320, finest=4)
BASE = _cells(768, 16, 3)
FAMILIES = (Level(16, 1), Level(32, 2), Level(32, 4), Level(48, 8))
SQUEEZENET = (Level(64, 2), Level(128, 4), Level(256, 8), Level(512, 16))
HERE, FILE, OPEN_CLIP, TRANSFORMERS = "unplateau", "a file", "open_clip", "transformers"
IN_A_FOLDER = (OPEN_CLIP, TRANSFORMERS)
"""Who has weights that are read from a local folder alone."""

CARDS: dict[str, Card] = {
    "unet": Card(NONE, (Level(16, 1),), 1_527_776, "apache-2.0", GREY, source=HERE),
    "unet-8": Card(NONE, (Level(8, 1),), 383_024, "apache-2.0", GREY, source=HERE),
    "reach-33": Card(NONE, (Level(16, 1),), 86_944, "apache-2.0", GREY, source=HERE),
    "colour": Card(NONE, (Level(32, 1),), 2_336, "apache-2.0", GREY, source=HERE),
    "orderless-9-17": Card(NONE, (Level(32, 1),), 11_472, "apache-2.0", GREY, source=HERE),
    "families": Card(NONE, FAMILIES, 1_564_852, "apache-2.0", GREY, source=HERE),
    "filters": Card(CLASSICAL, (Level(11, 1), Level(11, 2), Level(11, 4)), 0, "apache-2.0", "none", source=HERE),
    "squeezenet1_1": Card(SUPERVISED, SQUEEZENET, 722_496, "", "caffe", source=FILE),
    "squeezenet1_1-imagenet": Card(SUPERVISED, SQUEEZENET, 722_496, "", IMAGENET, source=FILE),
    "mobilenetv3_small_100": Card(
        SUPERVISED, _pyramid(16, 16, 24, 48, 576), 927_008, "apache-2.0", IMAGENET, "lamb_in1k"
    ),
    "convnext_atto": Card(SUPERVISED, ATTO, 3_373_880, "apache-2.0", IMAGENET, "d2_in1k"),
    "efficientnet_b0": Card(SUPERVISED, _pyramid(16, 24, 40, 112, 320), 3_595_388, "apache-2.0", IMAGENET, "ra_in1k"),
    "vit_tiny_patch16_224": Card(SUPERVISED, _cells(192, 16, 4), 5_524_032, "apache-2.0", HALF, "augreg_in21k_ft_in1k"),
    "resnet18": Card(SUPERVISED, RESNET, 11_176_512, "apache-2.0", IMAGENET, "a1_in1k"),
    "resnet34": Card(SUPERVISED, RESNET, 21_284_672, "apache-2.0", IMAGENET, "a1_in1k"),
    "resnet50": Card(SUPERVISED, RESNET50, 23_508_032, "apache-2.0", IMAGENET, "a1_in1k"),
    "convnext_tiny": Card(SUPERVISED, TINY, 27_818_592, "apache-2.0", IMAGENET, "in12k_ft_in1k"),
    "convnextv2_atto.fcmae": Card(SELF, ATTO, 3_386_760, "cc-by-nc-4.0", IMAGENET, "fcmae"),
    "vit_small_patch16_dinov3": Card(SELF, _cells(384, 16, 3), 21_586_176, "dinov3-license", IMAGENET, "lvd1689m"),
    "vit_small_patch16_224.dino": Card(SELF, _cells(384, 16, 3), 21_664_896, "apache-2.0", IMAGENET, "dino"),
    "vit_small_patch14_dinov2": Card(SELF, _cells(384, 14, 4), 22_055_424, "apache-2.0", IMAGENET, "lvd142m"),
    "convnext_tiny.dinov3_lvd1689m": Card(SELF, TINY, 27_818_592, "dinov3-license", IMAGENET, "dinov3_lvd1689m"),
    "convnextv2_tiny.fcmae": Card(SELF, TINY, 27_864_960, "cc-by-nc-4.0", IMAGENET, "fcmae"),
    "vit_base_patch16_224.dino": Card(SELF, BASE, 85_797_120, "apache-2.0", IMAGENET, "dino"),
    "vit_base_patch16_224.mae": Card(SELF, BASE, 85_797_120, "cc-by-nc-4.0", IMAGENET, "mae"),
    "vit_base_patch14_dinov2": Card(SELF, _cells(768, 14, 3), 86_578_176, "apache-2.0", IMAGENET, "lvd142m"),
    "vit_xsmall_patch16_clip_224": Card(LANGUAGE, _cells(256, 16, 4), 8_145_408, "mit", OPENAI, "tinyclip_yfcc15m"),
    "vit_base_patch16_siglip_224": Card(LANGUAGE, BASE, 85_795_584, "apache-2.0", HALF, "v2_webli"),
    "vit_base_patch16_clip_224.openai": Card(LANGUAGE, BASE, 85_797_888, "apache-2.0", OPENAI, "openai"),
    "convnext_base.clip_laion2b": Card(
        LANGUAGE, _pyramid(128, 256, 512, 1024, finest=4), 87_564_416, "apache-2.0", OPENAI, "clip_laion2b"
    ),
    "clip/clip-vit-base-patch32": Card(
        LANGUAGE, (Level(512, 32),), 87_849_216, "", OPENAI, "openai/clip-vit-base-patch32", TRANSFORMERS
    ),
    "clip/CLIP-ViT-B-32-laion2B-s34B-b79K": Card(
        LANGUAGE, (Level(512, 32),), 87_849_216, "mit", OPENAI, "laion/CLIP-ViT-B-32-laion2B-s34B-b79K", OPEN_CLIP
    ),
    "sam2_hiera_tiny.fb_r896": Card(SEGMENTATION, TINY, 26_849_472, "apache-2.0", IMAGENET, "fb_r896"),
    "vit_base_patch16_radio_v3.c_radio": Card(
        AGGLOMERATED, BASE, 86_456_064, "nvidia-open-model-license", OPENAI, "c_radio"
    ),
}
"""The extractors by the name that `build_extractor` takes, by kind and then by size; a card of your own is one entry.
After "clip/" stands the folder into which its files were placed.

Any other network of timm has a name too: these are those whose pretraining tells them apart."""


def forbidding(licence: str) -> bool:
    """Whether a licence is known to forbid commercial use."""
    return licence.startswith(FORBIDS)
