"""Boxes: torchvision's FCOS (arXiv 1904.01355) on any extractor. Imported inside functions, for it loads slowly.

FCOS places no anchor boxes whose sizes would have to suit the data: each cell says whether a thing's middle lies in it
and how far the thing's four edges are. That suits any pyramid, also one of a single level.

Axes: B images, C channels or classes, h w cells, A places of all levels, M boxes of an image.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unplateau.decoders.base import AbstractDecoder
from unplateau.types import Candidates, Characteristics, Level, Size

if TYPE_CHECKING:
    from torchvision.models.detection.fcos import FCOS

FINEST = 4
"""Stride of the finest level that boxes are told from; finer ones are averaged down to it, for their cost."""

WIDTH, CONVOLUTIONS = 64, 2
"""Channels of the pyramid, and convolutions of the head before its last."""


@dataclass(frozen=True)
class Found:
    """The boxes found in one image: `classes` (M,) indices, `boxes` (M, 4) left, top, right, bottom in pixels,
    `scores` (M,) in 0..1, highest first."""

    classes: Tensor
    boxes: Tensor
    scores: Tensor


@final
class BoxDecoder(AbstractDecoder):
    """A feature pyramid over the levels, and on each of its maps the same small network: class, edges, centredness."""

    gives = "boxes"

    def __init__(self, reads: tuple[Level, ...], outputs: int, pyramid: nn.Module, net: FCOS) -> None:
        super().__init__()
        self.reads, self.outputs = reads, outputs
        self.standards = nn.ModuleList(nn.BatchNorm2d(level.channels, affine=False) for level in reads)
        self.pyramid = pyramid
        self.net = net

    def forward(self, characteristics: Characteristics, size: Size) -> Candidates:
        """Characteristics to candidates; `size` plays no part, for cells of a fixed stride say where they are."""
        stacks: dict[int, list[Tensor]] = {}
        for standard, maps, stride in zip(self.standards, characteristics.levels, characteristics.strides, strict=True):
            stacks.setdefault(_stride(stride), []).append(_coarser(standard(maps), stride))
        stacked = {str(stride): torch.cat(stacks[stride], dim=1) for stride in sorted(stacks)}
        maps_of = list(self.pyramid(stacked).values())
        said = self.net.head(maps_of)
        cells = [_cells(maps, stride) for maps, stride in zip(maps_of, sorted(stacks), strict=True)]
        counts = tuple(len(each) for each in cells)
        return Candidates(said["cls_logits"], said["bbox_regression"], said["bbox_ctrness"], torch.cat(cells), counts)

    def loss(self, candidates: Candidates, targets: Tensor) -> Tensor:
        """Focal loss of the classes, generalised IoU of the boxes, cross-entropy of the centredness, added up.

        `targets` (B, M, 5): index of the class, or -1 where there is no box, then the edges in pixels.
        """
        wanted = [
            {"boxes": rows[:, 1:], "labels": rows[:, 0].long()} for rows in (each[each[:, 0] >= 0] for each in targets)
        ]
        said = {
            "cls_logits": candidates.logits.float(),
            "bbox_regression": candidates.edges.float(),
            "bbox_ctrness": candidates.centred.float(),
        }
        parts = self.net.compute_loss(wanted, said, [candidates.cells] * len(wanted), list(candidates.counts))
        return torch.stack(list(parts.values())).sum()

    def found(self, candidates: Candidates, size: Size) -> list[Found]:
        """The boxes in each image, clipped to `size` = (H, W), of which each thing keeps the best alone."""
        split = list(candidates.counts)
        said = {
            "cls_logits": list(candidates.logits.float().split(split, dim=1)),
            "bbox_regression": list(candidates.edges.float().split(split, dim=1)),
            "bbox_ctrness": list(candidates.centred.float().split(split, dim=1)),
        }
        images = len(candidates.logits)
        cells = [list(candidates.cells.split(split))] * images
        kept = self.net.postprocess_detections(said, cells, [size] * images)
        return [Found(each["labels"], each["boxes"], each["scores"]) for each in kept]


def _coarser(maps: Tensor, stride: int) -> Tensor:
    """Maps (B, C, h, w) of a stride below `FINEST`, averaged over cells of that size; others as they are."""
    factor = _stride(stride) // stride
    return F.avg_pool2d(maps, factor, ceil_mode=True) if factor > 1 else maps


def _stride(stride: int) -> int:
    """The stride at which a level of this stride is read."""
    return stride * max(1, math.ceil(FINEST / stride))


def _cells(maps: Tensor, stride: int) -> Tensor:
    """Left, top, right and bottom (h w, 4) of each cell of a map (B, C, h, w), row by row, in pixels."""
    top, left = (torch.arange(side, device=maps.device, dtype=torch.float32) * stride for side in maps.shape[-2:])
    corner = torch.stack(torch.meshgrid(left, top, indexing="xy"), dim=-1).flatten(0, 1)
    return torch.cat([corner, corner + stride], dim=1)


def boxes(reads: tuple[Level, ...], outputs: int) -> AbstractDecoder:
    """FCOS for any levels, 64 channels wide."""
    from torchvision.models.detection.anchor_utils import AnchorGenerator
    from torchvision.models.detection.fcos import FCOS, FCOSHead
    from torchvision.ops import FeaturePyramidNetwork

    strides = sorted({_stride(level.stride) for level in reads})
    channels = [sum(level.channels for level in reads if _stride(level.stride) == stride) for stride in strides]
    # FCOS asks for a backbone and for anchors, of which only our own pieces are used: the extractor and the cells.
    stand_in = nn.Identity()
    stand_in.out_channels = WIDTH  # type: ignore[assignment]
    anchors = AnchorGenerator(tuple((stride,) for stride in strides), ((1.0,),) * len(strides))
    head = FCOSHead(WIDTH, 1, outputs, CONVOLUTIONS)
    net = FCOS(stand_in, outputs, anchor_generator=anchors, head=head, score_thresh=0.05, nms_thresh=0.6)
    return BoxDecoder(reads, outputs, FeaturePyramidNetwork(channels, WIDTH), net)
