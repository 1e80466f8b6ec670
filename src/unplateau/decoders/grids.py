"""Moving maps between grids."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from unplateau.types import Size


def upsample(maps: Tensor, size: Size) -> Tensor:
    """Maps (B, C, h, w) on the grid `size` = (H, W), bilinear; cells keep their place in the image."""
    if (maps.shape[-2], maps.shape[-1]) == tuple(size):
        return maps
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=False)
