"""The page and the summary of a saved diagnosis: complete, self-contained, escaped, the same bytes each time."""

from __future__ import annotations

import base64
import copy
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from unplateau.errors import DataError, OutputError, UnplateauError
from unplateau.report import reading, summary, wording, write_report
from unplateau.report.canvas import apart
from unplateau.report.figures_run import law_unit
from unplateau.report.gains import gain_scale
from unplateau.types import Interval

SECTIONS = (
    "remedies",
    "scale",
    "waterfall",
    "ladder",
    "families",
    "learning_curve",
    "operating_point",
    "training",
    "findings",
    "worst",
    "reading",
    "data",
    "split",
    "warnings",
)

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)

HOSTILE = "<script>alert(1)</script>\"'&$x_1$\x1b[31m\ud800\u202e"


def around(mean: float, half: float) -> dict[str, float]:
    return {"mean": mean, "low": round(mean - half, 4), "high": round(mean + half, 4)}


def rung(name: str, family: str, reach: float | None, iou: float, **more: Any) -> dict[str, Any]:
    given = {"name": name, "family": family, "reach": reach, "iou": around(iou, 0.022), "step": None}
    return {**given, "control": False, "note": "", **more}


def step(name: str, start: float, gain: float, kind: str, half: float = 0.018) -> dict[str, Any]:
    return {"name": name, "start": start, "gain": around(gain, half), "kind": kind}


def finding(check: str, verdict: str, claim: str, **more: Any) -> dict[str, Any]:
    return {"check": check, "verdict": verdict, "claim": claim, "gain": None, "measured": {}, "examples": [], **more}


def epoch(step: int) -> dict[str, Any]:
    progress = 1 - 2 ** (-step / 90)
    wobble = 0.03 * ((step * step * 7919) % 13 / 13 - 0.5)
    return {
        "step": step,
        "train_loss": 0.72 - 0.55 * progress,
        "val_loss": 0.73 - 0.38 * progress + abs(wobble) + 0.00018 * step,
        "iou": 0.66 * progress + 2 * wobble,
        "best_iou": 0.70 * progress + wobble / 2,
        "best_threshold": 0.4 + wobble,
        "coverage": 0.35 + 0.52 * progress + 4 * wobble,
        "average_precision": None,
        "boundary_iou": 0.3 * progress,
        "class_iou": [0.7 * progress],
        "learning_rate": 1e-3,
        "gradient_norm": 1.1,
    }


PEOPLE: dict[str, Any] = {
    "version": 1,
    "unplateau": "0.1.0",
    "verdict": "The IoU stopped because the task asks what a thing is and the extractor was never taught to say it. "
    "A richer pretraining is predicted to add 0.074 IoU, more than any other single change.",
    "seconds": 431.7,
    "seed": 0,
    "data": {
        "path": "data/human",
        "images": 464,
        "groups": 232,
        "size": [96, 128],
        "native": [480, 640],
        "classes": ["person"],
        "binary": True,
        "positive_share": 0.178,
        "object_diameter": 27.0,
        "split": "By group, 70 % for training, 10 % to choose thresholds and stopping, 20 % to report; "
        "no group is in two parts.",
        "warnings": ["3 pairs of near-duplicate images lie in different groups.", "1 mask is empty: img_0311.png."],
    },
    "baseline": {
        "extractor": "resnet18",
        "decoder": "unet",
        "iou": 0.701,
        "interval": around(0.701, 0.027),
        "threshold": 0.42,
        "iou_at_half": 0.688,
        "best_iou": 0.704,
        "class_iou": {"person": 0.701},
        "epochs": [epoch(step) for step in range(20, 421, 20)],
    },
    "remedies": [
        {
            "name": "richer-pretraining",
            "gain": {"mean": 0.074, "low": 0.046, "high": 0.103},
            "cost": "one training run",
            "evidence": [
                "A frozen pretrained extractor with a light decoder reaches 0.770; the same network with random "
                "weights 0.590.",
                "Semantic demand is 38 % of the attainable IoU.",
            ],
        },
        {
            "name": "more-data",
            "gain": {"mean": 0.031, "low": 0.012, "high": 0.052},
            "cost": "new data",
            "evidence": ["The learning curve still rises: 0.732 is predicted at twice the images."],
        },
        {
            "name": "finer-resolution",
            "gain": {"mean": 0.012, "low": -0.006, "high": 0.031},
            "cost": "more compute",
            "evidence": ["Masks sent through the working grid and back keep an IoU of 0.968."],
        },
        {
            "name": "move-threshold",
            "gain": {"mean": 0.003, "low": 0.0, "high": 0.008},
            "cost": "minutes",
            "evidence": ["The chosen threshold 0.42 loses 0.003 against the best one."],
        },
        {
            "name": "rebalance",
            "gain": {"mean": -0.018, "low": -0.037, "high": 0.002},
            "cost": "one training run",
            "evidence": ["Class weights moved the coverage, not the ranking of the pixels."],
        },
    ],
    "families": {
        "textural": {"mean": 0.15, "low": 0.09, "high": 0.21},
        "geometric": {"mean": 0.09, "low": 0.03, "high": 0.15},
        "semantic": {"mean": 0.38, "low": 0.31, "high": 0.46},
    },
    "waterfall": [
        step("prior", 0.0, 0.33, "family"),
        step("colour", 0.33, 0.08, "family"),
        step("texture", 0.41, 0.07, "family"),
        step("geometry", 0.48, 0.03, "family"),
        step("context", 0.51, 0.08, "family"),
        step("semantics", 0.59, 0.18, "family"),
        step("label ceiling", 0.77, 0.09, "remainder", 0.03),
        step("resolution", 0.86, 0.032, "remainder", 0.004),
        step("shortage of data", 0.892, 0.041, "remainder", 0.02),
        step("unexplained", 0.933, 0.067, "remainder", 0.04),
    ],
    "ladder": [
        rung("prior", "prior", 0, 0.33, note="pixel position only"),
        rung("colour", "textural", 1, 0.41, step=around(0.08, 0.02)),
        rung("local-5", "textural", 5, 0.44, step=around(0.03, 0.02)),
        rung("geometry-14", "geometric", 14, 0.48, step=around(0.04, 0.02)),
        rung("geometry-32", "geometric", 32, 0.51, step=around(0.03, 0.02)),
        rung("context-68", "semantic", 68, 0.55, step=around(0.04, 0.02)),
        rung("context", "semantic", None, 0.59, step=around(0.04, 0.02)),
        rung("orderless", "textural", 14, 0.455, control=True, note="arrangement inside the window is lost"),
        rung("contour", "geometric", 32, 0.462, control=True, note="appearance removed"),
        rung("semantics", "semantic", None, 0.77, step=around(0.18, 0.03), note="resnet18, ImageNet, frozen"),
    ],
    "learning_curve": {
        "points": [
            {"groups": 20, "images": 40, "iou": around(0.571, 0.03)},
            {"groups": 40, "images": 81, "iou": around(0.619, 0.024)},
            {"groups": 81, "images": 162, "iou": around(0.663, 0.019)},
            {"groups": 162, "images": 325, "iou": around(0.701, 0.015)},
        ],
        "predicted": [
            {"factor": 2, "images": 650, "iou": {"mean": 0.732, "low": 0.713, "high": 0.753}},
            {"factor": 4, "images": 1300, "iou": {"mean": 0.758, "low": 0.724, "high": 0.796}},
        ],
        "law": {"ceiling": 0.90, "scale": 0.904, "exponent": 0.262},
    },
    "operating_point": {
        "thresholds": [round(0.02 * index, 2) for index in range(51)],
        "iou": [round(max(0.0, 0.704 - 1.35 * abs(0.02 * index - 0.46) ** 2.2), 4) for index in range(51)],
        "chosen": 0.42,
        "best": 0.46,
        "regret": {"mean": 0.003, "low": 0.0, "high": 0.008},
        "explained": 0.63,
    },
    "scale": [
        {"question": "data", "answer": "yes", "number": "Twice the images: 0.732.", "gain": around(0.031, 0.02)},
        {
            "question": "labels",
            "answer": "undetermined",
            "number": "One annotator a mask; two would agree at 0.86 to 0.94.",
            "gain": None,
        },
        {
            "question": "model",
            "answer": "no",
            "number": "The baseline fits its training part at 0.931.",
            "gain": around(0.004, 0.012),
        },
        {
            "question": "pretraining",
            "answer": "yes",
            "number": "Pretrained 0.770 against 0.590 at equal capacity.",
            "gain": around(0.074, 0.028),
        },
        {"question": "bug", "answer": "no", "number": "None of 8 tests fired.", "gain": None},
    ],
    "findings": [
        finding(
            "curve",
            "sound",
            "Training has converged; twice the steps would add nothing.",
            gain=around(-0.002, 0.006),
            measured={"kind": "converged", "gain_of_twice": around(-0.002, 0.006), "steps": 420},
        ),
        finding(
            "pretraining",
            "concern",
            "The task needs semantics that the extractor does not supply.",
            gain=around(0.074, 0.028),
            measured={
                "supply": {"semantic": 0.41, "geometric": 0.88, "textural": 0.93},
                "demand": {"semantic": around(0.38, 0.07)},
                "candidates": ["resnet18", "dino-s16"],
            },
            examples=["img_0042.png", "img_0198.png"],
        ),
        finding(
            "labels",
            "undetermined",
            "One annotation an image cannot tell doubt from error; label 20 images a second time.",
            measured={"boundary_offsets": [0.31, 0.9, 1.4, 0.2, 0.7, 0.5, 1.1, 0.8, 0.4, 0.6], "masks": 93},
        ),
        finding("mask_shift", "sound", "Masks sit on their images: the best shift is 0 px.", measured={"best": [0, 0]}),
    ],
    "worst": [
        {"name": "img_0198.png", "iou": 0.113, "file": "overlays/0.png"},
        {"name": "img_0042.png", "iou": 0.187, "file": "overlays/1.png"},
        {"name": "img_0377.png", "iou": 0.204, "file": "overlays/gone.png"},
    ],
}

MINIMAL: dict[str, Any] = {
    "version": 1,
    "unplateau": "0.1.0",
    "verdict": "The budget ended before the ladder. Nothing can be said yet.",
    "seconds": None,
    "seed": None,
    "data": {"path": "masks", "images": 12, "groups": None, "size": None, "object_diameter": None, "warnings": None},
    "baseline": {"iou": 0.38, "interval": None, "threshold": None, "epochs": None},
    "remedies": None,
    "families": None,
    "waterfall": [],
    "ladder": None,
    "learning_curve": None,
    "operating_point": None,
    "scale": None,
    "findings": [],
    "worst": None,
}
