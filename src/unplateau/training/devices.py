"""What the machine can do."""

from __future__ import annotations

import ctypes
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from unplateau.errors import Doubt

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""Names of the two settings in glibc's malloc.h."""


def accelerator() -> torch.device:
    """The GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def native_bf16(device: str) -> bool:
    """Whether the hardware multiplies bf16 itself; elsewhere emulation would be slower than float32."""
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    able = torch.cpu.get_capabilities()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))


def out_of_memory(error: BaseException) -> bool:
    """Whether that is what an error says: of a GPU, or of the machine in the words of torch's own allocator."""
    said = str(error).lower()
    spoken = isinstance(error, RuntimeError) and ("out of memory" in said or "can't allocate memory" in said)
    return isinstance(error, torch.OutOfMemoryError) or spoken


def in_parts(work: Callable[[Tensor], Tensor], batch: Tensor) -> Tensor:
    """What `work` makes of a batch (B, ...), a row each: in halves, and halves of these, where memory does not hold it.

    For work that treats every image by itself, so that the answer is the same. Warns when a batch was parted.

    Raises:
        RuntimeError: not even a single image fits.
    """
    try:
        return work(batch)
    except RuntimeError as error:
        if len(batch) < 2 or not out_of_memory(error):
            raise
    # Outside the handler: its traceback holds the tensors that did not fit.
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    half = len(batch) // 2
    warnings.warn(f"{len(batch)} images at a time do not fit in memory: going on with {half}.", Doubt, stacklevel=2)
    return torch.cat([in_parts(work, part) for part in (batch[:half], batch[half:])])


@contextmanager
def hearing(handler: Any) -> Iterator[None]:
    """Within it `handler` takes Ctrl-C, where that is ours to decide: in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heard = signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, heard)


def keep_memory() -> None:
    """Let this process keep the memory that a training step frees, for the next step; does nothing outside glibc.

    By default each large block goes back to the system and comes again page by page: hundreds of thousands of page
    faults a minute, 8 to 20 % of the time of a small network on a CPU.
    """
    if sys.platform != "linux":
        return
    try:
        set_option = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    set_option(MMAP_THRESHOLD, 32 << 20)
    set_option(TRIM_THRESHOLD, 1 << 30)
