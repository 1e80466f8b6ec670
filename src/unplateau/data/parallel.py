"""Work on many images at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

_T = TypeVar("_T")


def in_parallel(work: Callable[[int], _T], indices: Sequence[int]) -> list[_T]:
    """`work` on each index, on a thread a core; the first error in order is raised.

    Threads suffice: image codecs and numpy let go of the interpreter, and arrays need not be copied between processes.
    """
    with ThreadPoolExecutor(max_workers=min(16, os.cpu_count() or 1)) as pool:
        return list(pool.map(work, indices))
