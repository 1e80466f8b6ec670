"""From logits to scores."""

from __future__ import annotations

from torch import Tensor


def activated(logits: Tensor, exclusive: bool = True) -> Tensor:
    """Logits (B, C, ...) to scores in 0..1: a softmax where one of several classes holds, else a sigmoid each."""
    return logits.softmax(1) if exclusive and logits.shape[1] > 1 else logits.sigmoid()
