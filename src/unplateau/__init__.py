"""unplateau: why the IoU of a segmentation stopped, and what each remedy would gain."""

from __future__ import annotations

from typing import Any

__all__ = [
    "Sample",
    "UnplateauError",
    "calibrate",
    "compare",
    "curve",
    "demo",
    "diagnose",
    "distil",
    "eyechart",
    "predict",
    "pretrain",
    "rank",
    "report",
    "train",
    "upgrade",
]

_WHERE = {
    "UnplateauError": "errors",
    "Sample": "types",
    "calibrate": "api",
    "compare": "api",
    "curve": "api",
    "demo": "story",
    "diagnose": "api",
    "distil": "api",
    "eyechart": "api",
    "predict": "api",
    "pretrain": "api",
    "rank": "api",
    "report": "api",
    "train": "api",
    "upgrade": "api",
}


def __getattr__(name: str) -> Any:
    """The verbs on first use: `import unplateau` alone does not load torch."""
    from importlib import import_module

    if name not in _WHERE:
        raise AttributeError(f"module 'unplateau' has no attribute {name!r}")
    return getattr(import_module(f"unplateau.{_WHERE[name]}"), name)
