"""What networks of bounded reach attain on the planted scenes: `python benchmarks/scenes_check.py [KIND ...]`.

Prints, for each kind and each network, the IoU at the best threshold on 60 scenes after 250 steps on 200 others.
One row takes some five minutes on one core.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unplateau.scenes import SCENES, scenes

STEPS, BATCH, RATE = 250, 16, 2e-3


def block(inputs: int, outputs: int, stride: int = 1, kernel: int = 3) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


def local(kernel: int) -> nn.Sequential:
    """Two convolutions of one kernel at full resolution: reach 1 or 5."""
    return nn.Sequential(block(3, 24, 1, kernel), block(24, 24, 1, kernel), block(24, 24, 1, 1), nn.Conv2d(24, 1, 1))


class UNet(nn.Module):
    """One level for each width, strides 1, 2, 4, ...; `pooled` adds the mean over the image at the coarsest."""

    def __init__(self, widths: Sequence[int], pooled: bool = False) -> None:
        super().__init__()
        pairs = list(pairwise(widths))
        self.stem = block(3, widths[0])
        self.down = nn.ModuleList(nn.Sequential(block(a, b, 2), block(b, b)) for a, b in pairs)
        self.up = nn.ModuleList(block(a + b, a) for a, b in reversed(pairs))
        self.pool = nn.Linear(widths[-1], widths[-1]) if pooled else None
        self.head = nn.Conv2d(widths[0], 1, 1)

    def forward(self, images: Tensor) -> Tensor:
        levels = [self.stem(images)]
        for down in self.down:
            levels.append(down(levels[-1]))
        deep = levels.pop()
        if self.pool is not None:
            deep = deep + self.pool(deep.mean((2, 3)))[:, :, None, None]
        for up in self.up:
            skip = levels.pop()
            deep = up(torch.cat([F.interpolate(deep, size=skip.shape[-2:]), skip], 1))
        return self.head(deep)


def networks() -> dict[str, nn.Module]:
    return {
        "1x1": local(1),
        "local 5": local(3),
        "unet2": UNet((16, 32)),
        "unet3": UNet((16, 32, 64)),
        "unet4": UNet((16, 32, 64, 96)),
        "whole": UNet((16, 32, 64, 128, 128, 128), pooled=True),
    }


def reach(net: nn.Module) -> int:
    """Side in pixels of the largest square of the input that one output pixel depends on (192 = all)."""
    net.eval()
    images = torch.rand(1, 3, 192, 192, requires_grad=True)
    logits = net(images)
    sides = []
    for at in range(80, 112):
        (slope,) = torch.autograd.grad(logits[0, 0, at, at], images, retain_graph=True)
        columns = slope[0].abs().amax((0, 1)).nonzero()
        sides.append(int(columns.max() - columns.min()) + 1)
    return max(sides)


def tensors(kind: str, count: int, seed: int) -> tuple[Tensor, Tensor]:
    found = scenes(kind, count, seed=seed)
    images = torch.from_numpy(np.stack([sample.image for sample in found])).permute(0, 3, 1, 2).float()
    return (images / 255 - 0.4) / 0.25, torch.from_numpy(np.stack([sample.mask for sample in found])).float()


def loss_of(logits: Tensor, masks: Tensor) -> Tensor:
    share = torch.sigmoid(logits)
    dice = (2 * (share * masks).sum() + 1) / (share.sum() + masks.sum() + 1)
    return F.binary_cross_entropy_with_logits(logits, masks) + 1 - dice


def fit(net: nn.Module, images: Tensor, masks: Tensor) -> None:
    net.train().to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(net.parameters(), RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=STEPS, pct_start=0.15)
    for _ in range(STEPS):
        batch = torch.randint(len(images), (BATCH,))
        flip = [-1] if torch.rand(()) < 0.5 else []
        with torch.autocast("cpu", torch.bfloat16):
            logits = net(images[batch].flip(flip).contiguous(memory_format=torch.channels_last))
        optimiser.zero_grad()
        loss_of(logits.float()[:, 0], masks[batch].flip(flip)).backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        schedule.step()


@torch.no_grad()
def best_iou(net: nn.Module, images: Tensor, masks: Tensor) -> float:
    net.eval()
    share = torch.sigmoid(net(images))[:, 0]
    chosen = ((share > threshold).float() for threshold in np.linspace(0.05, 0.95, 37))
    return max(float((each * masks).sum() / torch.maximum(each, masks).sum()) for each in chosen)


def main(kinds: Sequence[str]) -> None:
    torch.set_num_threads(1)
    for kind in kinds or SCENES:
        train, test = tensors(kind, 200, 0), tensors(kind, 60, 1)
        print(f"{kind}: all positive {float(test[1].mean()):.2f}", end="", flush=True)
        torch.manual_seed(0)
        for name, net in networks().items():
            width = reach(net)
            fit(net, *train)
            print(f" | {name}, reach {width}: {best_iou(net, *test):.2f}", end="", flush=True)
        print()


if __name__ == "__main__":
    main(sys.argv[1:])
