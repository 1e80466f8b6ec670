"""One training in several processes: each has its part of every batch, and what needs all of the batch is gathered.

Axes: B images of a batch, C channels or outputs, H W pixels.
"""

from __future__ import annotations

from typing import Any, final

import torch
import torch.distributed as dist
from torch import Tensor, nn

from unplateau.errors import PieceError
from unplateau.types import Prediction


def part(batch: int, rank: int, processes: int) -> slice:
    """Which images of a batch belong to the process `rank` of so many."""
    return slice(batch * rank // processes, batch * (rank + 1) // processes)


def gathered(logits: Tensor) -> Tensor:
    """Logits of the whole batch (B, C, H, W) from each process' part, all of one size; in one process as they are.

    A loss such as Dice is no mean over images, so no mean of losses over parts gives it. The other parts have no
    gradient here; they have it in their own processes.
    """
    if not _several():
        return logits
    own = logits.float().contiguous()
    parts = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, own.detach())
    parts[dist.get_rank()] = own
    return torch.cat(parts)


def whole(answer: Any) -> Any:
    """The answer to the whole batch from each process' part; in one process as it is.

    Raises:
        PieceError: several processes, and an answer that is no map or row of logits.
    """
    if not _several():
        return answer
    if not isinstance(answer, Prediction):
        raise PieceError("`devices` must be 1 for boxes, whose loss takes one process; got more. Leave it out.")
    return Prediction(gathered(answer.logits))


@final
class GatheredBatchNorm(nn.BatchNorm2d):
    """Batch normalisation by the statistics of all processes' parts, on the CPU, where torch's own does not run."""

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) to the same, each channel with mean 0 and variance 1 over the whole batch."""
        if not self.training or not _several():
            return super().forward(images)
        values = images.float()
        mean = _Mean.apply(values.mean((0, 2, 3)))
        variance = _Mean.apply((values - mean[:, None, None]).square().mean((0, 2, 3)))
        self._follow(mean.detach(), variance.detach(), values.numel() // values.shape[1] * dist.get_world_size())
        scale = torch.rsqrt(variance + self.eps)
        scale = scale if self.weight is None else scale * self.weight
        shift = -mean * scale if self.bias is None else self.bias - mean * scale
        return (values * scale[:, None, None] + shift[:, None, None]).to(images.dtype)

    def _follow(self, mean: Tensor, variance: Tensor, count: int) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance * count / max(count - 1, 1), share)


def gather_statistics(model: nn.Module) -> None:
    """Replace each plain batch normalisation of the model by the gathered one with its weights."""
    for name, child in model.named_children():
        if type(child) is nn.BatchNorm2d:
            setattr(model, name, _gathering(child))
        else:
            gather_statistics(child)


def _gathering(norm: nn.BatchNorm2d) -> GatheredBatchNorm:
    made = GatheredBatchNorm(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
    made.load_state_dict(norm.state_dict())
    made.train(norm.training)
    for own, given in zip(made.parameters(), norm.parameters(), strict=True):
        own.requires_grad_(given.requires_grad)
    return made


@final
class _Mean(torch.autograd.Function):
    """Mean over processes; what comes back through it is the mean of what each of them sends back."""

    @staticmethod
    def forward(context: Any, value: Tensor) -> Tensor:
        return _mean(value)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        return _mean(gradients[0])


def _mean(value: Tensor) -> Tensor:
    total = value.detach().clone().contiguous()
    dist.all_reduce(total)
    return total / dist.get_world_size()


def _several() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
